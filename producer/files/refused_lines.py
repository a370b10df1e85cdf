"""Write the refused lines of a batch to a file that can be corrected and submitted again."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, BinaryIO, NamedTuple

from producer.contract.batches import RefusedRecord
from producer.contract.chunks import COURSE_FIELDS
from producer.contract.file_forms import FileForm
from producer.errors import UnreadableFile
from producer.files.columns import ACTION, COURSE_COLUMNS, STUDENT_COLUMNS, plain_name
from producer.files.first_line import DELIMITERS
from producer.files.formulas import guard, unguard
from producer.files.raw_bytes import encoded
from producer.files.text_form import known_encoding
from producer.schemas import Action

LINE, CODE, MESSAGE = "refused_line", "refused_code", "refused_message"
GUARDED = "refused_guarded"
"""The column that says in which lines cells are guarded, in the file for spreadsheets."""
ADDED = (LINE, CODE, MESSAGE, GUARDED)
"""The columns that are added to those of the file."""
RECORD = "record"

_PAGE_LINES = 500
"""The most lines that are yielded together."""


class RefusedForm(StrEnum):
    """What the file of refused lines is for; both forms can be corrected and submitted again."""

    SUBMISSION = "submission"
    """Written like the submitted file, for text editors and programs."""
    SPREADSHEET = "spreadsheet"
    """Written so that no cell runs as a formula in a spreadsheet."""


def write_csv(
    file: BinaryIO,
    columns: Sequence[str] | None,
    form: FileForm | None,
    refusals: Iterable[RefusedRecord],
    *,
    guarded: bool = False,
) -> int:
    """Write each refused line once, with its cells and every reason; return the number of lines.

    `columns` and `form` are the header of the submitted CSV file and how it was written; if
    `columns` is None, each record is written as JSON in a single column. `refusals` must be sorted
    by line. If the submitted file was itself written by this function, the columns that it added
    are not repeated. The lines of a file that was submitted as one of drops get a column `action`.
    With `guarded`, the file is for a spreadsheet (`producer.files.formulas`).
    """
    count = -1
    writer = _Writer(form or FileForm(), guarded=guarded)
    file.write(writer.beginning)
    for count, row in enumerate(_rows(columns, form, refusals, guarded=guarded)):  # noqa: B007
        file.write(writer.lines([row]))
    return count


class DropDetector:
    """Yields refusals once, and notes whether there are drops that their file does not show."""

    def __init__(
        self,
        refusals: Iterable[RefusedRecord],
        columns: Sequence[str] | None,
        form: FileForm | None = None,
    ) -> None:
        self._refusals = refusals
        is_drop = form is not None and form.drop
        self._says_actions = columns is None or is_drop or ACTION in map(plain_name, columns)
        self.has_hidden_drops = False

    def __iter__(self) -> Iterator[RefusedRecord]:
        for refusal in self._refusals:
            record = refusal.record
            is_drop = isinstance(record, dict) and COURSE_FIELDS[Action.DROP] in record
            if is_drop and not self._says_actions:
                self.has_hidden_drops = True
            yield refusal


def csv_pages(
    columns: Sequence[str] | None,
    form: FileForm | None,
    refusals: Iterable[RefusedRecord],
    *,
    guarded: bool = False,
) -> Iterator[bytes]:
    """Yield the same file, a page of lines at a time."""
    writer = _Writer(form or FileForm(), guarded=guarded)
    rows = _rows(columns, form, refusals, guarded=guarded)
    beginning = writer.beginning
    while page_rows := list(islice(rows, _PAGE_LINES)):
        yield beginning + writer.lines(page_rows)
        beginning = b""


class _Sink(NamedTuple):
    """Something to write to, for a writer of CSV, which writes each row at once."""

    write: Callable[[str], object]


class _Writer:
    """Writes rows as bytes in the form of a file; for spreadsheets, UTF-8 has a byte order mark."""

    def __init__(self, form: FileForm, *, guarded: bool) -> None:
        # A spreadsheet may divide lines at any usual delimiter, and cells are guarded for those.
        is_usual = form.delimiter in DELIMITERS or not guarded
        self._delimiter = form.delimiter if is_usual else ","
        self._encoding = known_or_utf8(form.encoding)
        self._line_end = form.line_end
        has_mark = form.bom or (guarded and self._encoding == "utf-8")
        names = f"sep={self._delimiter}{form.line_end}" if form.names_delimiter else ""
        self.beginning = ("\ufeff" if has_mark else "").encode(self._encoding, "ignore")
        self.beginning += encoded(names, self._encoding)

    def lines(self, rows: Iterable[Sequence[Any]]) -> bytes:
        # Python before 3.13 quotes only cells with signs of the line end; a reader would divide a
        # cell with another one.
        lines: list[str] = []
        writer = csv.writer(_Sink(lines.append), delimiter=self._delimiter, lineterminator="\r\n")
        writer.writerows(rows)
        written = "".join(line.removesuffix("\r\n") + self._line_end for line in lines)
        if self._line_end == "\r":  # Within cells, too, or the file would have two kinds.
            written = written.replace("\r\n", "\r").replace("\n", "\r")
        return encoded(written, self._encoding)


def known_or_utf8(encoding: str) -> str:
    """Return an encoding, or UTF-8 if no file can be written in it: its name came in a message."""
    try:
        return known_encoding(encoding).removesuffix("-sig")
    except UnreadableFile:
        return "utf-8"


def _rows(
    columns: Sequence[str] | None,
    form: FileForm | None,
    refusals: Iterable[RefusedRecord],
    *,
    guarded: bool,
) -> Iterator[list[Any]]:
    names = [RECORD] if columns is None else list(columns)
    own = [index for index, name in enumerate(names) if name not in ADDED]
    added = ADDED if guarded else ADDED[:-1]
    # The reason comes first, so that it stays under its heading if a line has too few cells.
    header = [names[index] for index in own]
    # The option that made every line a drop is forgotten, so each line says it.
    action = [Action.DROP.value] if form is not None and form.drop else []
    yield [*added, *([ACTION] * len(action)), *(map(guard, header) if guarded else header)]
    for line, group in _by_line(refusals):
        cells = _cells(names, _with_record(group))
        if GUARDED in names[: len(cells)] and cells[names.index(GUARDED)]:
            cells = list(map(unguard, cells))
        # A line with too few or too many cells stays as it is: only people know what is missing.
        cells = [cells[index] for index in own if index < len(cells)] + cells[len(names) :]
        reasons = "; ".join(dict.fromkeys(refusal.message for refusal in group))
        first = [line, group[0].code.value, reasons]
        if guarded:
            safe = list(map(guard, cells))
            first = [*first[:2], guard(reasons), "yes" if safe != cells else ""]
            cells = safe
        yield [*first, *action, *cells]


def write_json_lines(
    file: BinaryIO, columns: Sequence[str] | None, refusals: Iterable[RefusedRecord]
) -> tuple[int, int]:
    """Write the refused records as they were submitted; return how many, and how many are missing.

    `columns` is None if the submitted file was JSON Lines: then a line that is not a record is
    written as it was. A line of a CSV file that could not be turned into a record is missing, and
    so is one that was too long to be stored.
    """
    written = missing = 0
    for line in _json_lines(columns, refusals):
        file.write(line)
        written, missing = written + bool(line), missing + (not line)
    return written, missing


def json_lines_pages(
    columns: Sequence[str] | None, refusals: Iterable[RefusedRecord]
) -> Iterator[bytes]:
    """Yield the same file, a page of lines at a time; the first page may be empty."""
    lines = _json_lines(columns, refusals)
    yield b"".join(islice(lines, _PAGE_LINES))
    while page_lines := list(islice(lines, _PAGE_LINES)):
        yield b"".join(page_lines)


def _json_lines(
    columns: Sequence[str] | None, refusals: Iterable[RefusedRecord]
) -> Iterator[bytes]:
    """Yield each refused line as JSON, or nothing for one that is missing."""
    for _, group in _by_line(refusals):
        refusal = _with_record(group)
        if refusal.record is not None:
            yield json.dumps(refusal.record).encode() + b"\n"
        elif columns is None and refusal.cells:
            yield encoded(refusal.cells[0], "utf-8") + b"\n"
        else:
            yield b""


def _by_line(refusals: Iterable[RefusedRecord]) -> Iterator[tuple[int, list[RefusedRecord]]]:
    return ((line, list(group)) for line, group in groupby(refusals, attrgetter("line")))


def _with_record(group: Sequence[RefusedRecord]) -> RefusedRecord:
    """Return the refusal of a line that holds its record: the others do not repeat it."""
    return next((refusal for refusal in group if refusal.record is not None), group[0])


def cells_of(columns: Sequence[str] | None, refusal: RefusedRecord) -> tuple[str, ...] | None:
    """Return the cells of a refused line of a CSV file with these columns.

    Those of a line of JSON Lines are None, except that a line that is not valid JSON is a cell.
    They are also None if they were not stored, because the line was too long.
    """
    if refusal.cells is None and (columns is None or refusal.record is None):
        return None
    return tuple(_cells(columns or (), refusal))


def _cells(names: Sequence[str], refusal: RefusedRecord) -> list[str]:
    """Return the cells of a refused line, made from its record if they did not travel with it."""
    if refusal.cells is not None:
        return list(refusal.cells)
    record = refusal.record if isinstance(refusal.record, dict) else {}
    return [_cell(name, record, refusal.record) for name in names]


def _cell(name: str, record: dict[str, Any], submitted: object) -> str:
    if name == RECORD and name not in record:
        return json.dumps(submitted)
    if name in STUDENT_COLUMNS:
        return str(record.get("student_id", ""))
    if name in COURSE_COLUMNS:
        return ",".join(
            str(id_) for field in COURSE_FIELDS.values() for id_ in record.get(field, ())
        )
    return str(record.get(name, ""))
