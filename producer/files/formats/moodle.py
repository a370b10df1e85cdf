"""Describe the lists of Moodle: the flat file of enrollments, and the upload of users.

A line of a flat file adds or removes an enrollment, and the later line wins. A line of an upload of
users names the courses of one user.
"""

from producer.files.formats.base import DROP, KEEP, Format, Rule, Shape, Table
from producer.schemas import Kind

_COLUMNS = ("operation", "role", "user idnumber", "course idnumber", "start", "end")

MOODLE_FLAT_FILE = Format(
    name="moodle-flatfile",
    title="Moodle flat file",
    tables=(
        Table(
            name="enrollments",
            kind=Kind.ENROLLMENTS,
            columns={"student_id": ("user idnumber",), "course_id": ("course idnumber",)},
            # The file itself has no header; that of its refused lines has these names.
            required=frozenset(_COLUMNS[:4]),
            rule=Rule(
                roles=("role",),
                status="operation",
                words={"add": KEEP, "del": DROP},
                begin="start",
                end="end",
                no_dates=frozenset({"0"}),
            ),
            shape=Shape.OPERATION,
            unnamed=_COLUMNS,
            fewest=4,
            first_words=frozenset({"add", "del"}),
        ),
    ),
)

MOODLE_USERS = Format(
    name="moodle-users",
    title="Moodle upload of users",
    tables=(
        Table(
            name="enrollments",
            kind=Kind.ENROLLMENTS,
            columns={"student_id": ("idnumber", "username"), "course_id": ("course1",)},
            required=frozenset({"username", "course1"}),
            shape=Shape.NUMBERED,
        ),
    ),
)
