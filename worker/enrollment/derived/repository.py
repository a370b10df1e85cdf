"""Read derived results in SQL, and turn them into stored ones.

`worker.enrollment.derived.entries` says what is stored of a fresh request. The rows of
`student_courses` and `past_enrollments` that it opened name its chunk and its position there; the
moment at which they begin is that of its batch.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Integer,
    LargeBinary,
    String,
    bindparam,
    cast,
    func,
    or_,
    select,
    tuple_,
    union,
    update,
)

from producer.contract.chunks import line_request_id
from producer.fields import MAX_CHUNK_RECORDS, MAX_KEY, is_line_request_id
from worker.database.sets import columns_of, row_parameters, rows_as_table
from worker.enrollment.derived.entries import (
    KEY_BYTES,
    Entry,
    FreshRequests,
    Origin,
    derive,
    student_key,
    unpack,
    unpack_all,
)
from worker.enrollment.values import StoredResult
from worker.models import Batch, BatchChunk, Instant, Pair, PastEnrollment, StudentCourse
from worker.repository import describe_students

ERRORS_CHARACTERS: Final = len("[]")
"""How many characters the errors of a derived result have, if it is stored."""

MANY: Final = 100
"""With more ids, the ledger is first asked which of their chunks it has."""

_CHUNK: Final = columns_of(BatchChunk, "batch_id", "number")
_PLACE: Final = {**_CHUNK, "position": Integer()}


def find_derived(connection: Connection, request_ids: Iterable[str]) -> list[StoredResult]:
    """Return the derived results of these requests, in no particular order."""
    places = [place for i in set(request_ids) if (place := _place(i)) is not None]
    if len(places) > MANY:
        # The requests of a chunk that is applied just now: it has no entry in the ledger yet.
        held = _find_chunks(connection, {place[:2] for place in places})
        places = [place for place in places if place[:2] in held]
    if not places:
        return []
    dialect = connection.dialect.name
    parameters = row_parameters(dialect, _PLACE, sorted(places))
    return _derive(connection, connection.execute(_select_derived(dialect), parameters))


def _find_chunks(
    connection: Connection, chunks: Collection[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Return which of these chunks hold fresh requests."""
    dialect = connection.dialect.name
    parameters = row_parameters(dialect, _CHUNK, sorted(chunks))
    return {(b, n) for b, n in connection.execute(_select_chunks(dialect), parameters)}


@cache
def _select_chunks(dialect: str) -> Any:
    source = rows_as_table(dialect, _CHUNK)
    chunk = BatchChunk
    is_chunk = (chunk.batch_id == source.c.batch_id) & (chunk.number == source.c.number)
    return select(*source.c).join(chunk, is_chunk).where(chunk.fresh.is_not(None))


def _place(request_id: str) -> tuple[str, int, int] | None:
    """Return the batch, the chunk and the position that an id was made from; None without them."""
    if not is_line_request_id(request_id):
        return None
    batch_id, *numbers = request_id.rsplit(":", 2)
    number, position = map(int, numbers)
    is_possible = number <= MAX_KEY and position < MAX_CHUNK_RECORDS
    if not is_possible or line_request_id(batch_id, number, position) != request_id:
        return None
    return batch_id, number, position


def entry_at(position: Any) -> Any:
    """Return the entry at a position of a chunk; it is empty behind the last one."""
    size = BatchChunk.fresh_size
    return func.substr(BatchChunk.fresh, position * size + 1, size, type_=LargeBinary())


@cache
def _select_derived(dialect: str) -> Any:
    source = rows_as_table(dialect, _PLACE)
    entry = entry_at(source.c.position)
    is_chunk = (BatchChunk.batch_id == source.c.batch_id) & (BatchChunk.number == source.c.number)
    return (
        select(*source.c, BatchChunk.applied_at, Batch.moment, entry)
        .select_from(source)
        .join(BatchChunk, is_chunk)
        .join(Batch, Batch.id == BatchChunk.batch_id)
        .where(BatchChunk.fresh.is_not(None))
    )


def find_derived_of_student(
    connection: Connection, student: int, limit: int, before: tuple[datetime, str] | None = None
) -> list[StoredResult]:
    """Return derived results of a student, by key, newest first.

    `before` is the moment at which a result was stored, and its request id; only older results are
    returned.
    """
    values: dict[str, Any] = {"student": student, "limit": limit}
    values["by_key"] = student_key(student, is_named_by_key=True)
    values["by_sis_id"] = student_key(student, is_named_by_key=False)
    if before is not None:
        values["moment"], values["id"] = before
    statement = _select_of_student(connection.dialect.name, before is not None)
    return _derive(connection, connection.execute(statement, values))


