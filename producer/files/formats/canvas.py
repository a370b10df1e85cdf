"""Describe the SIS import files of Canvas, each alone or several in a zip archive.

We enroll in the section if a line names one, else in the course. A file is recognized by its
header, whatever its name is, as Canvas does.
"""

import re

from producer.files.formats.base import DROP, KEEP, PASS, Format, Members, Rule, Table
from producer.schemas import Kind

_CLEARED = frozenset({"<delete>"})
"""What Canvas clears a field with; here such a cell leaves the stored value as it is."""

_ROSTER = {
    "active": KEEP,
    "published": KEEP,
    "completed": KEEP,
    "concluded": KEEP,
    "suspended": KEEP,
    "deleted": PASS,
}

_STAFF = (
    "teach", "assistant", "aide", "tutor", "instructor", "mentor", "coach", "observer", "advis",
    "counsel", "worker", "staff", "service", "support", "success", "affairs", "manager", "admin",
    "coordinator", "designer", "grader", "facilitator", "proctor", "helper", "parent", "guardian",
)  # fmt: skip
"""Parts of the names of roles such as "Student Teacher", which are not those of students."""


def is_student_role(role: str) -> bool:
    """Return whether a role, folded, is that of a student; Canvas lets schools invent others.

    `studentview` is the test student of Canvas, whom a teacher uses to try a course.
    """
    rest = role.removeprefix("student")
    is_other = rest.startswith("view") or any(word in rest for word in _STAFF)
    return rest != role and not is_other and "ta" not in re.split(r"[^a-z]+", rest)


USERS = Table(
    name="students",
    kind=Kind.STUDENTS,
    columns={
        "sis_id": ("user_id",),
        "name": ("full_name", ("first_name", "last_name"), "short_name"),
        "email": ("email",),
    },
    required=frozenset({"user_id", "login_id"}),
    without=frozenset({"existing_user_id", "existing_integration_id", "existing_canvas_user_id"}),
    file_names=("users.csv",),
    rule=Rule(
        roles=("declared_user_type",), no_role="student", status="status", words=_ROSTER,
        no_status="active",
    ),
    cleared=_CLEARED,
    members=Members.NOT_STAFF,
)  # fmt: skip

COURSES = Table(
    name="courses",
    kind=Kind.COURSES,
    columns={"sis_id": ("course_id",), "title": ("long_name", "short_name")},
    required=frozenset({"course_id", "short_name"}),
    file_names=("courses.csv",),
    rule=Rule(status="status", words=_ROSTER, no_status="active"),
    cleared=_CLEARED,
    names_terms=("term_id",),
    own_end="end_date",
    may_be_open=True,
)

SECTIONS = Table(
    name="sections",
    kind=Kind.COURSES,
    columns={"sis_id": ("section_id",), "title": ("name",)},
    required=frozenset({"section_id", "name", "course_id"}),
    file_names=("sections.csv",),
    rule=Rule(status="status", words=_ROSTER, no_status="active"),
    cleared=_CLEARED,
    names_class=("course_id",),
    own_end="end_date",
    may_be_open=True,
)

ENROLLMENTS = Table(
    name="enrollments",
    kind=Kind.ENROLLMENTS,
    columns={"student_id": ("user_id",), "course_id": ("section_id", "course_id")},
    required=frozenset(),
    file_names=("enrollments.csv",),
    any_of=(
        frozenset({"user_id", "user_integration_id"}),
        frozenset({"course_id", "section_id"}),
        frozenset({"role", "role_id"}),
    ),
    rule=Rule(
        roles=("base_role_type", "role"),
        is_student=is_student_role,
        status="status",
        words={
            "active": KEEP, "deleted": DROP, "completed": DROP, "inactive": DROP,
            "deleted_last_completed": DROP,
        },
        begin="start_date",
        end="end_date",
        dates_need_both=True,
        ended_word="completed",
    ),
    adds_members=("user_id",),
)  # fmt: skip


TERMS = Table(
    name="terms",
    kind=None,
    columns={"sis_id": ("term_id",)},
    required=frozenset({"term_id", "name", "status"}),
    file_names=("terms.csv",),
    rule=Rule(
        # Such a line has the dates of one kind of enrollments in the term.
        roles=("date_override_enrollment_type",), no_role="student", is_student=is_student_role,
        status="status", words=_ROSTER, begin="start_date", end="end_date",
    ),
    is_terms=True,
    may_be_open=True,
)  # fmt: skip

CROSS_LISTINGS = Table(
    name="cross-listings",
    kind=None,
    columns={"sis_id": ("section_id",)},
    required=frozenset({"xlist_course_id", "section_id"}),
    file_names=("xlists.csv",),
    names_class=("xlist_course_id",),
    may_be_open=True,
)
"""The sections that have moved to another course: they are over if both courses are."""


def _passed_over(name: str, *columns: str, is_staff: bool = False) -> Table:
    required = frozenset(columns)
    return Table(name=name, kind=None, columns={}, required=required, is_staff=is_staff)


CANVAS = Format(
    name="canvas",
    title="Canvas SIS import",
    tables=(
        ENROLLMENTS,
        USERS,
        COURSES,
        SECTIONS,
        TERMS,
        _passed_over("accounts", "account_id", "parent_account_id"),
        CROSS_LISTINGS,
        _passed_over("changed ids", "old_id", "new_id", "type"),
        _passed_over("administrators", "user_id", "account_id", "role", is_staff=True),
        _passed_over("groups", "group_id", "name"),
        _passed_over("group members", "group_id", "user_id"),
        _passed_over("group categories", "group_category_id", "category_name"),
        _passed_over("logins", "user_id", "login_id"),
        _passed_over("observers", "observer_id", "student_id"),
    ),
)
