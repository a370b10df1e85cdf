"""Write many rows into PostgreSQL at once, with `COPY` in the transaction of a connection.

Most rows go to `student_courses`. They, and plain pairs, are packed here in PostgreSQL's binary
format (see "Binary Format" in the manual, under COPY), because psycopg inspects each value and
takes twice as long. All other rows are written as text.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any

import psycopg
from sqlalchemy import Connection

from worker.database.driver_errors import converted
from worker.models import Pair, PlacedPair, StudentCourse

_HEAD = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def copy_rows(
    connection: Connection, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write rows to any table; pass JSON values as text. Raises IntegrityError, DBAPIError."""
    columns = map(as_text, zip(*rows, strict=True))
    copy_lines(connection, table, names, map("\t".join, zip(*columns, strict=True)))


def copy_lines(
    connection: Connection, table: str, names: Sequence[str], lines: Iterable[str]
) -> None:
    """Write rows in the text format of COPY: values from `as_text`, separated by tabs.

    Raises IntegrityError, DBAPIError.
    """
    with _copying(connection, table, names, "TEXT") as copy:
        copy.write("\n".join(lines))


def copy_enrollments(
    connection: Connection,
    pairs: Iterable[Pair],
    moments: Sequence[datetime],
    data_sets: Sequence[int | None] | None = None,
) -> None:
    """Write rows of `student_courses`, each with its moment, and perhaps with its data set.

    Raises IntegrityError if one already exists.
    """
    if data_sets is not None:
        _copy_owned_enrollments(connection, pairs, moments, data_sets)
        return
    pack = struct.Struct(">hiiiiiq").pack
    packed = {moment: _microseconds(moment) for moment in set(moments)}
    # A row is the number of its fields, then for each field its length and its value.
    rows = [
        pack(3, 4, student, 4, course, 8, packed[moment])
        for (student, course), moment in zip(pairs, moments, strict=True)
    ]
    _copy_packed(connection, ("student_id", "course_id", "enrolled_at"), rows)


def _copy_owned_enrollments(
    connection: Connection,
    pairs: Iterable[Pair],
    moments: Sequence[datetime],
    data_sets: Sequence[int | None],
) -> None:
    pack = struct.Struct(">hiiiiiq").pack
    # A null is a length of -1 without a value.
    owner = {i: _NULL if i is None else struct.pack(">ih", 2, i) for i in set(data_sets)}
    rows = [
        pack(4, 4, student, 4, course, 8, _microseconds(moment)) + owner[data_set]
        for (student, course), moment, data_set in zip(pairs, moments, data_sets, strict=True)
    ]
    _copy_packed(connection, ("student_id", "course_id", "enrolled_at", "data_set"), rows)


def copy_placed_enrollments(
    connection: Connection,
    rows: Sequence[PlacedPair],
    moment: datetime,
    chunk: int,
    data_set: int | None = None,
) -> None:
    """Write rows of `student_courses` that requests of one chunk open, with their positions.

    All belong to the data set, if one is given. Raises IntegrityError if one already exists.
    """
    columns = ["enrolled_at", "chunk", "student_id", "course_id", "position"]
    # What all rows share comes first: the number of fields, the moment and the chunk.
    values = struct.pack(">iqii", 8, _microseconds(moment), 4, chunk)
    if data_set is not None:
        columns.insert(0, "data_set")
        values = struct.pack(">ih", 2, data_set) + values
    shared = struct.pack(">h", len(columns)) + values
    _copy_packed(connection, columns, [_pack_numbers(shared, rows)])


def copy_pairs(
    connection: Connection, table: str, columns: Sequence[str], pairs: Sequence[Pair]
) -> None:
    """Write pairs into two columns of integers of any table. Raises IntegrityError, DBAPIError."""
    _copy_packed(connection, columns, [_pack_numbers(struct.pack(">h", 2), pairs)], table)


def copy_numbers(
    connection: Connection, table: str, names: Sequence[str], columns: Sequence[Sequence[int]]
) -> None:
    """Write columns of integers into any table. Raises IntegrityError, DBAPIError.

    It takes the same time for each row, even if tens of thousands no longer fit into a cache.
    """
    pack = struct.Struct(">h" + "ii" * len(columns)).pack
    fields = chain.from_iterable((repeat(4), column) for column in columns)
    rows = map(pack, repeat(len(columns)), *fields)
    _copy_packed(connection, names, [b"".join(rows)], table)


def _pack_numbers(shared: bytes, rows: Sequence[Sequence[int]]) -> bytearray:
    """Return packed rows of integers, each of which begins with what all of them share."""
    row = shared + struct.pack(">ii", 4, 0) * (len(rows[0]) if rows else 0)
    packed = bytearray(row * len(rows))
    # Byte by byte of the numbers, but for all rows at once: there is no loop over the rows.
    for place, numbers in enumerate(zip(*rows, strict=True)):
        values = struct.pack(f">{len(rows)}i", *numbers)
        start = len(shared) + 8 * place + 4
        for byte in range(4):
            packed[start + byte :: len(row)] = values[byte::4]
    return packed


def _microseconds(moment: datetime) -> int:
    """Return a moment as PostgreSQL stores it: in microseconds since the year 2000."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _copy_packed(
    connection: Connection,
    columns: Iterable[str],
    rows: Iterable[bytes | bytearray],
    table: str = StudentCourse.__tablename__,
) -> None:
    with _copying(connection, table, columns, "BINARY") as copy:
        copy.write(b"".join((_HEAD, *rows, _END)))


def as_text(values: Sequence[Any]) -> list[str]:
    """Return the values of a column in the text format of COPY."""
    texts = "".join([value for value in values if type(value) is str])
    # One check of all values together is cheap, and few columns need escapes.
    if "\\" in texts or not texts.isprintable():
        values = [v.translate(_ESCAPES) if type(v) is str else v for v in values]
    return [r"\N" if value is None else str(value) for value in values]


@contextmanager
def _copying(
    connection: Connection, table: str, columns: Iterable[str], copy_format: str
) -> Iterator[Any]:
    """Run `COPY` through psycopg, and convert its errors to SQLAlchemy's."""
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT {copy_format})"
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            yield copy
    except psycopg.Error as error:
        raise converted(connection, statement, error) from error
