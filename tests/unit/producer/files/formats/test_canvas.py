from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files.reader import open_source
from producer.publishing.chunking import CELL_END, SourceRecord
from producer.publishing.dating import BATCH_MOMENT
from support.packages import encoded, opened, read_file, read_package, zipped_package

HEADER = "course_id,user_id,role,section_id,status,start_date,end_date,notify"
ENROLLMENTS = [
    HEADER,
    "C1,U1,student,S1,active,,,",
    "C1,U1,Student,,ACTIVE,,,",
    "C1,T1,teacher,S1,active,,,",
    "C1,T2,TaEnrollment,S1,deleted,,,",
    "C1,U2,student,S1,deleted,,,",
    "C1,U3,StudentEnrollment,S1,completed,,,",
    "C1,U4,student,S1,inactive,,,",
    "C1,U5,student,S1,deleted_last_completed,,,",
]
USERS = [
    "user_id,login_id,first_name,last_name,full_name,email,status,declared_user_type",
    "U1,ada,Ada,Lovelace,,ada@school.test,active,",
    "U2,alan,Alan,Turing,Alan M. Turing,<delete>,active,student",
    "T1,grace,Grace,Hopper,,,active,",
    "T9,emmy,Emmy,Noether,,,active,Teacher",
    "U6,kurt,Kurt,Goedel,,,deleted,",
    "U7,new,Not,Enrolled,,,suspended,",
]
COURSES = ["course_id,short_name,long_name,status", "C1,LOGIC,Logic I,active", "C9,OLD,Old,deleted"]
SECTIONS = ["section_id,course_id,name,status", "S1,C1,Logic I (Monday),active"]


def test_students_are_enrolled_in_their_section_or_else_in_the_course(tmp_path: Path) -> None:
    read = read_file(encoded(ENROLLMENTS), tmp_path)
    assert read.enrolled == {("U1", "S1"): 2, ("U1", "C1"): 3}
    assert read.dropped == {
        ("U2", "S1"): "deleted",
        ("U3", "S1"): "completed",
        ("U4", "S1"): "inactive",
        ("U5", "S1"): "deleted_last_completed",
    }
    assert read.refused == []
    assert read.skipped == 2
    assert any("1 'teacher', 1 'taenrollment'" in notice for notice in read.notices)


def test_only_students_of_a_package_are_stored(tmp_path: Path) -> None:
    files = {"a.csv": ENROLLMENTS, "b.csv": USERS, "c.csv": COURSES, "d.csv": SECTIONS}
    files["terms.csv"] = ["term_id,name,status", "T,Term,active"]
    read = read_package(zipped_package(files, tmp_path / "export.zip"))
    assert list(read) == ["students", "courses", "sections", "enrollments"]
    assert read["students"].roster == [
        {"sis_id": "U1", "name": "Ada Lovelace", "email": "ada@school.test"},
        {"sis_id": "U2", "name": "Alan M. Turing"},
        {"sis_id": "U7", "name": "Not Enrolled"},
    ]
    assert read["students"].skipped == 3
    assert read["courses"].roster == [{"sis_id": "C1", "title": "Logic I"}]
    assert read["sections"].roster == [{"sis_id": "S1", "title": "Logic I (Monday)"}]
    assert len(read["enrollments"].enrolled) == 2


@pytest.mark.parametrize(
    "role",
    [
        "Student Teacher", "student aide", "STUDENT ASSISTANT", "Student TA", "student-observer",
        "StudentViewEnrollment", "Student Services", "Student Success Coach", "TaEnrollment",
    ],
)  # fmt: skip
def test_a_role_that_only_begins_like_that_of_a_student_is_passed_over(
    tmp_path: Path, role: str
) -> None:
    lines = [HEADER, f"C1,T1,{role},S1,active,,,", "C1,U1,Student (Audit),S1,active,,,"]
    read = read_file(encoded(lines), tmp_path)
    assert set(read.enrolled) == {("U1", "S1")}
    assert read.skipped == 1
    assert any(repr(role.lower()) in notice for notice in read.notices)


def test_the_base_of_a_custom_role_says_who_is_a_student(tmp_path: Path) -> None:
    lines = [
        "course_id,user_id,role,status,base_role_type",
        "C1,U1,Learner,active,StudentEnrollment",
        "C1,T1,Student Lead,active,TeacherEnrollment",
        "C1,T2,student,active,StudentViewEnrollment",
    ]
    assert set(read_file(encoded(lines), tmp_path).enrolled) == {("U1", "C1")}


