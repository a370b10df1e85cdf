"""Only the name of a column decides whether it holds SIS ids or our keys, not how they look."""

import csv
import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.fields import MAX_KEY, MAX_TEXT
from producer.files.columns import COURSE_COLUMNS, STUDENT_COLUMNS
from producer.files.describing import Choices
from producer.files.reader import open_stream
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind
from support.source_files import Open, courses

NUMBERS = ["2", "003", "0", "-3", "+7", "1e5", "1.0", "1_000", "٣", "Ⅷ", "²", " 12 ", "2 3", ""]
LIMITS = [str(MAX_KEY), str(MAX_KEY + 1), "9" * MAX_TEXT, "9" * (MAX_TEXT + 1), "0" * 5_000 + "1"]
ids = st.one_of(
    st.sampled_from(NUMBERS + LIMITS),
    st.integers(-5, 3 * MAX_KEY).map(str),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
)
students, all_courses = st.sampled_from(STUDENT_COLUMNS), st.sampled_from(COURSE_COLUMNS)


def entries(rows: Sequence[Sequence[str]], **templates: str) -> list[SourceRecord | RefusedLine]:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    file = io.BytesIO(text.getvalue().encode())
    layout, lines = open_stream("upload.csv", file, Choices(templates=templates))
    assert layout.kind is Kind.ENROLLMENTS
    return list(lines)


def meaning(column: str, cell: str) -> int | str | None:
    """Return the id in a cell, or None."""
    text = cell.strip()
    if column.endswith("_key"):
        is_key = re.fullmatch("[1-9][0-9]{0,9}", text) is not None and int(text) <= MAX_KEY
        return int(text) if is_key else None
    return text if 0 < len(text) <= MAX_TEXT else None


@given(student=students, course=all_courses, pair=st.tuples(ids, ids), swapped=st.booleans())
def test_a_column_of_ids_holds_sis_ids_and_a_column_of_keys_holds_keys(
    student: str, course: str, pair: tuple[str, str], swapped: bool
) -> None:
    order = -1 if swapped else 1
    header = [student.upper(), f" {course} "][::order]
    (entry,) = entries([[*header, "note"], [*pair[::order], "x"]])
    expected = [meaning(student, pair[0]), meaning(course, pair[1])]
    if None in expected:
        assert isinstance(entry, RefusedLine)
        assert entry.field == (course if expected[0] is not None else student)
        assert not entry.cells or list(entry.cells)[:2] == list(pair[::order])
    else:
        assert isinstance(entry, SourceRecord)
        found = [entry.record["student_id"], *entry.record["course_ids"]]
        assert found == expected
        assert list(map(type, found)) == list(map(type, expected))


names = st.lists(st.sampled_from(STUDENT_COLUMNS + COURSE_COLUMNS), unique=True)


@given(header=names)
def test_two_columns_for_one_id_are_refused_unless_one_is_mapped(header: list[str]) -> None:
    halves = [[n for n in ours if n in header] for ours in (STUDENT_COLUMNS, COURSE_COLUMNS)]
    assume(all(halves))
    rows = [header, [str(number) for number in range(1, len(header) + 1)]]
    doubled = [half for half in halves if len(half) > 1]
    if doubled:
        with pytest.raises(UnreadableFile, match=r" has .* and .*; remove one, or map the one"):
            entries(rows)
    templates = {half[-1]: f"{{{half[0]}}}" for half in doubled}
    (entry,) = entries(rows, **templates)
    assert isinstance(entry, SourceRecord)
    student, course = (meaning(half[-1], rows[1][header.index(half[0])]) for half in halves)
    assert (entry.record["student_id"], entry.record["course_ids"]) == (student, [course])


@given(
    columns=st.tuples(students, all_courses),
    sources=st.permutations([*STUDENT_COLUMNS, *COURSE_COLUMNS, "sis_id", "name", "title"]),
)
def test_any_column_can_be_mapped_to_any_of_ours(
    columns: tuple[str, str], sources: list[str]
) -> None:
    first, second = sources[:2]
    templates = {columns[0]: f"{{{first}}}", columns[1]: f"{{{second}}}"}
    (entry,) = entries([sources, [str(n) for n in range(11, 11 + len(sources))]], **templates)
    assert isinstance(entry, SourceRecord)
    found = (entry.record["student_id"], *entry.record["course_ids"])
    assert found == (meaning(columns[0], "11"), meaning(columns[1], "12"))


def test_a_roster_takes_its_ids_from_a_mapped_column(opened: Open) -> None:
    roster = opened("student_id,name,course_id\n003,Cy,1\n", sis_id="{student_id}")
    assert roster.kind is Kind.STUDENTS
    assert [entry.record for entry in roster.records() if isinstance(entry, SourceRecord)] == [
        {"sis_id": "003", "name": "Cy"}
    ]


def test_columns_that_occur_twice_do_no_harm_if_they_are_not_used(opened: Open) -> None:
    file = "student_id,course_id,name,name,student_key,student_key\n1,2,,,,\n"
    assert courses(opened(file, student_id="{student_id}")) == [("1", ["2"], (2,))]
    with pytest.raises(UnreadableFile, match="more than once in the header: student_key"):
        opened(file, student_key="{student_key}")
