"""A file becomes a stream of records: CSV (comma, semicolon, tab) and JSON Lines.

The head of a file is checked before anything is handed out; a bad line later on becomes a
`RefusedLine` and harms no other.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydantic_core import from_json

from producer.chunks import Entry, Line
from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.schemas import MAX_CHUNK_BYTES, MAX_COURSES, MAX_KEY, MAX_TEXT, Kind

HEAD_BYTES = 65_536
WINDOW = 5_000
"""Rows within which pairs are grouped by student: what the reader holds of a file."""
DEEP = 20
BOM = b"\xef\xbb\xbf"
DELIMITERS = ",;\t"
COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    Kind.STUDENTS: ("sis_id", "name", "email"),
    Kind.COURSES: ("sis_id", "title"),
    Kind.ENROLLMENTS: ("student_id", "student_sis_id", "course_id", "course_sis_id"),
}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

Make = Callable[[Sequence[str]], str]
"""Makes the text of one of our columns out of a row's cells."""
Lines = Iterator[Line]
Pair = tuple[int | str, int | str]
Row = tuple[int, list[str]]
"""A line and its cells."""


class _BadCell(Exception):
    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"{column}: {problem}")
        self.column = column


class Source:
    """A file whose head was checked: its path, its size in bytes, and what its records are.

    `columns` is the header of a CSV file.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        read: Callable[[BinaryIO], Lines],
        columns: tuple[str, ...] | None = None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.columns = columns
        self.size = path.stat().st_size
        self._read = read
        self._file: BinaryIO | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    @property
    def share(self) -> float | None:
        """The share of it that was read so far; None before the beginning."""
        return self.bytes_read / self.size or None

    @property
    def bytes_read(self) -> int:
        """How far the reader has come."""
        return 0 if self._file is None else self.size if self._file.closed else self._file.tell()

    def records(self) -> Lines:
        """Every record from the beginning."""
        with _said(self.name), self.path.open("rb") as self._file:
            yield from self._read(self._file)


@contextmanager
def _said(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFile(
            f"{name} cannot be read on: {error.strerror}. What was queued of it goes on; submit"
            " it again when it can be read, with --resume or --batch-id."
        ) from error


class Stream:
    """What comes through a pipe, its head checked; it is read once, and its size is not known.

    `name` is what messages call it. Raises UnreadableFile, as `open_source`.
    """

    share = None

    def __init__(
        self, name: str, file: BinaryIO, kind: Kind | None, templates: Mapping[str, str]
    ) -> None:
        self.name = name
        with _said(name):
            form, self._lines = open_stream(file, kind, templates, name)
        self.kind = form.kind
        self.columns = form.columns

    def records(self) -> Lines:
        """Every record from the beginning."""
        with _said(self.name):
            yield from self._lines


class Form(NamedTuple):
    """What the head of a file tells: what its records are, how to read them, its header."""

    kind: Kind
    read: Callable[[BinaryIO], Lines]
    columns: tuple[str, ...] | None = None


class _Replayed(io.RawIOBase):
    """A stream whose beginning was read already, from the beginning."""

    def __init__(self, beginning: bytes, rest: BinaryIO) -> None:
        self._beginning = memoryview(beginning)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._beginning[: len(buffer)] or self._rest.read(len(buffer))
        self._beginning = self._beginning[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def open_stream(
    file: BinaryIO, kind: Kind | None, templates: Mapping[str, str], name: str
) -> tuple[Form, Lines]:
    """Check the head of a stream that can be read once; gives its form and its records.

    `name` is what errors call it; else as `open_source`. Raises UnreadableFile.
    """
    raw = _beginning(file)
    form = _form(name, kind, templates, _text(name, raw))
    return form, form.read(io.BufferedReader(_Replayed(raw, file), 1 << 16))


def open_source(path: Path, kind: Kind | None, templates: Mapping[str, str]) -> Source:
    """Check a file's head and its mapping.

    `kind` is taken from the header where it is None. `templates` gives for one of our columns
    a text over the file's own columns, as `{code_module}-{code_presentation}`.
    Raises UnreadableFile, which names the file, the place and the remedy.
    """
    try:
        with path.open("rb") as file:
            raw = _beginning(file)
    except IsADirectoryError:
        raise UnreadableFile(f"{path} is a directory; name the files in it.") from None
    except OSError as error:
        raise UnreadableFile(
            f"{path} cannot be read: {error.strerror}; give the path of a file that you may read."
        ) from None
    form = _form(str(path), kind, templates, _text(str(path), raw))
    return Source(path, *form)


def _form(path: str, kind: Kind | None, templates: Mapping[str, str], head: str) -> Form:
    if head.lstrip().startswith("{"):
        return _json_lines(path, kind, templates, head)
    return _csv(path, kind, templates, head)


def _beginning(file: BinaryIO) -> bytes:
    """It ends where a line ends, so that no character of it is cut in two."""
    return file.read(HEAD_BYTES) + file.readline(MAX_CHUNK_BYTES)


def _text(path: str, raw: bytes) -> str:
    """The first lines."""
    if b"\x00" in raw:
        raise UnreadableFile(f"{path} is a binary file; export it as CSV or JSON Lines in UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(
            f"{path}, line {line}: not UTF-8; save the file with the encoding UTF-8."
        ) from None
    if not text.strip():
        raise UnreadableFile(f"{path} is empty; a CSV file begins with a header line.")
    return text


# --- CSV ------------------------------------------------------------------------------------


def _csv(path: str, kind: Kind | None, templates: Mapping[str, str], head: str) -> Form:
    delimiter = max(DELIMITERS, key=head.split("\n", 1)[0].count)
    header = _header(path, head, delimiter)
    made = _makers(path, header, templates)
    kind = kind or _kind_of(path, made)
    _check_columns(path, kind, made)

    # Where a record holds all that its line holds, the line need not travel with it.
    whole = not templates and set(header) <= set(made)

    def read(file: BinaryIO) -> Lines:
        rows = _rows(file, delimiter, len(header))
        if kind is Kind.ENROLLMENTS:
            return _requests(rows, _pair_reader(made), keep=not whole)
        return _records(rows, _record_reader(kind, made), keep=not whole)

    return Form(kind, read, tuple(header))


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


def _makers(path: str, header: list[str], templates: Mapping[str, str]) -> dict[str, Make]:
    """How to make each of our columns that this file has or that a template gives."""
    doubled = {name for name in header if header.count(name) > 1}
    ours = {name for columns in COLUMNS.values() for name in columns}
    if doubled & (ours | set(_PLACEHOLDER.findall(" ".join(templates.values())))):
        raise UnreadableFile(f"{path}: the header names {sorted(doubled)} twice; rename one.")
    made = {name: _cell(place) for place, name in enumerate(header) if name in ours}
    for name, template in templates.items():
        if name not in ours:
            raise UnreadableFile(
                f"--map {name}=…: there is no such column; choose from {', '.join(sorted(ours))}."
            )
        parts = _PLACEHOLDER.split(template)
        unknown = [column for column in parts[1::2] if column not in header]
        if unknown or "{" in "".join(parts[::2]) or "}" in "".join(parts[::2]):
            what = f"has no column {unknown[0]!r}" if unknown else "does not fit: unpaired brace"
            raise UnreadableFile(
                f"{path}: --map {name}={template} {what}; the columns are: {', '.join(header)}."
            )
        made[name] = _template(parts, header)
    return made


def _cell(place: int) -> Make:
    return lambda row: row[place].strip()


def _template(parts: list[str], header: list[str]) -> Make:
    places = [header.index(name) for name in parts[1::2]]
    form = "%s".join(text.replace("%", "%%") for text in parts[::2])
    return lambda row: form % tuple(row[place].strip() for place in places)


def _kind_of(path: str, columns: Iterable[str]) -> Kind:
    names = set(columns)
    if names & set(COLUMNS[Kind.ENROLLMENTS]):
        return Kind.ENROLLMENTS
    if names & {"name", "email"}:
        return Kind.STUDENTS
    if "title" in names:
        return Kind.COURSES
    raise UnreadableFile(
        f"{path}: the first line does not tell whether these are students, courses or enrollments;"
        " give --kind, and for CSV --map for columns that have another name."
    )


def _check_columns(path: str, kind: Kind, made: Mapping[str, Make]) -> None:
    if kind is not Kind.ENROLLMENTS:
        choices: list[tuple[str, ...]] = [("sis_id",)]
    else:
        choices = [("student_id", "student_sis_id"), ("course_id", "course_sis_id")]
    for names in choices:
        present = [name for name in names if name in made]
        if not present:
            raise UnreadableFile(
                f"{path}: {kind} need a column {' or '.join(names)};"
                f" add it to the header, or give --map {names[-1]}='{{column}}'."
            )
        if len(present) > 1:
            raise UnreadableFile(f"{path}: has both {' and '.join(names)}; remove one of them.")
    strange = [name for name in made if name not in COLUMNS[kind]]
    if strange:
        raise UnreadableFile(
            f"{path}: {strange[0]} is no column of {kind}; they have {', '.join(COLUMNS[kind])}."
        )


def _rows(file: BinaryIO, delimiter: str, width: int) -> Iterator[Row | RefusedLine]:
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
                yield RefusedLine(line=line, message=message, cells=_storable(row))
            line = reader.line_num + 1
    except csv.Error as error:
        # Where a quote was left open nobody can tell where the next row begins.
        message = f"{error}: a quote may be left open; nothing after this line was read"
        yield RefusedLine(line=line, message=message)
    finally:
        if not file.closed:  # As it is where reading was interrupted.
            text.detach()  # Else it would close the file, which is its owner's.


def _storable(row: Iterable[str]) -> tuple[str, ...]:
    """Cells as text that every database takes; what is none is shown as U+FFFD."""
    texts = (cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for cell in row)
    return tuple(text.replace("\x00", "\ufffd") for text in texts)


def _refused(line: int, row: list[str], bad: _BadCell) -> RefusedLine:
    return RefusedLine(line=line, field=bad.column, message=str(bad), cells=_storable(row))


def _records(
    rows: Iterable[Row | RefusedLine], read: Callable[[list[str]], Any], *, keep: bool
) -> Lines:
    for one in rows:
        if not isinstance(one, tuple):
            yield one
            continue
        line, row = one
        try:
            yield Entry(read(row), [line], [row] if keep else None)
        except _BadCell as bad:
            yield _refused(line, row, bad)


def _pair_reader(made: Mapping[str, Make]) -> Callable[[list[str]], Pair]:
    student, course = (_identifier(name, make) for name, make in sorted(made.items(), reverse=True))
    return lambda row: (student(row), course(row))


def _identifier(column: str, make: Make) -> Callable[[list[str]], int | str]:
    def key(row: list[str]) -> int:
        text = make(row)
        digits = text.lstrip("0")
        # Ten digits at most: a cell may hold so many that int() refuses to read them.
        if not (digits.isascii() and digits.isdigit() and int(digits[:11]) <= MAX_KEY):
            raise _BadCell(
                column,
                f"{text[:60]!a} is no integer from 1 to {MAX_KEY};"
                f" a SIS id goes into the column {column.replace('_id', '_sis_id')}",
            )
        return int(digits)

    def sis_id(row: list[str]) -> str:
        text = make(row)
        # What nearly every cell is.
        return text if text.isprintable() and 0 < len(text) <= MAX_TEXT else _clean(column, text)

    return sis_id if column.endswith("_sis_id") else key


def _clean(column: str, text: str) -> str:
    if not 1 <= len(text) <= MAX_TEXT:
        problem = f"has {len(text)} characters, more than {MAX_TEXT}" if text else "is empty"
        raise _BadCell(column, problem)
    if not text.isprintable():
        if "\x00" in text:
            raise _BadCell(column, "holds the character NUL")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _BadCell(column, "is not UTF-8; save the file with the encoding UTF-8") from None
    return text


def _record_reader(kind: Kind, made: Mapping[str, Make]) -> Callable[[list[str]], dict[str, str]]:
    columns = [(name, made[name]) for name in COLUMNS[kind] if name in made]

    def read(row: list[str]) -> dict[str, str]:
        texts = ((name, make(row)) for name, make in columns)
        # An empty cell says nothing: what is stored is kept. Only the SIS id must be there.
        return {name: _clean(name, text) for name, text in texts if text or name == "sis_id"}

    return read


def _requests(
    rows: Iterator[Row | RefusedLine], read: Callable[[list[str]], Pair], *, keep: bool
) -> Lines:
    """Group pairs by student within a window of rows, in the order of first mention.

    A pair that is there twice, and more than 100 courses, make a further request, so that every
    line is accounted for.
    """
    latest: dict[int | str, Entry] = {}
    entries: list[Entry] = []
    for place, one in enumerate(rows, 1):
        if not isinstance(one, tuple):
            yield one
        else:
            line, row = one
            try:
                student, course = read(row)
            except _BadCell as bad:
                yield _refused(line, row, bad)
            else:
                entry = latest.get(student)
                courses: list[int | str] = entry.record["course_ids"] if entry else []
                if entry is None or course in courses or len(courses) == MAX_COURSES:
                    record = {"student_id": student, "course_ids": [course], "atomic": False}
                    entry = latest[student] = Entry(record, [line], [row] if keep else None)
                    entries.append(entry)
                else:
                    courses.append(course)
                    entry.add(line, row)
        if place % WINDOW == 0:
            yield from entries
            latest, entries = {}, []
    yield from entries


# --- JSON Lines -----------------------------------------------------------------------------


def _json_lines(path: str, kind: Kind | None, templates: Mapping[str, str], head: str) -> Form:
    if templates:
        raise UnreadableFile(f"{path}: --map is for CSV; JSON Lines hold whole records.")
    if kind is None:
        try:
            first = from_json(head.lstrip().split("\n", 1)[0])
        except ValueError:
            raise UnreadableFile(
                f"{path}: the first line is no JSON; put one record in each line, or give --kind."
            ) from None
        named = {"student_id"} if "course_ids" in first else set(first)
        kind = _kind_of(path, named)
    return Form(kind, _json_records)


def _json_records(file: BinaryIO) -> Lines:
    number = 0
    while raw := file.readline(MAX_CHUNK_BYTES + 1):
        number += 1
        if len(raw) > MAX_CHUNK_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_CHUNK_BYTES)
            message = f"the line is longer than {MAX_CHUNK_BYTES} bytes; split the request"
            yield RefusedLine(line=number, message=message)
            continue
        raw = raw.strip().removeprefix(BOM)
        if not raw:
            continue
        try:
            record = from_json(raw, allow_inf_nan=False)
            if raw.count(b"[") + raw.count(b"{") > DEEP:
                # The reader's bound on nesting must still hold within the chunk.
                from_json(b"[" * DEEP + raw + b"]" * DEEP)
            yield Entry(record, [number])
        except ValueError as error:
            yield RefusedLine(line=number, message=f"no JSON: {error}"[:1000])
