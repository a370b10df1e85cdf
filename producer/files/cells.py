"""Read cells: turn the text of a row into ids and records, or say what is wrong with it."""

from collections.abc import Callable, Iterable, Mapping

from producer.contract.chunks import RefusedLine
from producer.files.columns import COLUMNS, ColumnReader
from producer.schemas import MAX_KEY, MAX_TEXT, Kind

Pair = tuple[int | str, int | str]
Row = tuple[int, list[str]]
"""A line and its cells."""


class BadCell(Exception):
    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"{column}: {problem}")
        self.column = column


def storable(row: Iterable[str]) -> tuple[str, ...]:
    """Cells as text that every database takes; what is none is shown as U+FFFD."""
    texts = (cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for cell in row)
    return tuple(text.replace("\x00", "\ufffd") for text in texts)


def refused_line(line: int, row: list[str], bad: BadCell) -> RefusedLine:
    return RefusedLine(line=line, field=bad.column, message=str(bad), cells=storable(row))


def pair_reader(made: Mapping[str, ColumnReader]) -> Callable[[list[str]], Pair]:
    student, course = (_identifier(name, make) for name, make in sorted(made.items(), reverse=True))
    return lambda row: (student(row), course(row))


def _identifier(column: str, make: ColumnReader) -> Callable[[list[str]], int | str]:
    def key(row: list[str]) -> int:
        text = make(row)
        digits = text.lstrip("0")
        # Ten digits at most: a cell may hold so many that int() refuses to read them.
        if not (digits.isascii() and digits.isdigit() and int(digits[:11]) <= MAX_KEY):
            raise BadCell(
                column,
                f"{text[:60]!a} is no integer from 1 to {MAX_KEY};"
                f" a SIS id goes into the column {column.replace('_id', '_sis_id')}",
            )
        return int(digits)

    def sis_id(row: list[str]) -> str:
        text = make(row)
        # What nearly every cell is.
        return (
            text if text.isprintable() and 0 < len(text) <= MAX_TEXT else checked_text(column, text)
        )

    return sis_id if column.endswith("_sis_id") else key


def checked_text(column: str, text: str) -> str:
    if not 1 <= len(text) <= MAX_TEXT:
        problem = f"has {len(text)} characters, more than {MAX_TEXT}" if text else "is empty"
        raise BadCell(column, problem)
    if not text.isprintable():
        if "\x00" in text:
            raise BadCell(column, "holds the character NUL")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadCell(column, "is not UTF-8; save the file with the encoding UTF-8") from None
    return text


def record_reader(
    kind: Kind, made: Mapping[str, ColumnReader]
) -> Callable[[list[str]], dict[str, str]]:
    columns = [(name, made[name]) for name in COLUMNS[kind] if name in made]

    def read(row: list[str]) -> dict[str, str]:
        texts = ((name, make(row)) for name, make in columns)
        # An empty cell says nothing: what is stored is kept. Only the SIS id must be there.
        return {name: checked_text(name, text) for name, text in texts if text or name == "sis_id"}

    return read