def test_users_alone_are_stored_unless_they_are_declared_to_be_others(tmp_path: Path) -> None:
    lines = ["user_id,login_id,status,declared_user_type"]
    lines += ["U1,u1,active,Student", "T1,t1,active,teacher", "X1,x1,active,"]
    read = read_file(encoded(lines), tmp_path)
    assert [record["sis_id"] for record in read.roster] == ["U1", "X1"]
    assert any("1 'teacher'" in notice for notice in read.notices)


def test_a_notice_says_that_users_alone_may_be_no_students(tmp_path: Path) -> None:
    read = read_file(encoded(["user_id,login_id,status", "U1,u1,active"]), tmp_path)
    assert [record["sis_id"] for record in read.roster] == ["U1"]
    assert any("which of its users are students" in notice for notice in read.notices)


def test_a_declared_teacher_with_a_student_enrollment_is_stored(tmp_path: Path) -> None:
    users = ["user_id,login_id,status,declared_user_type"]
    users += ["T1,t1,active,teacher", "U1,u1,active,", "T2,t2,active,"]
    rows = [HEADER, "C1,T1,student,,active,,,", "C1,U1,student,,active,,,"]
    rows += ["C1,T2,teacher,,active,,,"]
    path = zipped_package({"u.csv": users, "e.csv": rows}, tmp_path / "export.zip")
    roster = read_package(path)["students"].roster
    assert [record["sis_id"] for record in roster] == ["T1", "U1"]


def test_further_logins_are_no_users(tmp_path: Path) -> None:
    files = {"e.csv": ENROLLMENTS, "u.csv": USERS}
    files["logins.csv"] = ["user_id,login_id,existing_user_id,email", "U1,a,U3,a@x.test"]
    read = read_package(zipped_package(files, tmp_path / "export.zip"))
    assert list(read) == ["students", "enrollments"]


def test_several_files_of_one_kind_are_batches_of_their_own(tmp_path: Path) -> None:
    files = {"first.csv": ENROLLMENTS, "second.csv": [HEADER, "C2,U1,student,,active,,,"]}
    path = zipped_package(files, tmp_path / "export.zip")
    assert list(read_package(path)) == ["enrollments", "enrollments-2"]
    with opened(path) as package:
        assert package.batch_ids("night") == ["night:enrollments", "night:enrollments-2"]


@pytest.mark.parametrize(
    ("dates", "is_enrolled"),
    [
        ("2013-1-03 00:00:00,2013-05-03 00:00:00", False),
        ("2026-01-01T00:00:00Z,2026-08-31T23:59:59Z", False),
        ("2026-01-01,2026-09-01", True),
        ("2026-01-01T00:00:00Z,2026-09-01T00:00:00Z", True),
        (",2013-05-03", True),
        ("2013-05-03,", True),
        ("2027-01-01,2027-06-30", True),
        ("2013-05-03,soon", True),
    ],
)
def test_dates_count_together_and_the_last_day_is_still_in(
    tmp_path: Path, dates: str, *, is_enrolled: bool
) -> None:
    token = BATCH_MOMENT.set(datetime(2026, 9, 1, 12, tzinfo=UTC))
    try:
        read = read_file(encoded([HEADER, f"C1,U1,student,,active,{dates},"]), tmp_path)
    finally:
        BATCH_MOMENT.reset(token)
    assert bool(read.enrolled) == is_enrolled
    assert read.dropped == ({} if is_enrolled else {("U1", "C1"): "ended"})


@pytest.mark.parametrize(("zone", "is_enrolled"), [("UTC", False), ("America/New_York", True)])
def test_a_day_ends_in_the_time_zone_of_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, *, is_enrolled: bool
) -> None:
    monkeypatch.setenv("ENROLL_TIMEZONE", zone)
    token = BATCH_MOMENT.set(datetime(2026, 9, 2, 2, tzinfo=UTC))
    try:
        line = "C1,U1,student,,active,2026-01-01,2026-09-01,"
        read = read_file(encoded([HEADER, line]), tmp_path)
    finally:
        BATCH_MOMENT.reset(token)
    assert bool(read.enrolled) == is_enrolled


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("C1,U1,student,,gone,,,", "status: 'gone' is not a status; write one of active, deleted"),
        ("C1,U1,student,,,,,", "status: the cell is empty; write one of active"),
        ("C1,U1,,,active,,,", "role: the cell is empty"),
        ("C1,,student,,active,,,", "user_id: the cell is empty"),
        (",U1,student,,active,,,", "section_id or course_id: the cell is empty"),
    ],
)
def test_a_line_that_cannot_be_understood_is_refused_in_words_of_its_file(
    tmp_path: Path, line: str, words: str
) -> None:
    read = read_file(encoded([HEADER, "C1,U9,student,,active,,,", line]), tmp_path)
    assert set(read.enrolled) == {("U9", "C1")}
    ((number, message),) = read.refused
    assert number == 3
    assert message.startswith(words)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_form_gives_the_same_lines(
    tmp_path: Path, encoding: str, line_end: str, delimiter: str
) -> None:
    lines = [line.replace(",", delimiter) for line in ENROLLMENTS]
    read = read_file(encoded(lines, encoding, line_end), tmp_path)
    assert read == read_file(encoded(ENROLLMENTS), tmp_path)


