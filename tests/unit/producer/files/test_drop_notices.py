"""A column that is not read, but says that a line is a drop, is noticed before anything is sent."""

import io

import pytest

from producer.files.describing import HEAD_BYTES, Choices
from producer.files.notices import Notices
from producer.files.reader import open_stream
from producer.schemas import Kind
from support.source_files import Open, read

ENROLLED = ["S1", "S2", "S3"]


def _file(column: str, word: str, cells: tuple[str, str, str] = ("", "{}", "{}")) -> str:
    rows = [f"{sis_id},C1,{cell}" for sis_id, cell in zip(ENROLLED, cells, strict=True)]
    return "\n".join([f"student_id,course_id,{column}", *rows, ""]).format(word, word)


@pytest.mark.parametrize("column", ["status", "Enrollment State", "aktion", "x"])
@pytest.mark.parametrize("word", ["deleted", "DROP", " Dropped", "tobedeleted", "toBeDeleted"])
def test_a_drop_in_a_column_that_is_not_read_is_noticed_once(
    opened: Open, column: str, word: str
) -> None:
    source = opened(_file(column, word))
    (notice,) = source.notices
    assert f"line 3 has {word.strip()!r} in the column {column!r}, which is not read" in notice
    assert "enrolls its student all the same" in notice
    assert "action" in notice
    students = [record["student_id"] for record, _ in read(source)]
    assert students == ENROLLED
    assert list(source.notices) == [notice]


def test_the_first_of_several_columns_is_noticed(opened: Open) -> None:
    source = opened("student_id,status,course_id,state\nS1,,dropped,deleted\nS2,drop,C1,drop\n")
    (notice,) = source.notices
    assert "line 2 has 'deleted' in the column 'state'" in notice
    assert len(read(source)) == 2
    assert list(source.notices) == [notice]


@pytest.mark.parametrize("word", ["active", "enroll", "no drops", "completed", "drop-in", ""])
def test_other_words_are_not_noticed(opened: Open, word: str) -> None:
    source = opened(_file("status", word))
    assert len(read(source)) == len(ENROLLED)
    assert list(source.notices) == []


@pytest.mark.parametrize("column", ["action", "reason", "Action "])
def test_a_column_that_is_read_is_not_noticed(opened: Open, column: str) -> None:
    source = opened(_file(column, "drop"))
    read(source)
    assert list(source.notices) == []


def test_nothing_is_noticed_if_the_column_is_mapped(opened: Open) -> None:
    source = opened(_file("status", "drop"), action="{status}")
    assert [("drop_course_ids" in record) for record, _ in read(source)] == [False, True, True]
    assert list(source.notices) == []


def test_nothing_is_noticed_if_every_line_is_a_drop() -> None:
    content = _file("status", "deleted").encode()
    layout, lines = open_stream("a file", io.BytesIO(content), Choices(drop=True))
    assert len(list(lines)) == len(ENROLLED)
    assert list(layout.notices) == []


@pytest.mark.parametrize(("kind", "name"), [(Kind.STUDENTS, "name"), (Kind.COURSES, "title")])
@pytest.mark.parametrize("column", ["action", "status"])
def test_a_roster_says_that_it_removes_nothing(
    opened: Open, kind: Kind, name: str, column: str
) -> None:
    source = opened(f"sis_id,{name},{column}\nX1,Ada,\nX2,Ben,deleted\n", kind)
    (notice,) = source.notices
    assert f"line 3 has 'deleted' in the column {column!r}" in notice
    assert "A roster removes nothing" in notice
    assert len(read(source)) == 2


def test_a_drop_far_below_the_first_lines_is_noticed_while_the_file_is_read() -> None:
    rows = HEAD_BYTES // 10
    content = "student_id,course_id,status\n" + "S1,C1,active\n" * rows + "S1,C1,deleted\n"
    layout, lines = open_stream("a file", io.BytesIO(content.encode()))
    notices: Notices = layout.notices
    assert list(notices) == []
    assert sum(len(entry.lines) for entry in lines if hasattr(entry, "lines")) == rows + 1
    (notice,) = notices
    assert f"line {rows + 2:,} has 'deleted'" in notice
