"""A column of roles that is not read is noticed, because each line enrolls its user."""

import io

import pytest

from producer.files.describing import HEAD_BYTES
from producer.files.reader import open_stream
from producer.schemas import Kind
from support.source_files import Open, read


def _file(column: str, *cells: str) -> str:
    rows = [f"S{number},C1,{cell}" for number, cell in enumerate(cells, 1)]
    return "\n".join([f"student_id,course_id,{column}", *rows, ""])


@pytest.mark.parametrize(
    "column",
    ["role", "Role", "roles", "User Role", "type", "user type", "UserType", "enrollment_type"],
)
@pytest.mark.parametrize("word", ["teacher", "TA", "Instructor", "observer", "Student Teacher"])
def test_lines_about_others_are_noticed_and_counted(opened: Open, column: str, word: str) -> None:
    source = opened(_file(column, "student", word, "", word, "Learner"))
    assert len(read(source)) == 5
    first, count = source.notices
    assert f"line 3 has {word!r} in the column {column!r}, which is not read" in first
    assert "enrolls its user all the same" in first
    assert "remove the other lines" in first
    assert f"2 lines are read although the column {column!r}" in count
    assert f"2 {word.lower()!r}" in count


def test_one_line_about_another_is_one_notice(opened: Open) -> None:
    source = opened(_file("role", "student", "teacher"))
    read(source)
    assert len(list(source.notices)) == 1


@pytest.mark.parametrize(
    ("column", "word"),
    [
        ("role", "Student"),
        ("role", "StudentEnrollment"),
        ("role", "learner"),
        ("type", "lecture"),
        ("type", "full-time"),
        ("category", "A"),
        ("note", "teacher"),
    ],
)
def test_students_and_other_columns_are_not_noticed(opened: Open, column: str, word: str) -> None:
    source = opened(_file(column, word, word))
    read(source)
    assert list(source.notices) == []


def test_a_column_that_is_read_is_not_noticed(opened: Open) -> None:
    source = opened(_file("role", "teacher", "teacher"), reason="{role}")
    read(source)
    assert list(source.notices) == []


def test_a_roster_of_students_is_noticed_and_one_of_courses_is_not(opened: Open) -> None:
    source = opened("sis_id,name,role\nX1,Ada,teacher\n", Kind.STUDENTS)
    (notice,) = source.notices
    assert "stores its user as a student all the same" in notice
    assert not list(opened("sis_id,title,type\nX1,Ada,teacher\n", Kind.COURSES).notices)


def test_all_lines_are_counted_when_the_whole_file_was_read() -> None:
    rows = HEAD_BYTES // 10
    content = "student_id,course_id,role\nS1,C1,ta\nS1,C1,ta\n" + "S1,C1,teacher\n" * rows
    layout, lines = open_stream("a file", io.BytesIO(content.encode()))
    assert len(list(layout.notices)) == 1
    assert sum(len(entry.lines) for entry in lines if hasattr(entry, "lines")) == rows + 2
    _, count = layout.notices
    assert f"{rows + 2:,} lines are read although" in count
    assert f"{rows:,} 'teacher', 2 'ta'" in count
    again = list(layout.notices)
    assert again == list(layout.notices)


def test_many_different_roles_are_counted_within_a_bound(opened: Open) -> None:
    source = opened(_file("role", *(f"role {number}" for number in range(100))))
    read(source)
    (_, count) = source.notices
    assert "80 'others'" in count
    assert len(count) < 1_000
