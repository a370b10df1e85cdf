"""Many rows at once into PostgreSQL: `COPY` in binary form, in the transaction of a connection.

What is written most is packed here: psycopg looks at each value, and takes twice as long.
The form is that of PostgreSQL's manual, COPY, "Binary Format": a row is the number of its fields,
then each of them with its length; -1 is the length of NULL.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import psycopg
from sqlalchemy import BigInteger, Connection, Integer
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from worker.models import EnrollmentResult, Instant, StudentCourse

_HEAD = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_TYPES = {Integer: "int4", BigInteger: "int8", Instant: "timestamptz"}
"""By these names psycopg knows how to write a value; all else is written as text."""

Pair = tuple[int, int]
Outcome = tuple[str, int | None, int | str | None, list[int], list[int]]
"""Of a request that is wholly enrolled: its id, the student's key, the student as asked for, the
courses, and those of them whose row was there before."""


def copy_rows(
    connection: Connection,
    table: str,
    columns: Mapping[str, TypeEngine[Any]],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Write any rows; JSON columns are given as text. Raises IntegrityError, DBAPIError."""
    with _copying(connection, table, columns) as copy:
        copy.set_types([_TYPES.get(type(type_), "text") for type_ in columns.values()])
        for row in rows:
            copy.write_row(row)


def copy_enrollments(connection: Connection, pairs: Iterable[Pair], now: datetime) -> None:
    """Write rows of `student_courses`. Raises IntegrityError if one is there."""
    columns = ("student_id", "course_id", "enrolled_at")
    pack = struct.Struct(">hiiiiiq").pack
    moment = _moment(now)
    rows = [pack(3, 4, student, 4, course, 8, moment) for student, course in pairs]
    with _copying(connection, StudentCourse.__tablename__, columns) as copy:
        copy.write(b"".join((_HEAD, *rows, _END)))


def copy_enrolled(
    connection: Connection, outcomes: Iterable[Outcome], batch_id: str, now: datetime
) -> None:
    """Store what became of requests of a batch that were wholly enrolled.

    Raises IntegrityError if one of them has an outcome already.
    """
    varying = ("request_id", "student_id", "student_sis_id", "enrolled", "already")
    constant = ("fingerprint", "status", "errors", "batch_id", "completed_at")
    texts = [_field(text.encode()) for text in ("enrolled", "[]", batch_id)]
    end = b"".join((_NULL, *texts, struct.pack(">iq", 8, _moment(now))))
    rows = [_HEAD]
    for request_id, student, asked_for, enrolled, already in outcomes:
        name = request_id.encode()
        sis_id = asked_for.encode() if isinstance(asked_for, str) else None
        # A list of integers as Python shows it is JSON.
        courses = str(enrolled).encode()
        before = str(already).encode() if already else b"[]"
        pack = _packer(len(name), len(sis_id or b""), len(courses), len(before), len(end))
        rows.append(
            pack(
                len(varying) + len(constant),
                len(name),
                name,
                4,
                student,
                -1 if sis_id is None else len(sis_id),
                sis_id or b"",
                len(courses),
                courses,
                len(before),
                before,
                end,
            )
        )
    rows.append(_END)
    with _copying(connection, EnrollmentResult.__tablename__, (*varying, *constant)) as copy:
        copy.write(b"".join(rows))


@cache
def _packer(name: int, sis_id: int, courses: int, before: int, end: int) -> Callable[..., bytes]:
    return struct.Struct(f">hi{name}siii{sis_id}si{courses}si{before}s{end}s").pack


def _field(content: bytes) -> bytes:
    return struct.pack(">i", len(content)) + content


def _moment(moment: datetime) -> int:
    """Microseconds since the year 2000, as PostgreSQL keeps it."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


@contextmanager
def _copying(connection: Connection, table: str, columns: Iterable[str]) -> Iterator[Any]:
    """`COPY` by psycopg's own means; its errors become those of SQLAlchemy."""
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
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