def test_our_own_columns_come_before_those_of_canvas(tmp_path: Path) -> None:
    content = ["student_id,course_id,user_id,role,status", "S1,C1,U1,teacher,deleted"]
    assert read_file(encoded(content), tmp_path).enrolled == {("S1", "C1"): 2}


def chosen(path: Path) -> object:
    return open_source(path, None, {}, format_name="canvas")


def dropping(path: Path) -> object:
    return open_source(path, None, {}, drop=True)


def plain(path: Path) -> object:
    return open_source(path, None, {})


@pytest.mark.parametrize(
    ("header", "read", "words"),
    [
        ("course_id,user_id,role_id,status", plain, "does not show who is a student"),
        ("course_id,user_integration_id,role,status", plain, "has no column user_id"),
        ("term_id,name,status", plain, "are not needed here"),
        ("user_id,login_id,existing_user_id", plain, "logins of Canvas .*not needed here"),
        ("a,b", chosen, "is not a file of Canvas SIS import"),
        (HEADER, dropping, "whose lines say which of them are drops"),
        ("user_id,user_id,course_id,role,status", plain, "occur more than once"),
    ],
)
def test_a_file_that_does_not_say_enough_is_refused(
    tmp_path: Path, header: str, read: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(encoded([header]))
    with pytest.raises(UnreadableFile, match=words):
        read(path)


def test_an_unknown_format_is_refused_with_the_names_of_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="'blackboard' is not the name of a format; choose"):
        read_file(encoded(ENROLLMENTS), tmp_path, "blackboard")


@pytest.mark.parametrize("header", ["course_id,user_id,section_id,status", "a,b"])
def test_a_package_whose_enrollments_cannot_be_read_is_refused(tmp_path: Path, header: str) -> None:
    files = {"users.csv": USERS, "enrollments.csv": [header, "C1,U1,S1,active"]}
    path = zipped_package(files, tmp_path / "export.zip")
    with pytest.raises(UnreadableFile, match=r"enrollments.csv .* lacks .* has: .*role or role_id"):
        opened(path)


def test_each_line_of_a_long_file_counts_as_it_does_alone(tmp_path: Path) -> None:
    counts = {
        "U{n},student,S{n},active": 30,
        "U{half},student,S{n},active": 30,
        "U{half},student,S1,active": 7,
        "U{n},teacher,S1,active": 7,
        "U{n},student,S1,deleted": 7,
        ",student,S1,active": 3,
        "U{n},student,,active": 3,
        "U{n},student,S1,odd": 3,
        "U{n},student,S1": 3,
    }
    patterns = [pattern for pattern, count in counts.items() for _ in range(count)]
    # Every kind of line occurs in every part of the file, in an order without a regular pattern.
    chosen = [patterns[n * 37 % len(patterns)] for n in range(2, 11_002)]
    lines = [pattern.format(n=n, half=n // 4) for n, pattern in enumerate(chosen, 2)]
    path = tmp_path / "long.csv"
    path.write_text("\n".join(["user_id,role,section_id,status", *lines]) + "\n")
    entries = list(open_source(path, None, {}).records())
    alone, other, same, _teacher, dropped, *bad = counts
    assert sorted(entry.line for entry in entries if isinstance(entry, RefusedLine)) == [
        n for n, pattern in enumerate(chosen, 2) if pattern in bad
    ]
    read = [
        (action, entry.record["student_id"], course, line, row)
        for entry in entries
        if isinstance(entry, SourceRecord)
        for action in ("course_ids", "drop_course_ids")
        if action in entry.record
        for course, line, row in zip(
            entry.record[action], entry.lines, entry.cells or (), strict=True
        )
    ]
    actions = {alone: "course_ids", other: "course_ids", same: "course_ids"}
    actions[dropped] = "drop_course_ids"
    expected = [
        (actions[pattern], *line.split(",")[:3:2], number, line.replace(",", CELL_END))
        for number, (pattern, line) in enumerate(zip(chosen, lines, strict=True), 2)
        if pattern in actions
    ]
    assert sorted(read, key=lambda entry: entry[3]) == expected
    requests = [entry.record for entry in entries if isinstance(entry, SourceRecord)]
    assert all(len(set(r["course_ids"])) == len(r["course_ids"]) for r in requests if len(r) == 3)
    assert len(requests) < len(expected)
