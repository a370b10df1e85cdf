"""Read CSV files, with commas, semicolons or tabs between the cells."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, BinaryIO

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files.cells import BadCell, Row, pair_reader, record_reader, refused_line, storable
from producer.files.columns import check_columns, column_readers, kind_of
from producer.files.grouping import group_requests
from producer.files.layout import BOM, FileLayout, Lines
from producer.publishing.chunking import SourceRecord
from producer.schemas import MAX_CHUNK_BYTES, Kind

DELIMITERS = ",;\t"


def delimited_layout(
    path: str, kind: Kind | None, templates: Mapping[str, str], head: str
) -> FileLayout:
    """Describe a CSV file by its first lines. Raises UnreadableFile."""
    delimiter = max(DELIMITERS, key=head.split("\n", 1)[0].count)
    header = _header(path, head, delimiter)
    readers = column_readers(path, header, templates)
    kind = kind or kind_of(path, readers)
    check_columns(path, kind, readers)

    # If a record holds everything that is on its line, the line's cells need not travel with it.
    keep_cells = bool(templates) or not set(header) <= set(readers)

    def read(file: BinaryIO) -> Lines:
        rows = read_rows(file, delimiter, len(header))
        if kind is Kind.ENROLLMENTS:
            return group_requests(rows, pair_reader(readers), keep_cells=keep_cells)
        return _records(rows, record_reader(kind, readers), keep_cells=keep_cells)

    return FileLayout(kind, read, tuple(header))


def _header(path: str, head: str, delimiter: str) -> list[str]:
    """Return the column names, read strictly: an unclosed quote here would swallow every row."""
    reader = csv.reader(io.StringIO(head, newline="\n"), delimiter=delimiter, strict=True)
    try:
        return [cell.strip() for cell in next(reader)]
    except csv.Error as error:
        raise UnreadableFile(
            f"{path}, line 1: the header cannot be read ({error})."
            " Close every quote, and save the file with Unix or Windows line endings."
        ) from None


def read_rows(file: BinaryIO, delimiter: str, width: int) -> Iterator[Row | RefusedLine]:
    """Yield the line number and the cells of each row, or a refusal if the row is malformed."""
    at_end = False

    def note_end() -> Iterator[str]:
        nonlocal at_end
        at_end = True
        yield from ()

    header = file.readline().removeprefix(BOM).decode("utf-8", "surrogateescape")
    # A byte that is not UTF-8 becomes a surrogate, so that its row can be recognized and refused.
    text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="\n")
    csv.field_size_limit(MAX_CHUNK_BYTES)
    reader = csv.reader(chain([header], text, note_end()), delimiter=delimiter)
    next(reader)
    line = reader.line_num + 1
    try:
        for row in reader:
            if at_end:  # The file ended inside a quote: the reader still wanted more of this row.
                message = (
                    "a quote on this line is never closed, so nothing after this line was read;"
                    " close the quote and submit the file again"
                )
                yield RefusedLine(line=line, message=message)
            elif len(row) == width:
                yield line, row
            elif row:
                cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
                message = (
                    f"the line has {cells}, but the header has {width};"
                    " check the separators and quotes"
                )
                yield RefusedLine(line=line, message=message, cells=storable(row))
            line = reader.line_num + 1
    except csv.Error as error:
        # After an unclosed quote, it is impossible to know where the next row begins.
        message = (
            f"{error}: a quote on this line is probably not closed, so nothing after this line was"
            " read; close the quote and submit the file again"
        )
        yield RefusedLine(line=line, message=message)
    finally:
        if not file.closed:  # The file is already closed if reading was interrupted.
            text.detach()  # Otherwise the wrapper would close the file, which the caller owns.


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
