"""Read what a batch changed, and the state of its undo, in SQL."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Integer,
    and_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from producer.contract.chunks import Tally, line_request_ids
from producer.schemas import Kind
from worker.database.sets import (
    columns_of,
    is_among,
    list_parameter,
    row_parameters,
    rows_as_table,
)
from worker.enrollment.derived.entries import FreshRequests
from worker.enrollment.derived.repository import find_opening_request
from worker.models import (
    Batch,
    BatchChunk,
    EnrollmentResult,
    Instant,
    Pair,
    PastEnrollment,
    RetentionLimit,
    StudentCourse,
)
from worker.moments import STEP
from worker.undo.values import Progress, Restored

PAGE: Final = 5_000
"""The most stored results that one chunk of an undo reverses."""

# --- the batch and its undo -------------------------------------------------------------------


def find_batch(connection: Connection, batch_id: str, *, lock: bool = False) -> Any | None:
    """Return a batch; with `lock`, once no transaction applies a chunk of it."""
    columns = (Batch.id, Batch.kind, Batch.moment, Batch.stopped_at, Batch.data_set)
    statement = select(*columns).where(Batch.id == batch_id)
    if lock:
        statement = statement.with_for_update()
    return connection.execute(statement).one_or_none()


def is_stopped(connection: Connection, batch_id: str) -> bool:
    """Return whether a batch was undone: none of its requests may be decided any more.

    If it was not, its undo waits for the end of this transaction.
    """
    stopped = select(Batch.stopped_at).where(Batch.id == batch_id)
    locked = stopped.with_for_update(read=True, key_share=True)
    return connection.scalar(locked) is not None


def stop_batch(connection: Connection, batch_id: str, now: datetime) -> None:
    """Have the other chunks of a batch refused, from the commit of this transaction on."""
    running = update(Batch).where(Batch.id == batch_id, Batch.stopped_at.is_(None))
    connection.execute(running.values(stopped_at=now))


def stop_last(connection: Connection, batch_id: str) -> None:
    """Make a stopped batch the one that was stopped last, whatever the clocks say."""
    others = select(func.max(Batch.stopped_at)).where(Batch.id != batch_id)
    last: datetime | None = connection.scalar(others)
    if last is not None:
        earlier = update(Batch).where(Batch.id == batch_id, Batch.stopped_at <= last)
        connection.execute(earlier.values(stopped_at=last + STEP))


def add_undo(connection: Connection, undo_id: str, moment: datetime, undone: str) -> None:
    """Store a batch that undoes another one, with the name of its file.

    Raises IntegrityError if it exists.
    """
    file_name = select(Batch.file_name).where(Batch.id == undone).scalar_subquery()
    batch = {"id": undo_id, "kind": Kind.ENROLLMENTS.value, "moment": moment}
    connection.execute(insert(Batch).values(file_name=file_name, **batch))


def find_retention_limit(connection: Connection) -> datetime | None:
    """Return the moment before which history was pruned."""
    limit: datetime | None = connection.scalar(select(RetentionLimit.moment))
    return limit


def find_progress(connection: Connection, undo_id: str) -> Progress:
    """Return how far an undo has come."""
    chunk = BatchChunk
    columns = (chunk.number, chunk.last, chunk.requests_through, chunk.rows_through)
    newest = select(*columns).where(chunk.batch_id == undo_id)
    row = connection.execute(newest.order_by(chunk.number.desc()).limit(1)).one_or_none()
    if row is None:
        return Progress()
    size = Tally(requests=row.requests_through, rows=row.rows_through)
    return Progress(row.number + 1, row.last, size)


# --- what the batch changed -------------------------------------------------------------------


def chunks_with_fresh(connection: Connection, batch_id: str) -> Sequence[int]:
    """Return the numbers of the chunks with derived results, in their order."""
    chunk = BatchChunk
    is_fresh = (chunk.batch_id == batch_id, chunk.fresh.is_not(None))
    return connection.scalars(select(chunk.number).where(*is_fresh).order_by(chunk.number)).all()


def read_fresh(connection: Connection, batch_id: str, number: int) -> FreshRequests | None:
    """Return the fresh requests of a chunk; None if they were pruned in the meantime."""
    chunk = BatchChunk
    row = connection.execute(
        select(chunk.fresh, chunk.fresh_size).where(
            chunk.batch_id == batch_id, chunk.number == number, chunk.fresh.is_not(None)
        )
    ).one_or_none()
    return None if row is None else FreshRequests(row.fresh, row.fresh_size)


def _counts_at() -> Any:
    """Return when a result counts: an older version stored no moment."""
    result = EnrollmentResult
    return func.coalesce(result.moment, result.completed_at, type_=Instant()).label("counts_at")


def _result_columns() -> list[Any]:
    result = EnrollmentResult
    lists = (result.enrolled, result.already, result.dropped, result.not_enrolled)
    return [result.request_id, result.student_id, *lists, result.superseded, _counts_at()]


def _of_batch(*, own: bool) -> list[Any]:
    """Return the conditions of the results of a batch: those with ids of their own, or the others.

    `_parameters` returns the values of their parameters.
    """
    result = EnrollmentResult
    conditions = [result.batch_id == bindparam("batch")]
    if own:
        return [*conditions, result.batch_id.is_not(None), result.fingerprint.is_not(None)]
    within = (result.request_id > bindparam("first"), result.request_id < bindparam("end"))
    return [*conditions, *within, result.fingerprint.is_(None)]


def _parameters(batch_id: str) -> dict[str, Any]:
    first, end = line_request_ids(batch_id)
    return {"batch": batch_id, "first": first, "end": end}


def find_changes(
    connection: Connection,
    batch_id: str,
    after: str,
    *,
    own: bool,
    others: bool = False,
) -> list[Any]:
    """Return the next stored results that changed something, in the order of their ids.

    With `own`, those of requests with ids of their own, else the others. With `others`, also those
    that changed nothing.
    """
    values = {**_parameters(batch_id), "after": after}
    return list(connection.execute(_select_changes(own, others), values))


def find_changes_of_chunk(connection: Connection, batch_id: str, number: int) -> list[Any]:
    """Return the stored results of a chunk, in the order of their ids."""
    result = EnrollmentResult
    first, end = line_request_ids(batch_id, number)
    own = (result.batch_id == batch_id, result.request_id > first, result.request_id < end)
    statement = select(*_result_columns()).where(*own).order_by(result.request_id)
    return list(connection.execute(statement))


@cache
def _select_changes(own: bool, others: bool) -> Any:  # noqa: FBT001 - for the cache
    result, length = EnrollmentResult, func.json_array_length
    nothing = func.coalesce(length(result.not_enrolled), 0)
    changes = or_(
        length(result.enrolled) > length(result.already),
        func.coalesce(length(result.dropped), 0) > nothing,
    )
    after = result.request_id > bindparam("after")
    page = select(*_result_columns()).where(*_of_batch(own=own), after)
    page = page if others else page.where(changes)
    return page.order_by(result.request_id).limit(PAGE)


def may_change_twice(connection: Connection, batch_id: str, moment: datetime) -> bool:
    """Return whether a batch may have changed a pair more than once.

    That needs both enrolls and drops, or requests that count at another moment than the batch.
    """
    chunk = BatchChunk
    sums = select(func.sum(chunk.enrolled), func.sum(chunk.dropped))
    enrolled, dropped = connection.execute(sums.where(chunk.batch_id == batch_id)).one()
    values = {**_parameters(batch_id), "moment": moment}
    return bool(enrolled and dropped) or any(
        connection.scalar(_HAS_OTHER[own], values) for own in (False, True)
    )


_HAS_OTHER: Final = {
    own: select(
        exists().where(*_of_batch(own=own), _counts_at() != bindparam("moment", type_=Instant()))
    )
    for own in (False, True)
}


def find_mentions(
    connection: Connection, batch_id: str, students: Collection[int], since: datetime
) -> list[Any]:
    """Return all stored results of a batch about some students.

    `since` is the earliest time at which a chunk of the batch was applied.
    """
    result = EnrollmentResult
    dialect = connection.dialect.name
    statement = select(*_result_columns()).where(
        is_among(dialect, result.student_id),
        result.completed_at >= since,
        result.batch_id == batch_id,
    )
    return list(connection.execute(statement, list_parameter(dialect, students)))


def find_placed(
    connection: Connection, batch_id: str, moment: datetime, students: Collection[int]
) -> list[Any]:
    """Return pairs of some students that derived results of a batch may have opened.

    Each has the number of its chunk and the position of its request there.
    """
    dialect = connection.dialect.name
    parameters = list_parameter(dialect, students)
    found: list[Any] = []
    for rows in (StudentCourse, PastEnrollment):
        chunk = exists().where(
            BatchChunk.batch_id == batch_id,
            BatchChunk.number == rows.chunk,
            BatchChunk.fresh.is_not(None),
        )
        statement = select(rows.student_id, rows.course_id, rows.chunk, rows.position).where(
            is_among(dialect, rows.student_id), rows.enrolled_at == moment, chunk
        )
        found += connection.execute(statement, parameters).all()
    return found


def first_applied(connection: Connection, batch_id: str) -> datetime | None:
    """Return when the first chunk of a batch was applied."""
    first = select(func.min(BatchChunk.applied_at)).where(BatchChunk.batch_id == batch_id)
    applied_at: datetime | None = connection.scalar(first)
    return applied_at


# --- past enrollments and owners --------------------------------------------------------------

_PAIR = columns_of(PastEnrollment, "student_id", "course_id")
_OWNER = {**_PAIR, "data_set": Integer(), "since": Instant(), "until": Instant()}


def find_past(connection: Connection, pairs: Iterable[Pair], since: datetime) -> list[Any]:
    """Return the enrollments of pairs that ended at a moment or later, the earliest end first."""
    wanted = sorted(set(pairs))
    if not wanted:
        return []
    dialect = connection.dialect.name
    parameters = row_parameters(dialect, _PAIR, wanted) | {"since": since}
    return list(connection.execute(_select_past(dialect), parameters))


@cache
def _select_past(dialect: str) -> Any:
    source, past = rows_as_table(dialect, _PAIR), PastEnrollment
    is_pair = (past.student_id == source.c.student_id) & (past.course_id == source.c.course_id)
    columns = (past.student_id, past.course_id, past.ended_at, past.enrolled_at, past.data_set)
    ended = (past.enrolled_at.is_not(None), past.ended_at >= bindparam("since", type_=Instant()))
    return (
        select(*columns)
        .select_from(source)
        .join(past, is_pair)
        .where(*ended)
        .order_by(past.ended_at)
    )


def restore_owners(connection: Connection, restored: Sequence[Restored]) -> None:
    """Give enrollments their owners back, unless a later request has opened them."""
    dialect = connection.dialect.name
    rows = [(*each.pair, *each[1:]) for each in restored]
    if rows:
        connection.execute(_restore(dialect), row_parameters(dialect, _OWNER, rows))


@cache
def _restore(dialect: str) -> Any:
    source, enrolled = rows_as_table(dialect, _OWNER), StudentCourse
    is_own = and_(
        enrolled.student_id == source.c.student_id,
        enrolled.course_id == source.c.course_id,
        enrolled.enrolled_at >= source.c.since,
        enrolled.enrolled_at <= source.c.until,
    )
    return update(enrolled).where(is_own).values(data_set=source.c.data_set)


# --- what was left ----------------------------------------------------------------------------


def find_superseded(
    connection: Connection, undo_id: str, number: int | None, limit: int
) -> list[Any]:
    """Return results of an undo in which a later request won: of one chunk, or of all."""
    result = EnrollmentResult
    first, end = line_request_ids(undo_id, number)
    statement = select(result.student_id, result.superseded).where(
        result.request_id > first,
        result.request_id < end,
        result.batch_id == undo_id,
        result.superseded.is_not(None),
    )
    return list(connection.execute(statement.order_by(result.request_id).limit(limit)))


def find_drop(connection: Connection, pair: Pair, moment: datetime) -> str | None:
    """Return the request that dropped a pair at a moment."""
    past = PastEnrollment
    dropped = select(past.request_id).where(
        past.student_id == pair[0], past.course_id == pair[1], past.ended_at == moment
    )
    request_id: str | None = connection.scalar(dropped.limit(1))
    return request_id


def find_confirmations_of_others(
    connection: Connection, batch_id: str, students: Collection[int], since: datetime
) -> list[Any]:
    """Return the results about students that confirmed a pair, but none of those of a batch.

    Only results that were stored at `since` or later are returned.
    """
    result, dialect = EnrollmentResult, connection.dialect.name
    statement = select(result.student_id, result.enrolled, _counts_at()).where(
        is_among(dialect, result.student_id),
        result.completed_at >= since,
        result.batch_id.is_distinct_from(batch_id),
        func.json_array_length(result.already) > 0,
    )
    return list(connection.execute(statement, list_parameter(dialect, students)))


def find_confirmation(
    connection: Connection, pair: Pair, moment: datetime, undone: str
) -> str | None:
    """Return the request that enrolled or confirmed a pair at a moment.

    A request of the batch that was undone is not returned.
    """
    result = EnrollmentResult
    counted = select(result.request_id, result.enrolled).where(
        result.student_id == pair[0],
        _counts_at() == moment,
        result.batch_id.is_distinct_from(undone),
    )
    rows = connection.execute(counted).all()
    named = (row.request_id for row in rows if pair[1] in row.enrolled)
    return next(named, None) or find_opening_request(connection, pair, moment)
