"""Read CSV files, with commas, semicolons or tabs between the cells."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files.cells import BadCell, Row, pair_reader, record_reader, refused_line
from producer.files.columns import check_columns, column_readers, kind_of
from producer.files.grouping import group_requests
from producer.files.layout import FileLayout, Lines
from producer.files.rows import RowReader
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind

DELIMITERS = ",;\t"


def delimited_layout(
    path: str, kind: Kind | None, templates: Mapping[str, str], head: str
) -> FileLayout:
    """Describe a CSV file by its first lines. Raises UnreadableFile."""
    delimiter = max(DELIMITERS, key=head.split("\n", 1)[0].count)
    header, header_lines = _header(path, head, delimiter)
    readers = column_readers(path, header, templates)
    kind = kind or kind_of(path, readers)
    check_columns(path, kind, readers)

    # If a record holds everything that is on its line, the line's cells need not travel with it.
    keep_cells = bool(templates) or not set(header) <= set(readers)

    rows_of = RowReader(path, delimiter, len(header), header_lines).read

    def read(file: BinaryIO) -> Lines:
        rows = rows_of(file)
        if kind is Kind.ENROLLMENTS:
            return group_requests(rows, pair_reader(readers), keep_cells=keep_cells)
        return _records(rows, record_reader(kind, readers), keep_cells=keep_cells)

    return FileLayout(kind, read, tuple(header))


def _header(path: str, head: str, delimiter: str) -> tuple[list[str], int]:
    """Return the column names, and the number of lines that they take.

    They are read strictly: an unclosed quote here would swallow every row.
    """
    reader = csv.reader(io.StringIO(head, newline="\n"), delimiter=delimiter, strict=True)
    try:
        return [cell.strip() for cell in next(reader)], reader.line_num
    except csv.Error as error:
        raise UnreadableFile(
            f"{path}, line 1: the header cannot be read ({error})."
            " Close every quote, and save the file with Unix or Windows line endings."
        ) from None


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
