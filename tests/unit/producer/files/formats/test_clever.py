"""A Clever export is read as it is: its students, its sections, and who is in which."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.errors import UnreadableFile
from support.packages import encoded, opened, read_file, read_package, zipped_package

ENROLLMENTS = [
    "School_id,Section_id,Student_id",
    "10,S-1,0007",
    "10,S-1,0008",
    "10,S-2,0007",
]
SECTIONS = [
    (
        "School_id,Section_id,Teacher_id,Teacher_2_id,Name,Grade,Course_name,Course_number,Period,"
        "Term_name,Term_start,Term_end"
    ),
    'S,S-1,T-1,,"Algebra, part 1",9,Algebra,101,1,Y1,8/1/19,6/1/20',
    "S,S-2,T-1,T-2,,9,Biology,102,2,Y1,8/1/19,6/1/20",
]
STUDENTS = [
    (
        "School_id,Student_id,Student_number,State_id,Last_name,Middle_name,First_name,Grade,Gender,"
        "DOB,Student_email,Student_username,Student_password"
    ),
    "10,0007,,,Lovelace,,Ada,9,F,1/2/08,ada@school.test,ada,secret",
    "10,0008,,,Turing,Mathison,Alan,9,M,12/31/07,,alan,secret",
]
TEACHERS = ["School_id,Teacher_id,Last_name,First_name", "10,T-1,Hopper,Grace"]
SCHOOLS = ["School_id,School_name,School_number", "10,North,1"]
EXPORT = {
    "schools.csv": SCHOOLS,
    "students.csv": STUDENTS,
    "teachers.csv": TEACHERS,
    "sections.csv": SECTIONS,
    "enrollments.csv": ENROLLMENTS,
}
PAIRS = {("0007", "S-1"): 2, ("0008", "S-1"): 3, ("0007", "S-2"): 4}


def test_students_are_enrolled_in_their_sections(tmp_path: Path) -> None:
    read = read_package(zipped_package(EXPORT, tmp_path / "export.zip"))
    assert list(read) == ["students", "sections", "enrollments"]
    assert read["students"].roster == [
        {"sis_id": "0007", "name": "Ada Lovelace", "email": "ada@school.test"},
        {"sis_id": "0008", "name": "Alan Mathison Turing"},
    ]
    assert read["sections"].roster == [
        {"sis_id": "S-1", "title": "Algebra, part 1"},
        {"sis_id": "S-2", "title": "Biology"},
    ]
    assert read["enrollments"].enrolled == PAIRS
    assert not any(file.refused or file.dropped or file.skipped for file in read.values())


def test_a_term_that_is_over_drops_no_student(tmp_path: Path) -> None:
    """An export names the active students only, whatever its terms say."""
    read = read_package(zipped_package(EXPORT, tmp_path / "export.zip"))
    assert read["enrollments"].dropped == {}


@pytest.mark.parametrize("name", ["{}", "District 7/{}"])
@pytest.mark.parametrize("change", [str.upper, str.title])
def test_names_of_files_and_folders_may_differ(
    tmp_path: Path, name: str, change: type[str]
) -> None:
    files = {name.format(change(file)): lines for file, lines in EXPORT.items()}
    assert read_package(zipped_package(files, tmp_path / "e.zip"))["enrollments"].enrolled == PAIRS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    order=st.permutations(range(3)),
    change=st.sampled_from([str, str.upper, str.lower]),
)
def test_every_form_and_order_of_columns_gives_the_same(
    tmp_path: Path, encoding: str, line_end: str, delimiter: str, order: list[int], change: type
) -> None:
    header, *rows = (line.split(",") for line in ENROLLMENTS)
    table = [[change(name) for name in header], *rows]
    lines = [delimiter.join(row[at] for at in order) for row in table]
    read = read_file(encoded(lines, encoding, line_end), tmp_path)
    assert read.enrolled == PAIRS
    assert read.refused == []


def test_the_file_of_teachers_is_not_read_as_students(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="holds teachers of Clever, which are not needed"):
        read_file(encoded(TEACHERS), tmp_path)


def test_an_unknown_file_is_named(tmp_path: Path) -> None:
    files = {**EXPORT, "lunch.csv": ["a,b", "1,2"]}
    with opened(zipped_package(files, tmp_path / "export.zip")) as package:
        assert any("lunch.csv" in notice for notice in package.notices)
        assert package.title == "Clever"


def test_an_empty_cell_refuses_its_line_by_the_name_of_the_column(tmp_path: Path) -> None:
    read = read_file(encoded([*ENROLLMENTS, "10,S-2,"]), tmp_path)
    assert read.enrolled == PAIRS
    assert read.refused == [(5, "Student_id: the cell is empty; fill it in")]


@pytest.mark.parametrize("word", ["tobedeleted", "Inactive", "active"])
def test_a_status_that_such_an_export_never_has_is_noticed(tmp_path: Path, word: str) -> None:
    table = ["School_id,Student_id,Section_id,Status", "1,u-1,s-1,active", f"1,u-2,s-1,{word}"]
    read = read_file(encoded(table), tmp_path)
    assert read.enrolled == {("u-1", "s-1"): 2, ("u-2", "s-1"): 3}
    notices = [text for text in read.notices if "which is not read" in text]
    if word == "active":
        assert notices == []
    else:
        (notice,) = notices
        assert f"line 3 has '{word}' in the column 'Status'" in notice
        assert notice.endswith("If that is not meant, remove such lines.")
