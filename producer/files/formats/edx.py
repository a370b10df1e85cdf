"""Describe the lists of Open edX, which look like many others and are read only by their name."""

from producer.files.formats.base import DROP, KEEP, Format, Rule, Table
from producer.schemas import Kind

_MODES = frozenset({
    "audit", "credit", "executive-education", "honor", "masters", "no-id-professional",
    "paid-bootcamp", "paid-executive-education", "professional", "student", "unpaid-bootcamp",
    "unpaid-executive-education", "verified",
})  # fmt: skip
"""The tracks in which students are enrolled. `staff` and the roles of a course team are not."""

EDX = Format(
    name="edx",
    title="Open edX",
    tables=(
        Table(
            name="enrollments of the registrar",
            kind=Kind.ENROLLMENTS,
            columns={"student_id": ("student_key",), "course_id": ("course_id",)},
            required=frozenset({"student_key", "status"}),
            rule=Rule(
                status="status", words={"active": KEEP, "inactive": DROP}, no_status="active"
            ),
        ),
        Table(
            name="enrollments",
            kind=Kind.ENROLLMENTS,
            columns={"student_id": ("user",), "course_id": ("course_id",)},
            required=frozenset({"user", "mode"}),
            rule=Rule(roles=("mode",), is_student=_MODES.__contains__, no_role="audit"),
        ),
    ),
    is_detected=False,
)