@cache
def _select_of_student(dialect: str, before: bool) -> Any:  # noqa: FBT001 - for the cache
    student = bindparam("student", type_=Integer())
    opened, past = StudentCourse, PastEnrollment
    places = union(
        *(
            select(rows.enrolled_at, rows.chunk, rows.position).where(
                rows.student_id == student, rows.chunk.is_not(None)
            )
            for rows in (opened, past)
        )
    ).subquery()
    entry = entry_at(places.c.position)
    # Two batches may have one moment, so the entry decides whether the row is of this chunk.
    key = func.substr(entry, 1, KEY_BYTES, type_=LargeBinary())
    is_of_student = or_(
        *(key == bindparam(n, type_=LargeBinary()) for n in ("by_key", "by_sis_id"))
    )
    request_id = (
        Batch.id + ":" + cast(places.c.chunk, String()) + ":" + cast(places.c.position, String())
    ).collate("C" if dialect == "postgresql" else "BINARY")
    age = (BatchChunk.applied_at, request_id)
    is_chunk = (BatchChunk.batch_id == Batch.id) & (BatchChunk.number == places.c.chunk)
    statement = (
        select(Batch.id, places.c.chunk, places.c.position, age[0], Batch.moment, entry)
        .select_from(places)
        .join(Batch, Batch.moment == places.c.enrolled_at)
        .join(BatchChunk, is_chunk)
        .where(BatchChunk.fresh.is_not(None), is_of_student)
    )
    if before:
        last = (bindparam("moment", type_=Instant()), bindparam("id", type_=String()))
        statement = statement.where(tuple_(*age) < tuple_(*last))
    newest_first = [column.desc() for column in age]
    return statement.order_by(*newest_first).limit(bindparam("limit", type_=Integer()))


def find_opening_request(connection: Connection, pair: Pair, moment: datetime) -> str | None:
    """Return the request with a derived result that opened a pair at a moment, or None."""
    values = {"student": pair[0], "course": pair[1], "moment": moment}
    for batch_id, number, position, packed in connection.execute(_OPENING, values):
        entry = unpack(packed)
        # Other batches of this moment may have a chunk with this number, too.
        if entry is not None and entry.student == pair[0] and pair[1] in entry.courses:
            return line_request_id(batch_id, number, position)
    return None


_OPENING = (
    select(Batch.id, BatchChunk.number, StudentCourse.position, entry_at(StudentCourse.position))
    .select_from(StudentCourse)
    .join(Batch, Batch.moment == StudentCourse.enrolled_at)
    .join(
        BatchChunk,
        (BatchChunk.batch_id == Batch.id) & (BatchChunk.number == StudentCourse.chunk),
    )
    .where(
        StudentCourse.student_id == bindparam("student"),
        StudentCourse.course_id == bindparam("course"),
        StudentCourse.enrolled_at == bindparam("moment", type_=Instant()),
        BatchChunk.fresh.is_not(None),
    )
)


def take_derived_of_chunk(connection: Connection, batch_id: str, number: int) -> list[StoredResult]:
    """Return all derived results of a chunk, and remove them from its ledger entry.

    The caller stores them.
    """
    values = {"batch": batch_id, "chunk": number}
    row = connection.execute(_CHUNK_AS_A_WHOLE, values).one_or_none()
    if row is None:
        return []
    connection.execute(_FORGET, values)
    origin = Origin(batch_id, number, row.applied_at, row.moment)
    fresh = unpack_all(FreshRequests(row.fresh, row.fresh_size))
    return _results(connection, [(origin, position, entry) for position, entry in fresh])


_IS_CHUNK = (BatchChunk.batch_id == bindparam("batch")) & (BatchChunk.number == bindparam("chunk"))
_CHUNK_AS_A_WHOLE = (
    select(BatchChunk.fresh, BatchChunk.fresh_size, BatchChunk.applied_at, Batch.moment)
    .join(Batch, Batch.id == BatchChunk.batch_id)
    .where(_IS_CHUNK, BatchChunk.fresh.is_not(None))
    .with_for_update(of=BatchChunk)
)
_FORGET = update(BatchChunk).where(_IS_CHUNK).values(fresh=None, fresh_size=None)


def _derive(connection: Connection, rows: Iterable[Any]) -> list[StoredResult]:
    """Return the results of fresh requests: batch, chunk, position, both times and entry."""
    found = [
        (Origin(batch_id, number, applied_at, moment), position, entry)
        for batch_id, number, position, applied_at, moment, packed in rows
        if (entry := unpack(packed)) is not None
    ]
    return _results(connection, found)


def _results(
    connection: Connection, found: Sequence[tuple[Origin, int, Entry]]
) -> list[StoredResult]:
    named = {entry.student for _, _, entry in found if not entry.is_named_by_key}
    sis_ids = _sis_ids(connection, named)
    return [
        derive(origin, position, entry, sis_ids.get(entry.student))
        for origin, position, entry in found
    ]


def _sis_ids(connection: Connection, students: Collection[int]) -> dict[int, str]:
    if not students:
        return {}
    return {row.id: row.sis_id for row in describe_students(connection, students)}
