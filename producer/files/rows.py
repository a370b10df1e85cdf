"""Divide a CSV file into rows, and account for every line of it.

A quote that is never closed, or closed by a stray quote many lines later, makes one cell of all
lines between them. `csv` has no way to tell such a cell from a real one, so it is checked here: the
line with the quote is refused, and reading goes on at the line after it.
"""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple, cast

from producer.contract.chunks import RefusedLine
from producer.fields import MAX_CHUNK_BYTES
from producer.files.account import Account
from producer.files.beginning import FileGoesOn
from producer.files.cells import Row
from producer.files.layout import NOT_UTF8
from producer.files.raw_bytes import storable
from producer.files.row_blocks import RowBlock, plain_text, row_block

MAX_CELL_LINES = 100
"""The most lines that one row may take because of line ends inside quotes."""

BLOCK_BYTES = 16_384
"""How much of a file is examined at once."""

_NUMBER = re.compile(r'"?[0-9]')
"""How a row begins whose first cell is a number."""

_QUOTED = re.compile(rb'"[^"]*(?:"|$)')

_CUT_LETTER = re.compile(rb"[\xc2-\xf4][\x80-\xbf]{0,2}\Z")
"""The first bytes of a letter in UTF-8, at the end of a file that was cut off within it."""

_CLOSING = re.compile(r'(?<!")(?:"")*"(?!")')
"""The quote that closes a cell: not one of a pair, which stands for a quote in the cell."""


_STRAY_QUOTE = (
    'a quote (") in this line has no matching quote; remove it, close it on this line, or write it'
    ' twice ("") if it is part of the text'
)

CUT_OFF = (
    "; the file ends in this line without a line end, as if a download had been cut off: if it was,"
    " get the file again"
)
"""What is added to the refusal of a last line that seems to be cut off."""


class _BadLine(NamedTuple):
    """A line that no row can hold: what is wrong with it, and at which byte."""

    problem: str
    raw: bytes
    position: int


class _Lines:
    """The lines of a block, and of what follows it in the file, as `csv.reader` takes them.

    The iteration ends before a line that no row can hold, after `MAX_CELL_LINES` lines without the
    end of a row, at the end of the file, and after the block, except within a row.
    """

    def __init__(self, block: bytes, file: BinaryIO, number: int, undecodable: str) -> None:
        self._undecodable = undecodable
        self._block = io.BytesIO(block)
        self._file = file
        self.number = number
        """The number of the last line that was taken."""
        self.row_ended_at = number
        self.recent: deque[str] = deque(maxlen=MAX_CELL_LINES)
        self._returned: list[str] = []
        self._bad: _BadLine | None = None
        self._at_end = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._returned:
            line = self._returned.pop()
        elif self._bad is not None or self.number - self.row_ended_at >= MAX_CELL_LINES:
            raise StopIteration
        else:
            line = self._read()
        self.number += 1
        self.recent.append(line)
        return line

    def _read(self) -> str:
        raw = self._block.readline(MAX_CHUNK_BYTES + 1)
        if not raw.endswith(b"\n") and (raw or self.number > self.row_ended_at):
            raw += self._file.readline(MAX_CHUNK_BYTES + 1 - len(raw))
        if not raw:
            self._at_end = True
            raise StopIteration
        if len(raw) > MAX_CHUNK_BYTES:
            self._skip_rest(raw)
            problem = f"the line is longer than {MAX_CHUNK_BYTES} bytes; shorten or split it"
            self._bad = _BadLine(problem, b"", 0)
        elif b"\x00" in raw or b"\x1a" in raw or raw.count(b"\r") != raw.endswith(b"\r\n"):
            self._bad = _bad_character(raw)
        if self._bad is None:
            try:
                return raw.decode()
            except UnicodeDecodeError as error:
                self._bad = _BadLine(self._undecodable, raw, error.start)
        raise StopIteration

    def _skip_rest(self, raw: bytes) -> None:
        while raw and not raw.endswith(b"\n"):
            raw = self._block.readline(MAX_CHUNK_BYTES) or self._file.readline(MAX_CHUNK_BYTES)

    @property
    def finished(self) -> bool:
        """Return whether every line was taken."""
        return self._at_end and not self._returned

    def resume(self) -> _BadLine | None:
        """Pass over the line before which the iteration ended, and return it, if there is one."""
        if self._bad is None or self._returned:
            return None
        bad, self._bad = self._bad, None
        self.number += 1
        self.row_ended_at = self.number
        return bad

    def give_back(self, lines: Sequence[str]) -> None:
        """Have lines taken again."""
        self._returned += reversed(lines)
        self.number -= len(lines)
        self.row_ended_at = self.number


_BAD_CHARACTERS = {
    b"\x00": "contains the character NUL; remove it",
    b"\x1a": "contains Ctrl-Z, an old mark for the end of a file; remove it",
    b"\r": "contains a carriage return, which may only stand at the end of a line; remove it",
}


