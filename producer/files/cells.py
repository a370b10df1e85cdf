"""Turn the cells of a row into ids and records, or report what is wrong with a cell."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from producer.contract.chunks import COURSE_FIELDS, RefusedLine
from producer.contract.ids import is_missing_value
from producer.fields import MAX_KEY, MAX_TEXT
from producer.files.columns import (
    ACTION,
    AS_OF,
    COLUMNS,
    COURSE_COLUMNS,
    REASON,
    STUDENT_COLUMNS,
    BadCell,
    ColumnReader,
    plain_name,
)
from producer.files.raw_bytes import storable
from producer.schemas import Action, Kind

Details = Mapping[str, str]
"""The fields of a request that few lines have: when it counts, and why."""
Pair = tuple[int | str, int | str, Details]
"""The student and the course of a line, and its details."""
Row = tuple[int, list[str]]
"""A line and its cells."""

REPEATS_HEADER = "the line repeats the header; remove it"
"""What is wrong with a header among the rows."""

MAX_MESSAGE = 500
"""The most characters of a message about a cell; the contract allows twice as many."""


def refused_line(line: int, row: list[str], bad_cell: BadCell) -> RefusedLine:
    """Return the refusal of a line because of one of its cells."""
    (message,) = storable([str(bad_cell)[:MAX_MESSAGE]])  # It may name a column of any length.
    return RefusedLine(line=line, field=bad_cell.column, message=message, cells=storable(row))


_NO_DETAILS: Details = {}


def pair_reader(readers: Mapping[str, ColumnReader]) -> Callable[[list[str]], Pair]:
    """Return a function that reads the pair of a row, and its details. It raises BadCell."""
    student, course = (
        next(identifier(name, readers[name]) for name in names if name in readers)
        for names in (STUDENT_COLUMNS, COURSE_COLUMNS)
    )
    columns = [(name, readers[name]) for name in (REASON, AS_OF) if name in readers]
    if not columns:
        return lambda row: (student(row), course(row), _NO_DETAILS)

    def read_pair(row: list[str]) -> Pair:
        texts = ((name, read(row)) for name, read in columns)
        details = {name: checked_text(name, text) for name, text in texts if text}
        return student(row), course(row), details

    return read_pair


def plain_places(
    readers: Mapping[str, ColumnReader], header: Sequence[str], templates: Collection[str]
) -> tuple[int, int] | None:
    """Return the positions of the cells with the student and the course of a row.

    Return None unless both are SIS ids as they stand in the cells, and a row has no other cells.
    """
    names = list(map(plain_name, header))
    ids = [name for name in (*STUDENT_COLUMNS, *COURSE_COLUMNS) if name in readers]
    has_keys = any(name.endswith("_key") for name in ids)
    if templates or has_keys or sorted(names) != sorted(ids) or len(readers) > len(ids):
        return None
    return names.index(ids[0]), names.index(ids[1])


def request_of(pair: Pair, action: Action) -> dict[str, Any]:
    """Return the request that a line makes by itself."""
    student, course, details = pair
    return {"student_id": student, COURSE_FIELDS[action]: [course], "atomic": False, **details}


def operation_reader(readers: Mapping[str, ColumnReader]) -> Callable[[list[str]], dict[str, Any]]:
    """Return a function that makes a request of a row with an action. It raises BadCell."""
    read_pair, action = pair_reader(readers), readers[ACTION]
    return lambda row: request_of(read_pair(row), _action(action(row)))


_ACTIONS: Mapping[str, Action] = {"": Action.ENROLL, **{action.value: action for action in Action}}


def _action(text: str) -> Action:
    """Return what a line asks for. Raises BadCell."""
    action = _ACTIONS.get(text.casefold())
    if action is None:
        raise BadCell(
            ACTION,
            f"{text[:60]!a} is not an action; write enroll or drop, or leave the cell empty, which"
            " means enroll; or rename the column if it means something else",
        )
    return action


def identifier(
    column: str, read: ColumnReader, *, is_ours: bool = True
) -> Callable[[list[str]], int | str]:
    """Return a function that reads the id in a column of this name. It raises BadCell.

    In a file of another system, which is not `is_ours`, no column holds our keys.
    """

    def key(row: list[str]) -> int:
        text = read(row)
        # A longer number is not a key, and int() has a limit.
        is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_KEY))
        # A SIS id may begin with a zero, but a key never does: 003 is not taken for the key 3.
        if is_number and not text.startswith("0") and int(text) <= MAX_KEY:
            return int(text)
        raise BadCell(column, _not_a_key(column, text))

    def sis_id(row: list[str]) -> str:
        text = read(row)
        # This quick check is enough for almost every cell.
        return (
            text if text.isprintable() and 0 < len(text) <= MAX_TEXT else checked_text(column, text)
        )

    return key if is_ours and column.endswith("_key") else sis_id


def _not_a_key(column: str, text: str) -> str:
    if not text:
        return "the cell is empty; fill it in"
    return (
        f"{text[:60]!a} is not one of our keys, which are integers from 1 to {MAX_KEY} without"
        " leading zeros; correct it, or if the column holds SIS ids, rename it to"
        f" {column.removesuffix('_key')}_id"
    )


def checked_text(column: str, text: str) -> str:
    """Return the text of a cell if it is valid. Raises BadCell."""
    if not text:
        raise BadCell(column, "the cell is empty; fill it in")
    if len(text) > MAX_TEXT:
        raise BadCell(column, f"has {len(text)} characters; shorten it to at most {MAX_TEXT}")
    return text


def record_reader(
    kind: Kind, readers: Mapping[str, ColumnReader]
) -> Callable[[list[str]], dict[str, str]]:
    """Return a function that makes a roster record from a row. It raises BadCell."""
    columns = [(name, readers[name]) for name in COLUMNS[kind] if name in readers]

    def read_record(row: list[str]) -> dict[str, str]:
        texts = ((name, read(row)) for name, read in columns)
        # An empty cell leaves the stored value as it is; only the SIS id is required.
        record = {
            name: checked_text(name, text) for name, text in texts if text or name == "sis_id"
        }
        _check_new_id(record["sis_id"])
        return record

    return read_record


def _check_new_id(sis_id: str) -> None:
    """Refuse what is probably not meant as the id of a student or course. Raises BadCell."""
    if sis_id[-2:].casefold() == "id" and plain_name(sis_id) == "sis_id":
        raise BadCell("sis_id", REPEATS_HEADER)
    if problem := problem_of_new_id(sis_id):
        raise BadCell("sis_id", problem)


def problem_of_new_id(sis_id: str) -> str | None:
    """Return why a text is probably not meant as the id of a student or course, or None."""
    if is_missing_value(sis_id):
        return f"{sis_id!r} stands for a missing value; fill in the id"
    if not sis_id.isprintable():
        return (
            f"{sis_id[:60]!a} contains invisible characters; remove them, for example by typing"
            " the id again"
        )
    return None
