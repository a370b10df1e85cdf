"""Read CSV files, with commas, semicolons, tabs or vertical bars between the cells."""

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, NamedTuple

from producer.contract.chunks import RefusedLine
from producer.contract.file_forms import FileForm
from producer.contract.printable import printable
from producer.errors import UnreadableFile
from producer.fields import MAX_COLUMNS, MAX_TEMPLATE
from producer.files.beginning import open_lines
from producer.files.cells import (
    Row,
    operation_reader,
    pair_reader,
    plain_places,
    record_reader,
    refused_line,
)
from producer.files.columns import (
    ACTION,
    BadCell,
    ColumnReader,
    choose_columns,
    column_readers,
    columns_read,
    kind_of,
    plain_name,
    wanted_columns,
)
from producer.files.first_line import DELIMITERS, looks_like, undecoded
from producer.files.formats.secrets import without_unread_passwords
from producer.files.formulas import unguard
from producer.files.grouping import group_requests
from producer.files.layout import NOT_ALL_DROPS, NOT_UTF8, FileLayout, Lines
from producer.files.notices import Notices
from producer.files.plain_pairs import group_plain_pairs
from producer.files.raw_bytes import storable
from producer.files.refused_lines import GUARDED, LINE
from producer.files.roster_notices import noticing_values
from producer.files.rows import RowReader
from producer.files.second_header import refuse_below_others
from producer.files.shorten import shorten
from producer.files.unread_columns import watching
from producer.publishing.chunking import SourceRecord
from producer.schemas import Action, Kind

MAX_HEADER = 50_000
"""The most characters that the names of the columns may have together."""

_EXCEL = re.compile(r'\ufeff?sep=([^"\r\n\0])\r?(?:\n|$)', re.IGNORECASE)
"""The line that names the delimiter for Excel."""
_BLANK = DELIMITERS + " \r\n"
"""Lines above the header that have only these characters are skipped."""


def delimited_layout(
    path: str,
    kind: Kind | None,
    templates: Mapping[str, str],
    head: str,
    notices: Notices,
    undecodable: str = NOT_UTF8,
    *,
    drop: bool = False,
    goes_on: bool = False,
) -> FileLayout:
    """Describe a CSV file by its first lines. Raises UnreadableFile.

    `undecodable` says what is wrong with a cell whose bytes could not be decoded. With `drop`,
    every line is a drop. `goes_on` is set if the last line of `head` may not be whole.
    """
    header = (found := find_header(path, head, templates)).names
    kind, readers = _choose(path, kind, found, templates, drop=drop)
    is_roster, ordered = kind is not Kind.ENROLLMENTS, ACTION in readers
    # If a record holds everything that is on its line, the line's cells need not travel with it.
    keep_cells = bool(templates) or not set(header) <= set(readers)
    row_reader = found.row_reader(path, undecodable)
    used = columns_read(readers, templates)
    unread = [(at, name) for at, name in enumerate(header) if plain_name(name) not in used]
    watch = None if drop else watching(path, kind, unread, notices, seeks_drops=not ordered)
    places = None if keep_cells else plain_places(readers, header, templates)
    as_records = _record_maker(kind, readers, places, drop=drop, keep_cells=keep_cells)

    def read(file: BinaryIO, *, is_whole: bool = True) -> Lines:
        rows = without_unread_passwords(row_reader.read(file), unread, len(header))
        if found.is_guarded:
            rows = without_guards(rows, header.index(GUARDED))
        rows = refuse_below_others(rows, row_reader, header, used)
        records = as_records(watch(rows, is_whole=is_whole) if watch else rows)
        return noticing_values(path, records, notices) if is_roster else records

    if is_roster or watch is not None:
        # The first lines are read here too, so that notices come before anything is submitted.
        first_lines = head.encode(errors="replace")
        deque(read(open_lines(first_lines, goes_on=goes_on), is_whole=False), maxlen=0)
    if not found.rows_follow and not goes_on:
        notices.add(f"{path} has a header but no rows.")
    form = mapped_form(found.form, templates, drop=drop)
    about = (row_reader.account, storable(header), form, _mapping(header, readers, templates))
    return FileLayout(kind, read, notices, *about, ordered, drop, found.first)


