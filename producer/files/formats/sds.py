"""Describe the files of School Data Sync: those of version 1, and those of versions 2 and 2.1.

In version 1, `SIS ID` is the id of another thing in each file, and the files of students and
teachers have the same columns, so the name of a file decides. In 2.1, the file of roles says which
users are students. Every export names all enrollments. We enroll in the section or class.
"""

from producer.files.formats.base import Format, Members, Rule, Table
from producer.schemas import Kind

_ID = frozenset({"sis id", "id"})
_SCHOOL = frozenset({"school sis id", "school dfe number", "school id"})
_SECTION = frozenset({"section sis id", "section id"})
"""Columns of version 1; the second names are those of the United Kingdom."""

_SCHOOL_DETAILS = frozenset({
    "school number", "school nces_id", "grade low", "grade high", "principal sis id",
    "principal name",
})  # fmt: skip


def _people(name: str, kind: Kind | None, *file_names: str) -> Table:
    return Table(
        name=name,
        kind=kind,
        columns={
            "sis_id": ("sis id", "id"),
            "name": (("first name", "middle name", "last name"), "username"),
            "email": ("secondary email",),
        },
        required=frozenset({"username"}),
        any_of=(_ID, _SCHOOL),
        file_names=file_names,
        is_shared=True,
        is_staff=kind is None,
    )


def _members(name: str, kind: Kind | None, *file_names: str) -> Table:
    return Table(
        name=name,
        kind=kind,
        columns={"student_id": ("sis id", "id"), "course_id": ("section sis id", "section id")},
        required=frozenset(),
        any_of=(_SECTION, _ID),
        without=frozenset({"section name", "username"}),
        file_names=file_names,
        is_shared=True,
        is_staff=kind is None,
    )


SDS_1 = Format(
    name="sds-v1",
    title="School Data Sync v1",
    is_complete=True,
    tables=(
        _members(
            "enrollments", Kind.ENROLLMENTS, "studentenrollment.csv", "studentenrollments.csv"
        ),
        _members("teacher rosters", None, "teacherroster.csv", "teacherrosters.csv"),
        _people("students", Kind.STUDENTS, "student.csv", "students.csv"),
        _people("teachers", None, "teacher.csv", "teachers.csv"),
        Table(
            name="sections",
            kind=Kind.COURSES,
            columns={"sis_id": ("sis id", "id"), "title": ("section name", "course name")},
            required=frozenset({"section name"}),
            any_of=(_ID, _SCHOOL),
            file_names=("section.csv", "sections.csv"),
        ),
        Table(
            name="schools",
            kind=None,
            columns={},
            required=frozenset({"name"}),
            any_of=(_ID, _SCHOOL_DETAILS),
            file_names=("school.csv", "schools.csv"),
        ),
    ),
    by_name=True,
    passed_over=("school.csv", "schools.csv", "user.csv", "guardianrelationship.csv"),
    named_tables=(
        Table(
            name="schools",
            kind=None,
            columns={},
            required=frozenset({"name"}),
            any_of=(_ID,),
            without=frozenset({"email", "title"}),
            file_names=("school.csv", "schools.csv"),
        ),
    ),
)

# --- Versions 2 and 2.1 -----------------------------------------------------------------------

_NOT_ONEROSTER = frozenset({"status", "enableduser", "classtype", "roletype"})
_USER = {
    "sis_id": ("sourcedid",),
    "name": (("givenname", "middlename", "familyname"), "username"),
    "email": ("email",),
}

SDS_2 = Format(
    name="sds-v2",
    title="School Data Sync v2 and v2.1",
    is_complete=True,
    tables=(
        Table(
            name="enrollments",
            kind=Kind.ENROLLMENTS,
            columns={"student_id": ("usersourcedid",), "course_id": ("classsourcedid",)},
            required=frozenset({"classsourcedid", "usersourcedid", "role"}),
            without=_NOT_ONEROSTER | {"sourcedid"},
            file_names=("enrollments.csv",),
            rule=Rule(roles=("role",)),
            adds_members=("usersourcedid",),
        ),
        Table(
            name="students",
            kind=Kind.STUDENTS,
            columns=_USER,
            required=frozenset({"sourcedid", "username", "role"}),
            without=_NOT_ONEROSTER | {"usersourcedid"},
            file_names=("users.csv",),
            rule=Rule(roles=("role",)),
            members=Members.STUDENTS,
        ),
        Table(
            name="students",
            kind=Kind.STUDENTS,
            columns=_USER,
            required=frozenset({"sourcedid", "username"}),
            without=_NOT_ONEROSTER | {"usersourcedid", "role"},
            file_names=("users.csv",),
            members=Members.STUDENTS,
        ),
        Table(
            name="roles",
            kind=None,
            columns={},
            required=frozenset({"usersourcedid", "role"}),
            without=_NOT_ONEROSTER | {"classsourcedid", "sourcedid"},
            file_names=("roles.csv",),
            rule=Rule(roles=("role",), begin="rolestartdate", end="roleenddate"),
            adds_members=("usersourcedid",),
        ),
        Table(
            name="courses",
            kind=Kind.COURSES,
            columns={"sis_id": ("sourcedid",), "title": ("title", "code")},
            required=frozenset({"sourcedid", "orgsourcedid", "title"}),
            without=_NOT_ONEROSTER,
            file_names=("classes.csv",),
        ),
    ),
    by_name=True,
    passed_over=(
        "academicsessions.csv",
        "courses.csv",
        "demographics.csv",
        "orgs.csv",
        "relationships.csv",
        "userflags.csv",
    ),
)
