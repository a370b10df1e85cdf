"""Delimited files: each form is read, every line is counted, an open quote is reported."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind
from support.source_files import PAIRS, Open, read


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_file_is_read_in_each_of_its_forms(
    opened: Open, delimiter: str, end: str, encoding: str
) -> None:
    rows = [["sis_id", "title"], ["M1", "Ä"], [], ["M2", f'"a{delimiter} {end}b"'], ["M3", ""]]
    text = end.join(delimiter.join(row) for row in rows)
    source = opened(text.encode(encoding))
    assert source.kind is Kind.COURSES
    assert read(source) == [
        ({"sis_id": "M1", "title": "Ä"}, (2,)),
        ({"sis_id": "M2", "title": f"a{delimiter} {end}b"}, (4,)),
        ({"sis_id": "M3"}, (6,)),
    ]


def test_lines_are_counted_from_1_even_after_a_cell_of_several_lines(opened: Open) -> None:
    source = opened('sis_id,title,"a\nnote"\nM1,"two\r\n\r\nlines",\nM2,,\n,,\n')
    assert read(source) == [
        ({"sis_id": "M1", "title": "two\r\n\r\nlines"}, (3,)),
        ({"sis_id": "M2"}, (6,)),
    ]


cells = st.sampled_from(["S1", "S2", " S3 ", "4711", '"a\n""b"', "", "x" * 256])
lines_of_a_file = st.lists(st.lists(cells, max_size=3).map(tuple), max_size=40)


@given(lines_of_a_file)
# Each run writes the file again, and timings are not asserted.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_line_is_accounted_for_exactly_once(
    opened: Open, rows: list[tuple[str, ...]]
) -> None:
    text, expected = PAIRS, []
    bad: list[int] = []
    for row in rows:
        line = text.count("\n") + 1
        text += ",".join(row) + "\n"
        values = [cell.strip('"\n ').replace('""', '"') for cell in row]
        if len(row) == 2 and all(1 <= len(value) <= 255 for value in values):
            expected.append((line, *values))
        elif any(value.strip() for value in values):  # A blank line holds nothing.
            # A row with the wrong number of cells is no reason to join lines.
            count = 1 if len(row) == 2 else text.count("\n") - line + 1
            bad += range(line, line + count)
    entries = list(opened(text).records())
    pairs = [
        (line, entry.record["student_id"], course)
        for entry in entries
        if isinstance(entry, SourceRecord)
        for line, course in zip(entry.lines, entry.record["course_ids"], strict=True)
    ]
    assert sorted(pairs) == expected
    assert [entry.line for entry in entries if isinstance(entry, RefusedLine)] == bad
