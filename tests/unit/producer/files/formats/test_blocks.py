"""Rows that are read in blocks make the same records as rows that are read one by one."""

import io
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.files import rows
from producer.files.cells import REPEATS_HEADER
from producer.files.formats import window
from producer.files.reader import open_stream
from producer.publishing.chunking import CELL_END, SourceRecord
from support.packages import encoded

ONEROSTER = "sourcedId,status,dateLastModified,classSourcedId,userSourcedId,role,beginDate,endDate"
SWAPPED = "sourcedId,status,dateLastModified,userSourcedId,classSourcedId,role,beginDate,endDate"
CANVAS = "course_id,section_id,user_id,role,status"
CLEVER = "School_id,Section_id,Student_id"

_USERS = st.sampled_from(["U1", "U2", "U3", " U1", "U 4", "", "u\u00e9", "x" * 256])
_COURSES = st.sampled_from([*(f"C{number}" for number in range(1, 5)), "C1 ", "", "C\u00a05"])
_STATUS = st.sampled_from(
    [*["active"] * 6, "", "ACTIVE", "tobedeleted", "inactive", "deleted", "?"]
)
_ROLES = st.sampled_from([*["student"] * 8, "Student", "teacher", "", "role", "user_id"])
_DATES = st.sampled_from(["", "", "2020-06-30", "2099-06-30", "10/12/2026", "soon"])
_OTHERS = st.sampled_from([
    "", ",,,,,,,", "U1,C1", CANVAS, CLEVER, ONEROSTER, "student_id,course_id", "a" * 90,
])  # fmt: skip


def _row(*cells: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*cells).map(",".join)


_LINES = {
    ONEROSTER: _row(st.just("E"), _STATUS, st.just(""), _COURSES, _USERS, _ROLES, _DATES, _DATES),
    CANVAS: _row(_COURSES, _COURSES, _USERS, _ROLES, _STATUS),
    CLEVER: _row(st.sampled_from(["1", "", "Student_id"]), _COURSES, _USERS),
}


def _quoted(line: str) -> str:
    """Return a line with its first cell in quotes: then its block is read row by row."""
    first, comma, others = line.partition(",")
    return f'"{first}"{comma}{others}' if line else line


def _read(lines: list[str]) -> list[Any]:
    """Return all that is read of a file: requests, refused lines, notices and counts."""
    layout, records = open_stream("enrollments.csv", io.BytesIO(encoded(lines)))
    shown = [record if isinstance(record, RefusedLine) else _cut(record) for record in records]
    return [shown, list(layout.notices), layout.account, layout.passed_over]


def _cut(record: SourceRecord) -> Any:
    cells = [row.split(CELL_END) if isinstance(row, str) else row for row in record.cells or []]
    return record.record, record.lines, cells


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.sampled_from([*_LINES]),
    data=st.data(),
    block=st.sampled_from([40, 300, rows.BLOCK_BYTES]),
    size=st.sampled_from([3, 20, 5_000]),
)
def test_a_file_is_read_the_same_in_blocks_and_row_by_row(
    monkeypatch: pytest.MonkeyPatch, header: str, data: st.DataObject, block: int, size: int
) -> None:
    lines = data.draw(st.lists(st.one_of(*[_LINES[header]] * 12, _OTHERS), max_size=40))
    monkeypatch.setattr(rows, "BLOCK_BYTES", block)
    monkeypatch.setattr(window, "WINDOW", size)
    assert _read([header, *lines]) == _read([header, *map(_quoted, lines)])


@pytest.mark.parametrize("header", [ONEROSTER, SWAPPED])
@pytest.mark.parametrize(
    "between", ["", "E,active", '"E",active,,C1,U2,student,,', "E,active,,,U2,student,,"]
)
def test_a_second_header_below_a_block_is_noticed_however_it_is_read(
    monkeypatch: pytest.MonkeyPatch, between: str, header: str
) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 40)
    lines = [*[f"E,active,,C{number},U1,student,," for number in range(3)], between, header]
    read = _read([ONEROSTER, *lines, "E,active,,C9,U1,student,,"])
    messages = [shown.message for shown in read[0] if isinstance(shown, RefusedLine)]
    assert any("header" in message for message in messages)
    is_below = header != ONEROSTER
    assert any("stands below another header" in message for message in messages) is is_below


def test_a_header_among_single_rows_after_a_block_of_rows_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 40)
    # The blank line lets the last lines be read one by one.
    lines = [CANVAS, *["C1,S1,U1,student,active"] * 4, "", CANVAS]
    shown, notices, *_ = _read(lines)
    (refused,) = [entry for entry in shown if isinstance(entry, RefusedLine)]
    assert (refused.line, refused.message) == (7, REPEATS_HEADER)
    assert notices == []


def test_pairs_are_grouped_the_same_in_windows_of_many_lines() -> None:
    lines = [f"1,C{line // 7 % 11},U{line // 3 % 4_000}" for line in range(12_000)]
    lines[7_000] = "1,,U5"
    in_blocks = _read([CLEVER, *lines])
    assert in_blocks == _read([CLEVER, *map(_quoted, lines)])
    assert len(in_blocks[0]) > 4_000
