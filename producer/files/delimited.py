"""Read delimited files: CSV with commas, semicolons or tabs."""

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
    delimiter = max(DELIMITERS, key=head.split("\n", 1)[0].count)
    header = _header(path, head, delimiter)
    made = column_readers(path, header, templates)
    kind = kind or kind_of(path, made)
    check_columns(path, kind, made)

    # Where a record holds all that its line holds, the line need not travel with it.
    whole = not templates and set(header) <= set(made)

    def read(file: BinaryIO) -> Lines:
        rows = read_rows(file, delimiter, len(header))
        if kind is Kind.ENROLLMENTS:
            return group_requests(rows, pair_reader(made), keep=not whole)
        return _records(rows, record_reader(kind, made), keep=not whole)

    return FileLayout(kind, read, tuple(header))


def _header(path: str, head: str, delimiter: str) -> list[str]:
    """The column names; strict, because a quote left open here would swallow every row."""
    reader = csv.reader(io.StringIO(head, newline="\n"), delimiter=delimiter, strict=True)
    try:
        return [cell.strip() for cell in next(reader)]
    except csv.Error as error:
        raise UnreadableFile(
            f"{path}, line 1: the header cannot be read ({error});"
            " close its quotes, and save the file with the line ends of Unix or Windows."
        ) from None


def read_rows(file: BinaryIO, delimiter: str, width: int) -> Iterator[Row | RefusedLine]:
    """Each row's line and its cells, or what is wrong with it."""
    ended = False

    def end() -> Iterator[str]:
        nonlocal ended
        ended = True
        yield from ()

    first = file.readline().removeprefix(BOM).decode("utf-8", "surrogateescape")
    # A byte that is not UTF-8 becomes a surrogate, by which its row is known and refused.
    text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="\n")
    csv.field_size_limit(MAX_CHUNK_BYTES)
    reader = csv.reader(chain([first], text, end()), delimiter=delimiter)
    next(reader)
    line = reader.line_num + 1
    try:
        for row in reader:
            if ended:  # The reader was still asking for more of this row.
                message = "a quote is left open; nothing after this line was read"
                yield RefusedLine(line=line, message=message)
            elif len(row) == width:
                yield line, row
            elif row:
                message = f"has {len(row)} cells where the header has {width}"
                yield RefusedLine(line=line, message=message, cells=storable(row))
            line = reader.line_num + 1
    except csv.Error as error:
        # Where a quote was left open nobody can tell where the next row begins.
        message = f"{error}: a quote may be left open; nothing after this line was read"
        yield RefusedLine(line=line, message=message)
    finally:
        if not file.closed:  # As it is where reading was interrupted.
            text.detach()  # Else it would close the file, which is its owner's.


def _records(
    rows: Iterable[Row | RefusedLine], read: Callable[[list[str]], Any], *, keep: bool
) -> Lines:
    for one in rows:
        if not isinstance(one, tuple):
            yield one
            continue
        line, row = one
        try:
            yield SourceRecord(read(row), [line], [row] if keep else None)
        except BadCell as bad:
            yield refused_line(line, row, bad)