def _bad_character(raw: bytes) -> _BadLine | None:
    end = len(raw.rstrip(b"\r\n"))
    for character, problem in _BAD_CHARACTERS.items():
        position = raw.find(character, 0, end)
        if position >= 0:
            return _BadLine(problem, raw, position)
    return None


class RowReader:
    """Reads the rows of a file after its header: (line, cells), or the refusal of a line.

    `undecodable` is the problem of a cell that is not UTF-8. `numbered` is set if each row begins
    with a number, as in a file of refused lines; then no other line can be a row. A row has `width`
    cells; one with fewer, but at least `fewest`, is completed with empty ones.
    """

    def __init__(
        self,
        name: str,
        delimiter: str,
        width: int,
        header_lines: int = 1,
        undecodable: str = NOT_UTF8,
        *,
        numbered: bool = False,
        fewest: int | None = None,
    ) -> None:
        self._undecodable = undecodable
        self._numbered = numbered
        self._name = name
        self._delimiter = delimiter
        self._width = width
        self._fewest = width if fewest is None else fewest
        self._header_lines = header_lines
        self.account = Account()
        """Where the lines went that were read."""
        self.block: str | None = None
        """The lines that are being read, if nothing but the delimiter has a meaning in them."""

    def read(self, file: BinaryIO) -> Iterator[Row | RefusedLine]:
        """Yield every row of a file that is at its beginning. Raises UnreadableFile.

        The file may be a `Beginning`; then the rows end before the first one that is not whole.
        """
        with suppress(FileGoesOn):
            yield from cast("Iterator[Row | RefusedLine]", self._read(file, None))

    def read_blocks(self, file: BinaryIO, ids_at: int) -> Iterator[Row | RefusedLine | RowBlock]:
        """Yield what `read` yields, with the rows of plain lines together in blocks.

        `ids_at` is the position of a column with ids.
        """
        with suppress(FileGoesOn):
            yield from self._read(file, ids_at)

    def _read(self, file: BinaryIO, ids_at: int | None) -> Iterator[Row | RefusedLine | RowBlock]:
        account = self.account
        account.begin(self._header_lines)
        for _ in range(self._header_lines):
            file.readline()
        csv.field_size_limit(MAX_CHUNK_BYTES)
        number = self._header_lines
        is_first = not self._header_lines
        while block := file.read(BLOCK_BYTES) + file.readline(MAX_CHUNK_BYTES):
            if is_first:  # Above a header, the mark would be skipped with it.
                block, is_first = block.removeprefix(codecs.BOM_UTF8), False
            if not block.strip(b"\r\n") and block.count(b"\r") in (0, block.count(b"\r\n")):
                blank = block.count(b"\n")
                account.blank += blank
                number += blank
                is_first = False
                continue
            self.block = text = plain_text(block)
            if text is not None:
                rows = self._block(text, number, ids_at)
                if rows is not None:
                    account.rows += len(rows.texts)
                    yield rows
                else:
                    yield from self._plain_rows(text, number, account)
                number += block.count(b"\n")
                continue
            lines = _Lines(block, file, number, self._undecodable)
            while not lines.finished:
                yield from self._rows(lines, account)
                bad = lines.resume()
                if bad is not None:
                    account.refused += 1
                    yield self._refuse_bad(lines.number, bad)
            number = lines.number
        account.check(self._name, number)

    def _block(self, text: str, number: int, ids_at: int | None) -> RowBlock | None:
        """Return the rows of plain lines as a block, if blocks are wanted and they are even."""
        if ids_at is None:
            return None
        return row_block(text, number + 1, self._delimiter, self._width, ids_at)

    def _plain_rows(self, text: str, number: int, account: Account) -> Iterator[Row | RefusedLine]:
        """Yield the rows of lines in which nothing but the delimiter has a meaning."""
        width, delimiter = self._width, self._delimiter
        lines = text.split("\n")
        del lines[-1]  # Nothing follows the last line end.
        others = 0
        for line, whole in enumerate(lines, number + 1):
            row = whole.split(delimiter)  # This takes half of the time that `csv` takes.
            if len(row) == width and (row[0].strip() or _holds_text(row)):
                yield line, row
            elif self._fewest <= len(row) < width and _holds_text(row):
                yield line, row + [""] * (width - len(row))
            elif _holds_text(row):
                others += 1
                account.refused += 1
                yield _wrong_width(line, row, width, self._fewest)
            else:
                others += 1
                account.blank += 1
        account.rows += len(lines) - others

    def _rows(self, lines: _Lines, account: Account) -> Iterator[Row | RefusedLine]:
        """Yield rows until the lines end, or a row has more than one line that is not its own."""
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        start, width = lines.number, self._width
        before = 0
        try:
            for row in reader:
                taken, before = reader.line_num - before, reader.line_num
                lines.row_ended_at = lines.number
                if taken > 1 and not self._is_one_row(list(lines.recent)[-taken:], row):
                    yield self._refuse_first(lines, taken, account)
                    return
                account.continued += taken - 1
                first = start + before - taken + 1
                if not _holds_text(row):
                    account.blank += 1
                elif self._fewest <= len(row) <= width:
                    account.rows += 1
                    yield first, row + [""] * (width - len(row))
                else:
                    account.refused += 1
                    yield _hinting(lines.recent[-1], _wrong_width(first, row, width, self._fewest))
        except csv.Error:
            taken = reader.line_num - before
            row = self._without_spaces(lines.recent[-1]) if taken == 1 else []
            if len(row) == width:
                lines.row_ended_at = lines.number
                account.rows += 1
                yield lines.number, row
            else:
                yield self._refuse_first(lines, taken, account)

    def _is_one_row(self, lines: Sequence[str], row: Sequence[str]) -> bool:
        """Return whether a row of several lines is meant: it is complete, and no part of it is."""
        *inner, closing = lines[1:]
        last = _CLOSING.search(closing)
        if len(row) != self._width or last is None:
            return False
        quote = last.end() - 1
        if any(self._is_row(line) for line in (*inner, closing[:quote])):
            return False
        opens_cell = quote == 0 or closing[quote - 1] == self._delimiter
        is_row = opens_cell and closing.count(self._delimiter) + 1 == self._width
        return not (is_row and self._begins_row(closing))

    def _is_row(self, line: str) -> bool:
        """Return whether a line could be a row by itself."""
        return self._begins_row(line) and len(self._cells(line)) == self._width

    def _begins_row(self, line: str) -> bool:
        return not self._numbered or _NUMBER.match(line) is not None

    def _without_spaces(self, line: str) -> list[str]:
        """Return the cells of a line whose closing quotes are followed by spaces, else nothing."""
        delimiter = re.escape(self._delimiter)
        return self._cells(re.sub(rf'" +(?={delimiter}|\r?\n?$)', '"', line))

    def _cells(self, line: str) -> list[str]:
        """Return the cells of a line by itself; nothing if it is not a complete row."""
        try:
            return next(csv.reader([line], delimiter=self._delimiter, strict=True), [])
        except csv.Error:
            return []

    def _refuse_first(self, lines: _Lines, taken: int, account: Account) -> RefusedLine:
        """Refuse the first of the lines that were taken, and give the others back."""
        first, *others = list(lines.recent)[-taken:]
        lines.give_back(others)
        account.refused += 1
        return _hinting(first, self._refused(lines.number, _STRAY_QUOTE, first))

    def _refuse_bad(self, line: int, bad: _BadLine) -> RefusedLine:
        if not bad.raw:
            return RefusedLine(line=line, message=bad.problem)
        before = _QUOTED.sub(b"", bad.raw[: bad.position])
        cell = before.count(self._delimiter.encode()) + 1
        text = bad.raw.decode("utf-8", "surrogateescape")
        refused = self._refused(line, f"cell {cell} {bad.problem}", text)
        is_cut = _CUT_LETTER.match(bad.raw, bad.position)
        return _hinting(text, refused) if is_cut else refused

    def _refused(self, line: int, message: str, text: str) -> RefusedLine:
        """Return the refusal of a line, with its cells.

        If its quotes are wrong, it is cut at the delimiters; those within quotes do not count if
        that makes as many cells as the header has.
        """
        text = text.rstrip("\r\n")
        cells = self._cells(text)
        if len(cells) != self._width:
            cells = _split_outside_of_quotes(text, self._delimiter)
        if len(cells) != self._width:
            cells = text.split(self._delimiter)
        return RefusedLine(line=line, message=message, cells=storable(cells))


def _split_outside_of_quotes(text: str, delimiter: str) -> list[str]:
    """Return the cells of a line as they are written, with their quotes."""
    cells = []
    start = 0
    hidden = re.sub('"[^"]*"', lambda quoted: "x" * len(quoted[0]), text)
    for cell in hidden.split(delimiter):
        cells.append(text[start : start + len(cell)])
        start += len(cell) + 1
    return cells


def _hinting(last: str, refused: RefusedLine) -> RefusedLine:
    """Return the refusal of a row with a hint if its last line is cut off, as it seems."""
    if last.endswith("\n"):
        return refused
    return refused.model_copy(update={"message": refused.message + CUT_OFF})


def _holds_text(row: Sequence[str]) -> bool:
    return any(map(str.strip, row))


def _wrong_width(line: int, row: Sequence[str], width: int, fewest: int) -> RefusedLine:
    cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
    expected = f"the header has {width}" if fewest == width else f"needs {fewest} to {width}"
    remedy = "check the separators and quotes"
    if len(row) > width and not _holds_text(row[width:]):
        remedy = "those after the last column are empty: remove them, or name their columns"
    message = f"the line has {cells}, but {expected}; {remedy}"
    return RefusedLine(line=line, message=message, cells=storable(row))
