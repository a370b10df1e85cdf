"""Lists of Moodle are read as they are: a flat file of operations, and an upload of users."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.errors import UnreadableFile
from producer.files.reader import open_source
from producer.publishing.chunking import SourceRecord
from support.packages import encoded, read_file

FLAT = [
    "add,student,007,LOGIC",
    "add, student, 8, LOGIC, 0, 0",
    "del,student,8,LOGIC",
    "add,editingteacher,T1,LOGIC",
    "add,student,9,LOGIC,1000000000,1000086400",
    "add,student,9,SETS,4102444800",
    "ADD,Student,10,SETS,0",
]


def requests(source: Any) -> list[tuple[int, str, str, str]]:
    """Return the line, what it asks for, the student and the course of each request."""
    found = []
    for entry in source.records():
        assert isinstance(entry, SourceRecord)
        record = entry.record
        ((field, (course,)),) = [item for item in record.items() if item[0].endswith("course_ids")]
        action = "drop" if field.startswith("drop") else "enroll"
        found.append((entry.lines[0], action, record["student_id"], course))
    return found


EXPECTED = [
    (1, "enroll", "007", "LOGIC"),
    (2, "enroll", "8", "LOGIC"),
    (3, "drop", "8", "LOGIC"),
    (5, "drop", "9", "LOGIC"),
    (6, "enroll", "9", "SETS"),
    (7, "enroll", "10", "SETS"),
]


def test_a_flat_file_is_a_list_of_operations(tmp_path: Path) -> None:
    path = tmp_path / "enrol.txt"
    path.write_bytes(encoded(FLAT))
    source = open_source(path, None, {})
    assert source.ordered
    assert requests(source) == EXPECTED
    assert source.layout.account.skipped == 1
    notices = " ".join(source.notices)
    assert "1 'editingteacher'" in notices
    assert "1 line begins after today; the student is enrolled from now on" in notices
    assert "1 'del', 1 'ended'" in notices


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    quote=st.sampled_from(["", '"', "'"]),
    space=st.sampled_from(["", " "]),
    blank=st.booleans(),
)
def test_every_form_of_a_flat_file_gives_the_same(
    tmp_path: Path,
    encoding: str,
    line_end: str,
    delimiter: str,
    quote: str,
    space: str,
    blank: bool,
) -> None:
    lines = [
        f"{delimiter}{space}".join(f"{quote}{cell.strip()}{quote}" for cell in line.split(","))
        for line in FLAT
    ]
    path = tmp_path / "enrol.txt"
    path.write_bytes(encoded([*[""] * blank, *lines], encoding, line_end))
    expected = [(line + blank, *others) for line, *others in EXPECTED]
    assert requests(open_source(path, None, {})) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("add,student,1", "the line has 3 cells, but needs 4 to 6; check the separators"),
        ("add,student,1,C,0,0,x", "the line has 7 cells, but needs 4 to 6"),
        ("delete,student,1,C", "operation: 'delete' is not an operation; write one of add, del"),
        ("add,,1,C", "role: the cell is empty"),
        ("add,student,,C", "user idnumber: the cell is empty"),
        ("del,student,1,", "course idnumber: the cell is empty"),
    ],
)
def test_a_line_that_is_no_operation_is_refused(tmp_path: Path, line: str, message: str) -> None:
    read = read_file(encoded([FLAT[0], line, FLAT[-1]]), tmp_path)
    ((number, problem),) = read.refused
    assert number == 2
    assert problem.startswith(message)
    assert len(read.enrolled) == 2


def test_refused_lines_of_a_flat_file_can_be_submitted_again(tmp_path: Path) -> None:
    """They have a header, because the refusal stands in columns of its own."""
    lines = [
        (
            "refused_line,refused_code,refused_message,operation,role,user idnumber,"
            "course idnumber,start,end"
        ),
        "5,x,y,add,student,1,C,,",
    ]
    path = tmp_path / "refused.csv"
    path.write_bytes(encoded(lines))
    source = open_source(path, None, {})
    assert source.ordered
    assert requests(source) == [(2, "enroll", "1", "C")]


# --- Upload of users --------------------------------------------------------------------------

USERS = [
    (
        "username,firstname,lastname,email,course1,role1,type1,enrolstatus1,course2,type2,"
        "enrolstatus2,course10,deleted"
    ),
    "ada,Ada,L,a@x.test,LOGIC,student,,0,SETS,1,,GRAPHS,0",
    "alan,Alan,T,,LOGIC,,,1,,,,SETS,",
    "grace,Grace,H,,LOGIC,editingteacher,,,SETS,2,,,",
    "kurt,Kurt,G,,LOGIC,,,,,,,,1",
    "emmy,Emmy,N,,,,,,,,,,",
]


def test_one_row_enrolls_a_student_in_every_course_of_it(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(encoded(USERS))
    source = open_source(path, None, {})
    assert not source.ordered
    found = [(entry.lines, entry.record) for entry in source.records()]  # type: ignore[union-attr]
    assert found == [
        ([2], {"student_id": "ada", "course_ids": ["LOGIC", "SETS", "GRAPHS"], "atomic": False}),
        (
            [3],
            {
                "student_id": "alan",
                "drop_course_ids": ["LOGIC"],
                "atomic": False,
                "reason": "suspended",
            },
        ),
        ([3], {"student_id": "alan", "course_ids": ["SETS"], "atomic": False}),
        (
            [5],
            {
                "student_id": "kurt",
                "drop_course_ids": ["LOGIC"],
                "atomic": False,
                "reason": "deleted",
            },
        ),
    ]
    account = source.layout.account
    assert (account.rows, account.skipped, account.total) == (3, 2, 6)
    notices = " ".join(source.notices)
    assert "1 line is passed over, because only students are read: 1 'editingteacher'." in notices
    assert "1 line is passed over, because it names no course." in notices
    assert "1 'suspended', 1 'deleted'" in notices


def test_the_idnumber_comes_before_the_name_of_the_user(tmp_path: Path) -> None:
    lines = ["username,idnumber,course1", "ada,007,C", "alan,,C", ",,C"]
    path = tmp_path / "users.csv"
    path.write_bytes(encoded(lines))
    *records, refused = sorted(
        open_source(path, None, {}).records(), key=lambda e: isinstance(e, SourceRecord) is False
    )
    assert [entry.record["student_id"] for entry in records] == ["007", "alan"]  # type: ignore[union-attr]
    assert refused.message.startswith("username: the cell is empty")  # type: ignore[union-attr]


def test_a_course_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    lines = ["username,course1,course2,course3", "ada,C,C,D"]
    path = tmp_path / "users.csv"
    path.write_bytes(encoded(lines))
    (entry,) = open_source(path, None, {}).records()
    assert entry.record["course_ids"] == ["C", "D"]  # type: ignore[union-attr]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_every_form_of_an_upload_gives_the_same(
    tmp_path: Path, delimiter: str, encoding: str, line_end: str
) -> None:
    lines = [line.replace(",", delimiter) for line in USERS]
    for name, content in (
        ("plain.csv", encoded(USERS)),
        ("form.csv", encoded(lines, encoding, line_end)),
    ):
        (tmp_path / name).write_bytes(content)
    plain, form = (
        [(e.lines, e.record) for e in open_source(tmp_path / name, None, {}).records()]  # type: ignore[union-attr]
        for name in ("plain.csv", "form.csv")
    )
    assert form == plain


def test_a_flat_file_cannot_be_read_as_drops(tmp_path: Path) -> None:
    path = tmp_path / "enrol.txt"
    path.write_bytes(encoded(FLAT))
    with pytest.raises(UnreadableFile, match="whose lines say which of them are drops"):
        open_source(path, None, {}, drop=True)


@pytest.mark.parametrize(("column", "name"), [("enrolstatus1",) * 2, ("deleted",) * 2])
def test_a_mark_that_is_neither_0_nor_1_is_refused(tmp_path: Path, column: str, name: str) -> None:
    lines = [f"username,course1,{column}", "u1,C1,0", "u2,C1,yes", "u3,C1,1", "u4,C1,"]
    read = read_file(encoded(lines), tmp_path)
    assert set(read.enrolled) == {("u1", "C1"), ("u4", "C1")}
    assert set(read.dropped) == {("u3", "C1")}
    ((line, message),) = read.refused
    assert line == 3
    assert message.startswith(f"{name.removesuffix('1')}: 'yes' is neither 0 nor 1")


def test_roles_may_be_the_numbers_that_moodle_gives_them(tmp_path: Path) -> None:
    lines = ["username,course1,role1,course2,role2", "a,C1,5,C2,3", "b,C1,4,,", "c,C1,17,,"]
    read = read_file(encoded(lines), tmp_path)
    assert set(read.enrolled) == {("a", "C1")}
    assert read.skipped == 1
    assert any("1 'teacher'" in notice for notice in read.notices)
    ((line, message),) = read.refused
    assert line == 4
    assert "write its short name, for example student" in message
