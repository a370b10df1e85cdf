"""Read a sheet of an Excel workbook as the CSV file that Excel would save.

Row 7 of the sheet is line 7 of that file, so a refused line is found in the workbook. Formulas
count with the result that is stored, and a line break in a cell as a space.
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from functools import partial
from itertools import count, islice
from typing import Any, BinaryIO, NamedTuple

from producer.errors import UnreadableFile
from producer.files.containers import ZIPS, Container, Content, unpack
from producer.files.notices import Notices
from producer.files.raw_bytes import MARK, as_pairs
from producer.files.shorten import shorten
from producer.files.workbook_parts import AS_CSV_UTF8, MAX_PART, Errors, Parts, Sheet

MAX_SEARCHED = 20
"""The most sheets of a workbook that are searched for a table."""
WORKBOOK_ERROR = (
    "holds an error, for example #N/A, a formula without a result, or a number that is too long to"
    " be stored exactly; correct it in the workbook, or submit the sheet as CSV"
)
"""What is wrong with a cell that has no value."""
_EXACT = 2**53
"""Up to this size, every whole number of a cell is exact."""
_HEADER_ROWS = 20
"""Among how many rows the header is looked for."""
_BREAKS = re.compile(r"\s*[\r\n]\s*")
_SHOWN_SHEETS = 10
_PANIC = "PanicException"
_FIRST_NAMES = 4_000
"""Where in a workbook the name of its first part stands."""

IsHeader = Callable[[Sequence[str]], bool]
"""Returns whether these cells are the names of columns of a table that can be read."""


class _Table(NamedTuple):
    """A sheet that was loaded: its rows from the first one on, and the column they begin in."""

    rows: Callable[[], Iterator[list[Any]]]
    first_column: int
    errors: Errors


def is_installed() -> bool:
    """Return whether workbooks can be read here: the extra `xlsx` is installed."""
    try:
        import python_calamine  # noqa: F401, PLC0415 - it may be missing
    except ImportError:
        return False
    return True


def open_content(
    name: str,
    file: BinaryIO,
    beginning: bytes,
    sheet_name: str | None,
    is_header: IsHeader,
) -> Content:
    """Return what a seekable file holds, unpacked; a sheet of it if it is a workbook.

    `beginning` is its first bytes, and `file` yields them again; the other arguments are those of
    `open_workbook`. Raises UnreadableFile.
    """
    if beginning in ZIPS and is_installed():
        sheet = open_workbook(name, file, sheet_name, is_header)
        if sheet is not None:
            return sheet
        file.seek(0)
    return unpack(name, file, beginning)


def open_workbook(
    name: str, file: BinaryIO, sheet_name: str | None, is_header: IsHeader
) -> Content | None:
    """Return a sheet as CSV in UTF-8; None if the zip archive is not a workbook.

    Without `sheet_name`, it is the first visible sheet with a header, or the first that is not
    empty. Raises UnreadableFile if there is no such sheet, or if it cannot be read.
    """
    parts = Parts(name, file)
    if not parts.is_workbook:
        return None
    parts.check()
    sheets = parts.sheets()
    workbook = _Workbook(name, parts)
    if sheet_name is None:
        sheet, table = workbook.first_table(sheets, is_header)
    else:
        sheet = _named(name, sheets, sheet_name)
        table = workbook.load(sheet)
    shown = shorten(sheet.name)
    notices = Notices()
    if sheet_name is None:
        _notice_others(name, sheet, sheets, notices)
    if parts.pads_numbers():
        notices.add(
            f"{name} shows some numbers with zeros in front that it does not store; if ids lack"
            f" their zeros, {AS_CSV_UTF8}."
        )
    name = f"{name}, sheet {shown}"
    lines = _lines(name, table, notices)
    content = io.BufferedReader(_Generated(lines), 1 << 16)
    names = tuple(each.name for each in sheets)
    return Content(name, content, Container.WORKBOOK, sheet.name, notices, names)


def check_cut_workbook(name: str, beginning: bytes, most: int) -> None:
    """Raise UnreadableFile for the beginning of a workbook, which cannot be read without its end.

    `most` is the most bytes of a file that a preview reads.
    """
    is_office = b"[Content_Types].xml" in beginning[:_FIRST_NAMES]
    if is_installed() and is_office and b"xl/w" in beginning:
        raise UnreadableFile(
            f"{name} is an Excel workbook, and only its beginning was read; send the whole file if"
            f" it has at most {most:,} bytes, or submit it without a preview."
        )


class _Workbook:
    """The sheets of a workbook, each of which is examined before a library gets a copy of it."""

    def __init__(self, name: str, parts: Parts) -> None:
        self._name = name
        self._parts = parts

    def load(self, sheet: Sheet) -> _Table:
        """Return the rows of a sheet. Raises UnreadableFile."""
        from python_calamine import CalamineWorkbook  # noqa: PLC0415 - optional

        errors = self._parts.examine(sheet)
        with _errors_named(self._name):
            workbook = CalamineWorkbook.from_filelike(self._parts.copy(sheet))
            loaded = workbook.get_sheet_by_name(sheet.name)
        return _Table(partial(self._rows, loaded), (loaded.start or (0, 0))[1], errors)

    def _rows(self, loaded: Any) -> Iterator[list[Any]]:
        """Yield the rows of a sheet that was loaded. Raises UnreadableFile."""
        with _errors_named(self._name):
            yield from loaded.iter_rows()

    def first_table(self, sheets: Sequence[Sheet], is_header: IsHeader) -> tuple[Sheet, _Table]:
        """Return the first visible sheet with a header, or else the first that is not empty."""
        fallback = None
        for sheet in self._searched([sheet for sheet in sheets if sheet.visible]):
            table = self.load(sheet)
            rows = [list(map(text_of, row)) for row in islice(table.rows(), _HEADER_ROWS)]
            filled = [row for row in rows if any(map(str.strip, row))]
            if filled and is_header(filled[0]):
                return sheet, table
            if filled and fallback is None:
                fallback = sheet
        if fallback is None:
            raise UnreadableFile(
                f"{self._name} is an Excel workbook whose visible sheets are empty; fill in a"
                " table, or submit the right file."
            )
        return fallback, self.load(fallback)

    def _searched(self, sheets: Sequence[Sheet]) -> Iterator[Sheet]:
        """Yield sheets to look for a table in. Raises UnreadableFile once there are too many."""
        size = 0
        for number, sheet in enumerate(sheets):
            size += self._parts.size_of(sheet)
            if number and (number == MAX_SEARCHED or size > MAX_PART):
                raise UnreadableFile(
                    f"{self._name} has too many or too large sheets to be searched for a table:"
                    f" {_listed(sheets)}; name the sheet that you mean.",
                    "sheet",
                )
            yield sheet


@contextmanager
def _errors_named(name: str) -> Iterator[None]:
    """Raise UnreadableFile for whatever a library raises that reads a workbook.

    At some damaged values it raises a panic, which is not a subclass of Exception.
    """
    try:
        yield
    except (UnreadableFile, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        raise UnreadableFile(
            f"{name} is an Excel workbook that cannot be read: {error}. Open it in Excel, and"
            f" save it again, or {AS_CSV_UTF8}."
        ) from None


def _named(name: str, sheets: Sequence[Sheet], sheet_name: str) -> Sheet:
    """Return the sheet with this name, also a hidden one. Raises UnreadableFile."""
    for sheet in sheets:
        if sheet.name.strip().casefold() == sheet_name.strip().casefold():
            return sheet
    raise UnreadableFile(
        f"{name} has no sheet {shorten(sheet_name)}; its sheets are {_listed(sheets)}.", "sheet"
    )


def _notice_others(name: str, sheet: Sheet, sheets: Sequence[Sheet], notices: Notices) -> None:
    others = [other for other in sheets if other != sheet]
    if others:
        notices.add(
            f"{name}: only the sheet {shorten(sheet.name)} is read, and not {_listed(others)}; to"
            " submit another sheet, name it."
        )


def _listed(sheets: Sequence[Sheet]) -> str:
    more = len(sheets) - _SHOWN_SHEETS
    names = ", ".join(shorten(sheet.name) for sheet in sheets[:_SHOWN_SHEETS])
    return f"{names} and {more:,} more" if more > 0 else names


def _lines(name: str, table: _Table, notices: Notices) -> Iterator[bytes]:
    """Yield the rows as lines of CSV; a cell with an error becomes bytes that are not UTF-8."""
    written: list[str] = []
    header = csv.writer(_Sink(written), lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    others = csv.writer(_Sink(written), lineterminator="\r\n")
    margin = [""] * table.first_column
    errors = table.errors
    faulty = {row for row, _ in errors}
    is_below_header = False
    yield codecs.BOM_UTF8  # The file of refused lines has it too, for Excel.
    empty: list[Any] = []
    for row, values in zip(count(), table.rows(), strict=False):
        if values == empty and row not in faulty:
            yield b"\r\n"  # A single cell far below the table makes a million of such rows.
            continue
        empty = [""] * len(values)
        cells = margin + list(map(text_of, values))
        if row in faulty:
            cells = [
                _marked(errors[row, at]) if (row, at) in errors else cell
                for at, cell in enumerate(cells)
            ]
        if any("\n" in cell or "\r" in cell for cell in cells):
            notices.add(f"{name} has line breaks in cells, which are read as spaces.")
            cells = [_BREAKS.sub(" ", cell) for cell in cells]
        if not is_below_header and any(map(str.strip, cells)):
            is_below_header = True
            header.writerow(cells)  # In quotes, no name of a column is taken for several.
        else:
            others.writerow(cells)
        yield written.pop().encode("utf-8", "surrogateescape")


class _Sink:
    """Takes what a writer of CSV writes."""

    def __init__(self, written: list[str]) -> None:
        self.write = written.append


def text_of(value: Any) -> str:
    """Return the text of a value of a cell: numbers without .0, dates and times in ISO 8601."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


def _number(value: float) -> str:
    if not value.is_integer():
        return repr(value)
    return str(int(value)) if abs(value) <= _EXACT else _marked(repr(value))


def _marked(text: str) -> str:
    """Return text that is not a value, so that a reader refuses its line."""
    return MARK + as_pairs(text.encode())


class _Generated(io.RawIOBase):
    """Lines that are made while they are read."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ready:
            self._ready = b"".join(islice(self._lines, 500))
        piece = self._ready[: len(buffer)]
        self._ready = self._ready[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)