def _choose(
    path: str,
    kind: Kind | None,
    found: "Header",
    templates: Mapping[str, str],
    *,
    drop: bool,
) -> tuple[Kind, dict[str, ColumnReader]]:
    """Return the kind of the records, and the readers of its columns. Raises UnreadableFile."""
    with _showing(found):
        _check_size(path, found.names)
        readers = column_readers(path, found.names, templates)
    with _naming_encoding(found):
        kind = kind or kind_of(path, readers, found.first_line, found.looks_like, templates)
    with _naming_encoding(found), _showing(found):
        readers = choose_columns(path, kind, found.names, readers, templates)
        if drop:
            _check_drops(path, kind, readers)
    return kind, readers


def _record_maker(
    kind: Kind,
    readers: Mapping[str, ColumnReader],
    places: tuple[int, int] | None,
    *,
    drop: bool,
    keep_cells: bool,
) -> Callable[[Iterator[Row | RefusedLine]], Lines]:
    """Return a function that makes records of rows; with `drop`, every row is a drop."""
    if ACTION in readers:
        return partial(_records, read=operation_reader(readers), keep_cells=True)
    if kind is Kind.ENROLLMENTS:
        read, action = pair_reader(readers), Action.DROP if drop else Action.ENROLL
        if places is not None:
            return partial(group_plain_pairs, places=places, read=read, action=action)
        return partial(group_requests, read=read, action=action, keep_cells=keep_cells)
    return partial(_records, read=record_reader(kind, readers), keep_cells=keep_cells)


def _check_drops(path: str, kind: Kind, names: Iterable[str]) -> None:
    """Raise UnreadableFile if the lines of a file cannot all be drops."""
    if kind is not Kind.ENROLLMENTS:
        raise UnreadableFile(
            f"{path} holds {kind}, and only enrollments can be dropped; {NOT_ALL_DROPS}.", "drop"
        )
    if ACTION in names:
        raise UnreadableFile(
            f"{path} has a column action, which says for each line whether it is a drop;"
            f" {NOT_ALL_DROPS}, or rename the column if it means something else.",
            "drop",
        )


class Header(NamedTuple):
    """The header of a file: the names of the columns, and where and how they are written."""

    names: list[str]
    delimiter: str
    first: int
    """The line in which it begins, counted from 1."""
    lines: int
    """The number of lines up to the end of the header."""
    first_line: str
    looks_like: str
    """A sentence about the first line; empty if it looks like a header."""
    form: FileForm
    """How the file is written, except for its encoding."""
    is_guarded: bool
    """Whether the file was written for spreadsheets, with guards against formulas."""
    rows_follow: bool

    def row_reader(self, path: str, undecodable: str, fewest: int | None = None) -> RowReader:
        """Return a reader of the rows below the header, which may lack cells after `fewest`."""
        shape = (self.delimiter, len(self.names), self.lines)
        return RowReader(
            path, *shape, undecodable, numbered=self.names[:1] == [LINE], fewest=fewest
        )


def find_header(path: str, head: str, templates: Mapping[str, str]) -> Header:
    """Find the header in the first lines of a file. Raises UnreadableFile if there is no text.

    It has no names if they cannot be read, because of a quote that is not closed.
    """
    sep_line = _EXCEL.match(head)
    text = head.removeprefix("\ufeff") if sep_line is None else head[sep_line.end() :]
    filled = text.lstrip(_BLANK)
    if not filled:
        raise UnreadableFile(
            f"{path} is empty, except for separators; submit a CSV file with a header line."
        )
    header_at = text.rfind("\n", 0, len(text) - len(filled)) + 1
    lines_above = (sep_line is not None) + text.count("\n", 0, header_at)
    text = text[header_at:]
    delimiter = _delimiter(text, DELIMITERS if sep_line is None else sep_line[1], templates)
    names, lines = _header(text, delimiter)
    is_guarded = GUARDED in names
    return Header(
        names=list(map(unguard, names)) if is_guarded else names,
        delimiter=delimiter,
        first=lines_above + 1,
        lines=lines_above + lines,
        first_line=text.partition("\n")[0],
        looks_like=undecoded(text.partition("\n")[0])
        or _wrong_sep_line(text, delimiter, templates)
        or looks_like(text, delimiter, templates, lines_above),
        form=FileForm(
            delimiter=delimiter,
            line_end="\r\n" if head.partition("\n")[0].endswith("\r") else "\n",
            names_delimiter=sep_line is not None,
        ),
        is_guarded=is_guarded,
        rows_follow=bool("".join(text.split("\n", lines)[lines:]).strip()),
    )


