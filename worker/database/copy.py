"""Write many rows at once into PostgreSQL: `COPY`, in the transaction of a connection.

`student_courses` is written most and packed here in PostgreSQL's binary form (manual, COPY,
"Binary Format"): psycopg looks at each value and takes twice as long. All other rows go as text.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from worker.models import Pair, StudentCourse

_HEAD = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def copy_rows(
    connection: Connection, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write any rows; JSON columns are given as text. Raises IntegrityError, DBAPIError."""
    columns = map(as_text, zip(*rows, strict=True))
    copy_lines(connection, table, names, map("\t".join, zip(*columns, strict=True)))


def copy_lines(
    connection: Connection, table: str, names: Sequence[str], lines: Iterable[str]
) -> None:
    """Write rows that are in the text form of COPY: cells by `as_text`, with tabs between them.

    Raises IntegrityError, DBAPIError.
    """
    with _copying(connection, table, names, "TEXT") as copy:
        copy.write("\n".join(lines))


def copy_enrollments(connection: Connection, pairs: Iterable[Pair], now: datetime) -> None:
    """Write rows of `student_courses`. Raises IntegrityError if one is there."""
    columns = ("student_id", "course_id", "enrolled_at")
    pack = struct.Struct(">hiiiiiq").pack
    # Microseconds since the year 2000, as PostgreSQL keeps them.
    moment = (now - _EPOCH) // timedelta(microseconds=1)
    # A row is the number of its fields, then each of them after its length.
    rows = [pack(3, 4, student, 4, course, 8, moment) for student, course in pairs]
    with _copying(connection, StudentCourse.__tablename__, columns, "BINARY") as copy:
        copy.write(b"".join((_HEAD, *rows, _END)))


def as_text(values: Sequence[Any]) -> list[str]:
    """Return the values of a column in the text form of COPY."""
    texts = "".join([value for value in values if type(value) is str])
    # Looking at all at once is cheap, and few columns have anything to escape.
    if "\\" in texts or not texts.isprintable():
        values = [v.translate(_ESCAPES) if type(v) is str else v for v in values]
    return [r"\N" if value is None else str(value) for value in values]


@contextmanager
def _copying(
    connection: Connection, table: str, columns: Iterable[str], form: str
) -> Iterator[Any]:
    """Run `COPY` by psycopg's own means; its errors become those of SQLAlchemy."""
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT {form})"
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            yield copy
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement,
            None,
            error,
            psycopg.Error,
            hide_parameters=True,
            connection_invalidated=driver.closed,
            dialect=connection.dialect,
        ) from error
