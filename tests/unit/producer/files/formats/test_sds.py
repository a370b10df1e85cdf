"""Files of School Data Sync are read as they are, in versions 1, 2 and 2.1."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.errors import UnreadableFile
from producer.files.reader import open_source
from producer.schemas import Kind
from support.packages import (
    Table,
    encoded,
    opened,
    read_file,
    read_package,
    read_source,
    zipped_package,
)

VERSION_1: Mapping[str, Table] = {
    "School.csv": ["SIS ID,Name", "10,North"],
    "Section.csv": [
        (
            "SIS ID,School SIS ID,Section Name,Section Number,Term Name,Term StartDate,"
            "Term EndDate,Course SIS ID,Status"
        ),
        "C-1,10,Algebra,1,Y1,7/1/2017,6/1/2018,K-1,Active",
        "C-2,10,Biology,2,Y1,2017-07-01,2018-06-01,K-2,Active",
    ],
    "Student.csv": [
        "SIS ID,School SIS ID,Username,First Name,Last Name,Secondary Email,Password,Grade",
        "7,10,ada,Ada,Lovelace,ada@home.test,x,9",
        "08,10,alan,Alan,Turing,,x,9",
    ],
    "Teacher.csv": ["SIS ID,School SIS ID,Username,First Name,Last Name", "7,10,gh,Grace,Hopper"],
    "StudentEnrollment.csv": ["Section SIS ID,SIS ID", "C-1,7", "C-1,08", "C-2,7"],
    "TeacherRoster.csv": ["Section SIS ID,SIS ID", "C-1,T-7", "C-2,T-7"],
}
BRITISH: Mapping[str, Table] = {
    "School.csv": ["ID,Name", "10,North"],
    "Section.csv": ["ID,School DfE Number,Section Name", "C-1,10,Algebra", "C-2,10,Biology"],
    "Student.csv": [
        "ID,School DfE Number,Username,First Name,Last Name,Secondary Email",
        "7,10,ada,Ada,Lovelace,ada@home.test",
        "08,10,alan,Alan,Turing,",
    ],
    "Teacher.csv": ["ID,School DfE Number,Username,First Name,Last Name", "7,10,gh,Grace,Hopper"],
    "StudentEnrollment.csv": ["Section ID,ID", "C-1,7", "C-1,08", "C-2,7"],
    "TeacherRoster.csv": ["Section ID,ID", "C-1,T-7", "C-2,T-7"],
}
_ENROLLMENTS = [
    "classSourcedId,userSourcedId,role",
    "C-1,7,student",
    "C-1,08,Student",
    "C-2,7,student",
    "C-1,T-7,teacher",
    "C-2,9,teacher",
]
_CLASSES = [
    "sourcedId,orgSourcedId,title,sessionSourcedIds,courseSourcedId,code",
    "C-1,10,Algebra,Y1,K-1,A1",
    "C-2,10,Biology,Y1,K-2,B1",
]
_ORGS = ["sourcedId,name,type,parentSourcedId", "10,North,school,"]
VERSION_2: Mapping[str, Table] = {
    "orgs.csv": _ORGS,
    "classes.csv": _CLASSES,
    "enrollments.csv": _ENROLLMENTS,
    "users.csv": [
        "sourcedId,orgSourcedIds,givenName,familyName,username,password,role,grade,email",
        "7,10,Ada,Lovelace,ada,x,student,9,ada@home.test",
        "08,10,Alan,Turing,alan,x,Student,9,",
        "T-7,10,Grace,Hopper,gh,x,teacher,,",
    ],
}
VERSION_2_1: Mapping[str, Table] = {
    "orgs.csv": _ORGS,
    "classes.csv": _CLASSES,
    "enrollments.csv": _ENROLLMENTS,
    "users.csv": [
        "sourcedId,username,givenName,familyName,password,activeDirectoryMatchId,email,phone,sms",
        "7,ada,Ada,Lovelace,x,,ada@home.test,,",
        "08,alan,Alan,Turing,x,,,,",
        "T-7,gh,Grace,Hopper,x,,,,",
    ],
    "roles.csv": [
        (
            "userSourcedId,orgSourcedId,role,sessionSourcedId,grade,isPrimary,roleStartDate,"
            "roleEndDate"
        ),
        "7,10,student,Y1,9,true,,",
        "T-7,10,teacher,Y1,,true,2017-07-01,",
    ],
}
SMALLEST: Mapping[str, Table] = {
    "orgs.csv": ["sourcedId,name,type", "10,North,school"],
    "classes.csv": ["sourcedId,orgSourcedId,title", "C-1,10,Algebra", "C-2,10,Biology"],
    "enrollments.csv": _ENROLLMENTS,
    "users.csv": ["sourcedId,username,givenName,familyName,email",
                  "7,ada,Ada,Lovelace,ada@home.test",
                  "08,alan,Alan,Turing,", "T-7,gh,Grace,Hopper,"],
    "roles.csv": ["userSourcedId,orgSourcedId,role", "7,10,student", "08,10,student",
                  "T-7,10,staff"],
}  # fmt: skip
VARIANTS = {
    "v1": VERSION_1,
    "v1 of the United Kingdom": BRITISH,
    "v2": VERSION_2,
    "v2.1": VERSION_2_1,
    "v2.1 with the required columns": SMALLEST,
}
PAIRS = {("7", "C-1"): 2, ("08", "C-1"): 3, ("7", "C-2"): 4}


@pytest.mark.parametrize("files", VARIANTS.values(), ids=VARIANTS)
def test_students_alone_are_read_from_every_version(
    tmp_path: Path, files: Mapping[str, Table]
) -> None:
    read = read_package(zipped_package(files, tmp_path / "export.zip"))
    assert read["students"].roster == [
        {"sis_id": "7", "name": "Ada Lovelace", "email": "ada@home.test"},
        {"sis_id": "08", "name": "Alan Turing"},
    ]
    courses = read.get("sections") or read["courses"]
    assert [record["title"] for record in courses.roster] == ["Algebra", "Biology"]
    assert read["enrollments"].enrolled == PAIRS
    assert not any(file.refused or file.dropped for file in read.values())
    assert len(read) == 3


@pytest.mark.parametrize("files", VARIANTS.values(), ids=VARIANTS)
def test_files_that_are_not_needed_cause_no_notice(
    tmp_path: Path, files: Mapping[str, Table]
) -> None:
    with opened(zipped_package(files, tmp_path / "export.zip")) as package:
        assert list(package.notices) == []
        assert package.title.startswith("School Data Sync v")


def test_other_roles_are_counted(tmp_path: Path) -> None:
    read = read_package(zipped_package(VERSION_2, tmp_path / "export.zip"))["enrollments"]
    assert read.skipped == 2
    assert any("2 'teacher'" in notice for notice in read.notices)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    files=st.sampled_from(list(VARIANTS.values())),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    folder=st.sampled_from(["", "SDS export/"]),
    change=st.sampled_from([str, str.upper, str.lower]),
)
def test_every_form_gives_the_same(
    tmp_path: Path,
    files: Mapping[str, Table],
    encoding: str,
    line_end: str,
    delimiter: str,
    folder: str,
    change: type,
) -> None:
    written = {
        folder + change(name): [line.replace(",", delimiter) for line in (change(head), *lines)]
        for name, (head, *lines) in files.items()
    }
    path = zipped_package(written, tmp_path / "form.zip", encoding=encoding, line_end=line_end)
    read = read_package(path)
    assert read["enrollments"].enrolled == PAIRS
    assert [record["sis_id"] for record in read["students"].roster] == ["7", "08"]


# --- Files of version 1 without their package --------------------------------------------------


def test_a_file_of_version_1_is_read_by_its_name(tmp_path: Path) -> None:
    for name in ("StudentEnrollment.csv", "STUDENTENROLLMENT.CSV", "refused-studentenrollment.csv"):
        path = tmp_path / name
        path.write_bytes(encoded(VERSION_1["StudentEnrollment.csv"]))
        assert read_source(open_source(path, None, {})).enrolled == PAIRS


def test_teachers_are_never_enrolled_as_students(tmp_path: Path) -> None:
    for name in ("TeacherRoster.csv", "Teacher.csv"):
        path = tmp_path / name
        path.write_bytes(encoded(VERSION_1[name]))
        with pytest.raises(UnreadableFile, match=r"holds teacher.* which are not needed here"):
            open_source(path, None, {})


@pytest.mark.parametrize("outer", ["StudentEnrollment.zip", "students.zip", "export.zip"])
@pytest.mark.parametrize("name", ["TeacherRoster.csv", "Teacher.csv"])
def test_the_name_of_the_archive_makes_no_student_of_a_teacher(
    tmp_path: Path, outer: str, name: str
) -> None:
    path = zipped_package({name: VERSION_1[name]}, tmp_path / outer)
    with pytest.raises(UnreadableFile, match=r"holds teacher.* which are not needed here"):
        open_source(path, None, {})


@pytest.mark.parametrize(
    "name", ["StudentEnrollment or TeacherRoster.csv", "teachers, student.csv"]
)
def test_a_name_that_fits_two_files_does_not_decide(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    table = "StudentEnrollment.csv" if "Enrollment" in name else "Student.csv"
    path.write_bytes(encoded(VERSION_1[table]))
    with pytest.raises(UnreadableFile, match="only the name of the file can tell"):
        open_source(path, None, {})


@pytest.mark.parametrize("name", ["StudentEnrollment.csv", "TeacherRoster.csv", "Student.csv"])
@pytest.mark.parametrize("files", [VERSION_1, BRITISH])
def test_a_file_that_only_its_name_can_tell_is_refused_without_it(
    tmp_path: Path, files: Mapping[str, Table], name: str
) -> None:
    with pytest.raises(UnreadableFile, match=r"only the name of the file can tell .*; submit it"):
        read_file(encoded(files[name]), tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Student (1).csv", None),
        ("Copy of Student.csv", None),
        ("Student_2026.csv", None),
        ("Teacher (2).csv", "holds teachers"),
        ("nonstudents.csv", "only the name of the file can tell"),
        ("student teachers.csv", "only the name of the file can tell"),
    ],
)
def test_a_copy_keeps_its_name_and_a_word_within_another_is_none(
    tmp_path: Path, name: str, words: str | None
) -> None:
    path = tmp_path / name
    path.write_text("SIS ID,School SIS ID,Username\nP1,1,p1\n")
    if words is None:
        assert open_source(path, None, {}).kind is Kind.STUDENTS
    else:
        with pytest.raises(UnreadableFile, match=words):
            open_source(path, None, {})


def test_schools_are_no_students(tmp_path: Path) -> None:
    path = tmp_path / "schools of the district.csv"
    path.write_text("SIS ID,Name,School Number,Grade Low\n1,North,7,1\n")
    with pytest.raises(UnreadableFile, match="holds schools"):
        open_source(path, None, {})


@pytest.mark.parametrize("name", ["School.csv", "schools.csv", "School (1).csv", "my-school.csv"])
@pytest.mark.parametrize("header", ["SIS ID,Name", "ID,Name", "SIS ID,Name,Zone"])
def test_a_short_list_of_schools_is_no_roster_of_students(
    tmp_path: Path, name: str, header: str
) -> None:
    path = tmp_path / name
    path.write_bytes(encoded([header, "1,North" + ",x" * (header.count(",") - 1)]))
    with pytest.raises(UnreadableFile, match="holds schools of School Data Sync"):
        open_source(path, None, {})


def test_under_another_name_such_columns_are_our_own_with_a_notice(tmp_path: Path) -> None:
    path = tmp_path / "roster.csv"
    path.write_bytes(encoded(["SIS ID,Name", "1,Ada"]))
    source = open_source(path, None, {})
    assert source.kind is Kind.STUDENTS
    assert any("schools of School Data Sync" in notice for notice in source.notices)
    assert not list(open_source(path, Kind.STUDENTS, {}).notices)


WRONG_HEADERS: dict[str, tuple[Table, str]] = {
    "a column is missing": (
        ["classSourcedId,role", "C-1,student"],
        r"lacks columns that this file .* has: usersourcedid\. Export it again",
    ),
    "a column too many": (
        ["classSourcedId,userSourcedId,role,status", "C-1,7,student,active"],
        r"has columns that this file .* never has: status\. Remove them, or name the system",
    ),
    "another file": (
        VERSION_2["users.csv"],
        r"lacks .* has: classsourcedid, usersourcedid, and has those of its students\. Export",
    ),
}


@pytest.mark.parametrize(("lines", "words"), WRONG_HEADERS.values(), ids=WRONG_HEADERS)
def test_a_wrong_header_in_a_package_is_described_as_it_is(
    tmp_path: Path, lines: list[str], words: str
) -> None:
    path = zipped_package({**VERSION_2, "enrollments.csv": lines}, tmp_path / "export.zip")
    with pytest.raises(UnreadableFile, match=words):
        read_package(path)
