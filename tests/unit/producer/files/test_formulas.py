"""In the file for spreadsheets no cell runs as a formula, and each comes back as it was."""

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.contract.batches import RefusedRecord
from producer.contract.file_form import FileForm
from producer.files.formulas import guard, unguard
from producer.files.refused_lines import write_csv
from producer.schemas import Code

SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
STARTS = (*SIGNS, "\t", "\r", "\n", "\0", "\ufdd0\ufde0")
CHARACTERS = "=+-@\uff1d\uff0b\uff0d\uff20'\"\t\r\n \u00a0\u3000\u200b\ufeff,;|a1\0|%!"

cells = st.one_of(
    st.text(st.sampled_from(CHARACTERS), max_size=10),
    st.text(max_size=6),
    st.sampled_from(
        [
            "=cmd|' /C calc'!A0",
            '=HYPERLINK("http://x","y")',
            " =1",
            '"=1',
            "'=1",
            "''=1",
            "a\n=1",
            "a\r\n+1",
            "x;=1",
            'x,"@1',
            "\t=1",
            "\uff1d1",
            "a\n\u3000\uff1d1",
            "-5",
        ]
    ),
)


def begins_formula(cell: str) -> bool:
    """Whether a spreadsheet may run a cell once it has passed over what it may ignore.

    An apostrophe says that what follows is text.
    """
    return cell.lstrip(' "\u00a0\u3000\u200b\ufeff\t\r\n\0').startswith(tuple(SIGNS))


def divided(text: str) -> list[str]:
    """Return what may become a cell, wherever a spreadsheet divides the lines of a file."""
    parsed = [
        cell
        for delimiter in ",;|\t"
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        for cell in row
    ]
    return [*re.split(r"[,;|\t\r\n]", text), *parsed]


@settings(max_examples=500, deadline=None)
@given(cells)
def test_a_guard_is_taken_away_again(cell: str) -> None:
    assert unguard(guard(cell)) == cell
    assert unguard(guard(guard(cell))) == guard(cell)
    assert not guard(cell).startswith(STARTS)
    assert not any(map(begins_formula, divided(guard(cell))))


@pytest.mark.parametrize(
    ("cell", "guarded"),
    [
        ("=1+1", "'=1+1"),
        ("\uff20SUM(A1)", "'\uff20SUM(A1)"),
        (' "=1', "' \"=1"),
        ("'=1", "''=1"),
        ("\t1", "'\t1"),
        ("two\r\n=lines", "two\r\n'=lines"),
        ("x;=1", "x;'=1"),
        ("Smith, John", "Smith, John"),
        ("O'Neil", "O'Neil"),
        ("'quoted'", "'quoted'"),
        ("ada@example.edu", "ada@example.edu"),
        ("MATH-101", "MATH-101"),
        ("", ""),
    ],
)
def test_only_what_may_begin_a_formula_is_guarded(cell: str, guarded: str) -> None:
    assert guard(cell) == guarded


@settings(max_examples=500, deadline=None)
@given(
    header=st.lists(cells, min_size=1, max_size=3, unique=True),
    rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=4),
    message=cells,
    delimiter=st.sampled_from(",;|\t=+§"),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    names_delimiter=st.booleans(),
)
def test_no_cell_of_the_file_for_spreadsheets_is_dangerous(
    header: list[str],
    rows: list[list[str]],
    message: str,
    delimiter: str,
    line_end: str,
    names_delimiter: bool,
) -> None:
    form = FileForm(delimiter=delimiter, line_end=line_end, names_delimiter=names_delimiter)
    refusals = [
        RefusedRecord(
            id=1, line=number, code=Code.INVALID_REQUEST, message=message, cells=tuple(row)
        )
        for number, row in enumerate(rows, 2)
    ]
    file = io.BytesIO()
    assert write_csv(file, header, form, refusals, guarded=True) == len(rows)
    text = file.getvalue().decode("utf-8-sig", "replace")
    assert not any(map(begins_formula, divided(text)))
    usual = delimiter if delimiter in ",;|\t" else ","
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=usual):
        assert not any(cell.startswith(STARTS) for cell in row)
