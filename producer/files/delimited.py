"""Read CSV files, with commas, semicolons, tabs or vertical bars between the cells."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files.cells import Row, pair_reader, record_reader, refused_line
from producer.files.columns import (
    BadCell,
    choose_columns,
    column_readers,
    kind_of,
    wanted_columns,
)
from producer.files.grouping import group_requests
from producer.files.layout import FileLayout, Lines
from producer.files.rows import RowReader
from producer.publishing.chunking import SourceRecord
from producer.schemas import MAX_COLUMNS, Kind

DELIMITERS = ",;\t|"
_EXCEL = re.compile(r"\ufeff?sep=(.)\r?\n")
"""The line in which Excel is told the delimiter."""


def delimited_layout(
    path: str, kind: Kind | None, templates: Mapping[str, str], head: str
) -> FileLayout:
    """Describe a CSV file by its first lines. Raises UnreadableFile."""
    told = _EXCEL.match(head)
    text = head.removeprefix("\ufeff") if told is None else head[told.end() :]
    delimiters = DELIMITERS if told is None else told[1]
    delimiter = _delimiter(text, delimiters, templates)
    header, lines = _header(text, delimiter)
    if len(header) > MAX_COLUMNS:
        raise UnreadableFile(
            f"{path} has {len(header):,} columns, and at most {MAX_COLUMNS:,} can be read; remove"
            " those that are not needed."
        )
    readers = column_readers(path, header, templates)
    if kind is None:
        looks_like = _looks_like(text, delimiter)
        kind = kind_of(path, readers, text.partition("\n")[0], looks_like, templates)
    readers = choose_columns(path, kind, header, readers, templates)

    # If a record holds everything that is on its line, the line's cells need not travel with it.
    keep_cells = bool(templates) or not set(header) <= set(readers)

    lines_above = lines + (told is not None)
    rows_of = RowReader(path, delimiter, len(header), lines_above).read

    def read(file: BinaryIO) -> Lines:
        rows = rows_of(file)
        if kind is Kind.ENROLLMENTS:
            return group_requests(rows, pair_reader(readers), keep_cells=keep_cells)
        return _records(rows, record_reader(kind, readers), keep_cells=keep_cells)

    return FileLayout(kind, read, tuple(header), [])


def _delimiter(text: str, delimiters: str, templates: Mapping[str, str]) -> str:
    """Return the delimiter that shows the most columns that are wanted, or else the most cells."""
    outside_of_quotes = re.sub('"[^"]*"', "", text.partition("\n")[0])

    def shown_by(delimiter: str) -> tuple[int, int]:
        header, _ = _header(text, delimiter)
        return wanted_columns(header, templates), outside_of_quotes.count(delimiter)

    return max(delimiters, key=shown_by)


def _header(text: str, delimiter: str) -> tuple[list[str], int]:
    """Return the column names, none if they cannot be read, and the number of lines they take.

    They are read strictly: an unclosed quote here would swallow every row.
    """
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    try:
        return [cell.strip() for cell in next(reader)], reader.line_num
    except csv.Error:
        return [], 1


def _looks_like(text: str, delimiter: str) -> str:
    """Return a sentence about what the first line seems to be, if not a header."""
    first, _, others = text.partition("\n")
    second = others.partition("\n")[0]
    if first.count('"') % 2:
        return "It has a quote that is not closed; close it, or remove it."
    if first.lstrip().startswith("["):
        return "It looks like a JSON array; write one JSON object on each line instead."
    if first.lstrip().startswith(("#", "//")):
        return "It looks like a comment; remove it."
    if len(first.split(delimiter)) == 1 and max(map(second.count, DELIMITERS)) > 0:
        return "It looks like a title above the header; remove what stands above the header."
    if any(character.isdigit() or character == "@" for character in first):
        return "It looks like data; add a line with the names of the columns above it."
    return ""


def _records(
    rows: Iterable[Row | RefusedLine], read: Callable[[list[str]], Any], *, keep_cells: bool
) -> Lines:
    for entry in rows:
        if not isinstance(entry, tuple):
            yield entry
            continue
        line, row = entry
        try:
            yield SourceRecord(read(row), [line], [row] if keep_cells else None)
        except BadCell as bad_cell:
            yield refused_line(line, row, bad_cell)
