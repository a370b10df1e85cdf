"""Describe the files of a Clever export: one folder or archive for a district.

A file is recognized by its header; help pages and districts write names of files in their own ways.
Every export names all enrollments, and every line is about a student.
"""

from producer.files.formats.base import Format, Table
from producer.schemas import Kind

STUDENTS = Table(
    name="students",
    kind=Kind.STUDENTS,
    columns={
        "sis_id": ("student_id",),
        "name": (("first_name", "middle_name", "last_name"),),
        "email": ("student_email",),
    },
    required=frozenset({"school_id", "student_id", "last_name", "first_name"}),
    without=frozenset({"section_id"}),
    file_names=("students.csv",),
)

SECTIONS = Table(
    name="sections",
    kind=Kind.COURSES,
    columns={
        "sis_id": ("section_id",),
        "title": ("name", "section_name", "course_name", "course_number"),
    },
    required=frozenset({"school_id", "section_id", "teacher_id"}),
    without=frozenset({"student_id"}),
    file_names=("sections.csv",),
)

ENROLLMENTS = Table(
    name="enrollments",
    kind=Kind.ENROLLMENTS,
    columns={"student_id": ("student_id",), "course_id": ("section_id",)},
    required=frozenset({"school_id", "section_id", "student_id"}),
    without=frozenset({"teacher_id"}),
    file_names=("enrollments.csv",),
)

CLEVER = Format(
    name="clever",
    title="Clever",
    is_complete=True,
    tables=(
        ENROLLMENTS,
        STUDENTS,
        SECTIONS,
        Table(
            name="teachers",
            kind=None,
            columns={},
            required=frozenset({"school_id", "teacher_id", "last_name"}),
            is_staff=True,
            file_names=("teachers.csv",),
        ),
        Table(
            name="schools",
            kind=None,
            columns={},
            required=frozenset({"school_id", "school_name"}),
            file_names=("schools.csv",),
        ),
        Table(
            name="staff",
            kind=None,
            columns={},
            required=frozenset({"school_id", "staff_id"}),
            is_staff=True,
            file_names=("staff.csv", "admins.csv"),
        ),
    ),
)