def _mapping(
    header: Sequence[str], names: Iterable[str], templates: Mapping[str, str]
) -> dict[str, str]:
    """Return what each of our columns is read from, as it can be shown."""
    columns = {plain_name(column): column for column in reversed(header)}
    return {name: printable(templates.get(name) or columns[name]) for name in names}


def mapped_form(form: FileForm, templates: Mapping[str, str], *, drop: bool = False) -> FileForm:
    """Return the form of a file with what its submitter said, except for a huge template."""
    is_huge = any(len(template) > MAX_TEMPLATE for template in templates.values())
    # A name that could not be decoded is sent as it is among the columns.
    sent = dict(zip(templates, storable(templates.values()), strict=True))
    mapping = None if is_huge else sent or None
    return form.model_copy(update={"mapping": mapping, "drop": drop})


def _check_size(path: str, header: Sequence[str]) -> None:
    """Raise UnreadableFile if the header is too large: it travels with every chunk."""
    if len(header) > MAX_COLUMNS:
        raise UnreadableFile(
            f"{path} has {len(header):,} columns, and at most {MAX_COLUMNS:,} can be read; remove"
            " those that are not needed."
        )
    size = sum(map(len, header))
    if size > MAX_HEADER:
        raise UnreadableFile(
            f"The names of the columns of {path} have {size:,} characters in all, and at most"
            f" {MAX_HEADER:,} can be read; shorten them, or check that line 1 is the header."
        )


def without_guards(rows: Iterator[Row | RefusedLine], guarded: int) -> Iterator[Row | RefusedLine]:
    """Yield the rows of a file for spreadsheets; the column at `guarded` says which have guards."""
    for entry in rows:
        if isinstance(entry, tuple) and entry[1][guarded].strip():
            line, row = entry
            cells = list(map(unguard, row))
            cells[guarded] = ""
            yield line, cells
        else:
            yield entry


@contextmanager
def _showing(header: Header) -> Iterator[None]:
    """Add the first line, and what it looks like, to an error about the header."""
    try:
        yield
    except UnreadableFile as error:
        sentences = [str(error), f"The first line is {shorten(header.first_line)}."]
        raise UnreadableFile(
            " ".join(filter(None, [*sentences, header.looks_like])), *error.options
        ) from None


@contextmanager
def _naming_encoding(header: Header) -> Iterator[None]:
    """Name the option of the encoding, too, if the first line could not be decoded."""
    try:
        yield
    except UnreadableFile as error:
        if undecoded(header.first_line):
            raise UnreadableFile(str(error), *error.options, "encoding") from None
        raise


def _delimiter(text: str, delimiters: str, templates: Mapping[str, str]) -> str:
    """Return the delimiter that shows the most columns that are wanted, or else the most cells."""
    outside_of_quotes = re.sub('"[^"]*"', "", text.partition("\n")[0])

    def shown_by(delimiter: str) -> tuple[int, int]:
        header, _ = _header(text, delimiter)
        return wanted_columns(header, templates), outside_of_quotes.count(delimiter)

    return max(delimiters, key=shown_by)


def _wrong_sep_line(text: str, delimiter: str, templates: Mapping[str, str]) -> str:
    """Return a sentence if the delimiter is only that of a line `sep=`, and no cell shows it."""
    other = _delimiter(text, DELIMITERS, templates)
    shown = wanted_columns(_header(text, other)[0], templates)
    if other == delimiter or shown <= wanted_columns(_header(text, delimiter)[0], templates):
        return ""
    return (
        f"The line sep= above it names {delimiter!r}, but its cells seem to be separated by"
        f" {other!r}; correct that line, or remove it."
    )


def _header(text: str, delimiter: str) -> tuple[list[str], int]:
    """Return the column names, none if they cannot be read, and the number of lines they take.

    They are read strictly: an unclosed quote here would swallow every row.
    """
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    try:
        return [cell.strip() for cell in next(reader)], reader.line_num
    except csv.Error:
        return [], 1


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
