"""The page writes corrected lines as a file that the readers of submissions understand."""

from io import BytesIO

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.files.describing import Choices
from producer.files.reader import open_stream
from producer.files.whole_check import check_whole_file
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind
from support.page_modules import run_module

_CELL = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp", "Cn"))
    | st.sampled_from("\",;\n'= "),
    max_size=12,
)
_NAMES = ("student_id", "course_id", "note, of hers", 'the "other"')


@settings(max_examples=5, deadline=None)
@given(st.lists(st.lists(_CELL, min_size=4, max_size=4), min_size=1, max_size=60))
def test_the_lines_of_a_correction_are_those_at_which_its_rows_begin(
    rows: list[list[str]],
) -> None:
    rows = [["S1", "C1", *row[2:]] for row in rows]
    written = run_module(
        "corrections.js", "page.csvOf(value.columns, value.rows)", {"columns": _NAMES, "rows": rows}
    )
    file = BytesIO(written["text"].encode())
    layout, lines = open_stream("corrected", file, Choices(Kind.ENROLLMENTS))
    records = list(lines)
    assert layout.columns == _NAMES
    assert (
        sorted(
            line for record in records if isinstance(record, SourceRecord) for line in record.lines
        )
        == written["lines"]
    )


def test_cells_of_a_refused_row_come_back_as_they_were_typed() -> None:
    rows = [["", 'say "x"', "a;b, c", " two\nlines "], ["NULL", "=1+1", "'quoted'", "Ünïcode"]]
    columns = ["sis_id", "name", "email", "note"]
    written = run_module("corrections.js", "page.csvOf(value[0], value[1])", [columns, rows])
    check = check_whole_file(
        "corrected", BytesIO(written["text"].encode()), Choices(Kind.STUDENTS, {}, None, False)
    )
    assert [list(line.cells or ()) for line in check.refused] == rows
    assert [line.line for line in check.refused] == written["lines"]
    assert [line.field for line in check.refused] == ["sis_id", "sis_id"]


def test_a_correction_names_the_upload_that_it_corrects() -> None:
    for batch_id in ("page-1", "ü / ?", "fix-12345678-other"):
        made = run_module("corrections.js", "page.idOfCorrection(value)", batch_id)
        assert run_module("corrections.js", "page.originOf(value)", made) == batch_id
    long = "x" * 128
    made = run_module("corrections.js", "page.idOfCorrection(value)", long)
    assert len(made) == 128
    assert run_module("corrections.js", "page.originOf(value)", made) is None
    assert run_module("corrections.js", "page.originOf(value)", "page-1") is None
