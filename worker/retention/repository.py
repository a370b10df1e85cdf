"""Find and remove old rows in SQL, page by page."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.orm import aliased

from producer.fields import UNDO_PREFIX
from worker.database.sets import is_among, list_parameter
from worker.models import (
    Batch,
    BatchChunk,
    BatchRefusal,
    DeadLetter,
    EnrollmentResult,
    Instant,
    PastEnrollment,
    RetentionLimit,
)

Aged = type[EnrollmentResult] | type[DeadLetter]
_AGED: Mapping[Aged, tuple[Any, Any]] = {
    EnrollmentResult: (EnrollmentResult.request_id, EnrollmentResult.completed_at),
    DeadLetter: (DeadLetter.id, DeadLetter.last_at),
}
"""For each table, the key to walk along and the column with a row's age."""


def end_of_page(connection: Connection, model: Aged, after: Any | None, size: int) -> Any | None:
    """Return the last key of the next `size` rows after a key; None if there are no more."""
    key, _ = _AGED[model]
    page = select(key.label("key")).order_by(key).limit(size)
    if after is not None:
        page = page.where(key > after)
    return connection.scalar(select(func.max(page.subquery().c.key)))


def count_older(
    connection: Connection, model: Aged, after: Any | None, through: Any, before: datetime
) -> int:
    """Count the rows of a page that are older than a moment."""
    older = select(func.count()).select_from(model).where(*_older(model, after, through, before))
    return connection.scalar(older) or 0


def delete_older(
    connection: Connection, model: Aged, after: Any | None, through: Any, before: datetime
) -> int:
    """Remove the rows of a page that are older than a moment; return how many."""
    return connection.execute(delete(model).where(*_older(model, after, through, before))).rowcount


def _older(model: Aged, after: Any | None, through: Any, before: datetime) -> list[Any]:
    key, age = _AGED[model]
    conditions = [key <= through, age < before, *([] if after is None else [key > after])]
    if model is EnrollmentResult:
        # One that counts later may still confirm an enrollment against a late drop.
        conditions.append(func.coalesce(EnrollmentResult.moment, age) < before)
    return conditions


class FreshChunk(NamedTuple):
    """A chunk with derived results."""

    batch_id: str
    number: int


def find_fresh(connection: Connection, after: FreshChunk | None, before: datetime) -> Any | None:
    """Return the next chunk of which all derived results are older than a moment, by its key.

    They count at the moment of the batch, and were stored when the chunk was applied.
    """
    chunk = BatchChunk
    statement = (
        select(chunk.batch_id, chunk.number, chunk.fresh, chunk.fresh_size)
        .join(Batch, Batch.id == chunk.batch_id)
        .where(chunk.fresh.is_not(None), chunk.applied_at < before, Batch.moment < before)
        .order_by(chunk.batch_id, chunk.number)
        .limit(1)
    )
    if after is not None:
        statement = statement.where(tuple_(chunk.batch_id, chunk.number) > tuple_(*after))
    return connection.execute(statement).one_or_none()


def forget_fresh(connection: Connection, chunk: FreshChunk) -> int:
    """Remove the derived results of a chunk; return 1, or 0 if they are gone already."""
    statement = update(BatchChunk).where(
        BatchChunk.batch_id == chunk.batch_id,
        BatchChunk.number == chunk.number,
        BatchChunk.fresh.is_not(None),
    )
    return connection.execute(statement.values(fresh=None, fresh_size=None)).rowcount


def fresh_of_batch(connection: Connection, batch_id: str) -> list[FreshChunk]:
    """Return the chunks of a batch that have derived results."""
    chunk = BatchChunk
    statement = select(chunk.batch_id, chunk.number).where(
        chunk.batch_id == batch_id, chunk.fresh.is_not(None)
    )
    return [FreshChunk(*row) for row in connection.execute(statement)]


def fresh_of_past(connection: Connection, before: datetime) -> list[FreshChunk]:
    """Return the chunks with derived results whose enrollments partly ended before a moment."""
    chunk, past = BatchChunk, PastEnrollment
    statement = (
        select(chunk.batch_id, chunk.number)
        .select_from(past)
        .join(Batch, Batch.moment == past.enrolled_at)
        .join(chunk, (chunk.batch_id == Batch.id) & (chunk.number == past.chunk))
        .where(past.ended_at < before, chunk.fresh.is_not(None))
        .distinct()
    )
    return [FreshChunk(*row) for row in connection.execute(statement)]


def count_past(connection: Connection, before: datetime) -> int:
    """Count the enrollments that ended before a moment, and drops of pairs that had none."""
    past = PastEnrollment
    counted = select(func.count()).select_from(past).where(past.ended_at < before)
    return connection.scalar(counted) or 0


def delete_past(connection: Connection, before: datetime, size: int) -> int:
    """Remove at most `size` of what `count_past` counts, the oldest first; return how many."""
    past = PastEnrollment
    key = (past.student_id, past.course_id, past.ended_at)
    oldest = select(*key).where(past.ended_at < before).order_by(past.ended_at).limit(size)
    return connection.execute(delete(past).where(tuple_(*key).in_(oldest))).rowcount


def find_running(
    connection: Connection, before: datetime, *, arrived_since: datetime | None = None
) -> Any | None:
    """Return the batch with the earliest moment before this one that is not done, or None.

    With `arrived_since`, a batch whose newest chunk is older is given up, and does not count.
    Neither does one that was undone: what is missing of it would be refused.
    """
    chunk, undo = BatchChunk, aliased(BatchChunk)
    is_undone = exists().where(undo.batch_id == literal(UNDO_PREFIX) + Batch.id, undo.last)
    first = func.min(chunk.applied_at)
    counts_at = func.coalesce(Batch.moment, first, type_=Instant())
    # The number after the last one may be too large for the type of the column.
    total = func.max(case((chunk.last, cast(chunk.number, BigInteger) + 1)))
    statement = (
        select(Batch.id, counts_at.label("moment"))
        .join(chunk, chunk.batch_id == Batch.id)
        .where(or_(Batch.stopped_at.is_(None), ~is_undone))
        .group_by(Batch.id, Batch.moment)
        .having(
            counts_at < before,
            true() if arrived_since is None else func.max(chunk.applied_at) >= arrived_since,
            or_(total.is_(None), func.count() < total),
        )
    )
    return connection.execute(statement.order_by("moment").limit(1)).one_or_none()


def _is_older(before: datetime) -> Any:
    """Return the condition that no chunk of a batch was applied at or after a moment."""
    chunk = BatchChunk
    return ~exists().where(chunk.batch_id == Batch.id, chunk.applied_at >= before)


def find_batches(
    connection: Connection, after: str | None, size: int, before: datetime
) -> list[Any]:
    """Return the next `size` batches by id; `chunks` is null if a batch has a newer chunk."""
    chunks = select(func.count()).where(BatchChunk.batch_id == Batch.id).scalar_subquery()
    refused = exists().where(BatchRefusal.batch_id == Batch.id).correlate(Batch)
    columns = [case((_is_older(before), value)) for value in (chunks, refused)]
    statement = select(Batch.id, columns[0].label("chunks"), columns[1].label("refused"))
    if after is not None:
        statement = statement.where(Batch.id > after)
    return list(connection.execute(statement.order_by(Batch.id).limit(size)))


def lock_old_batches(
    connection: Connection, batch_ids: Collection[str], before: datetime
) -> list[str]:
    """Lock these batches against new chunks; return those still older than a moment."""
    dialect = connection.dialect.name
    listed = select(Batch.id).where(is_among(dialect, Batch.id)).order_by(Batch.id)
    ids = list_parameter(dialect, batch_ids)
    # Two statements: the second one sees what a worker wrote while the first one waited.
    connection.execute(listed.with_for_update(), ids)
    return list(connection.scalars(listed.where(_is_older(before)), ids))


def count_refusals(connection: Connection, batch_id: str) -> int:
    """Count the refusals of a batch."""
    counted = select(func.count()).select_from(BatchRefusal)
    return connection.scalar(counted.where(BatchRefusal.batch_id == batch_id)) or 0


def delete_refusals(
    connection: Connection, batch_id: str, after: tuple[int, int], size: int
) -> tuple[int, tuple[int, int]]:
    """Remove the next `size` refusals of a batch, starting after a (line, id).

    Returns how many, and the (line, id) of the last one.
    """
    refusal = BatchRefusal
    page = (
        select(refusal.id)
        .where(refusal.batch_id == batch_id, tuple_(refusal.line, refusal.id) > tuple_(*after))
        .order_by(refusal.line, refusal.id)
        .limit(size)
    )
    removed = delete(refusal).where(refusal.id.in_(page)).returning(refusal.line, refusal.id)
    positions = [(line, key) for line, key in connection.execute(removed)]
    return len(positions), max(positions, default=after)


def delete_batches(connection: Connection, batch_ids: Collection[str]) -> tuple[int, int]:
    """Remove batches whose refusals are gone; return how many batches and chunks."""
    dialect = connection.dialect.name
    ids = list_parameter(dialect, batch_ids)
    delete_chunks = delete(BatchChunk).where(is_among(dialect, BatchChunk.batch_id))
    chunks = connection.execute(delete_chunks, ids).rowcount
    delete_listed = delete(Batch).where(is_among(dialect, Batch.id))
    return connection.execute(delete_listed, ids).rowcount, chunks


def raise_retention_limit(connection: Connection, moment: datetime) -> None:
    """Have requests refused that count before a moment. The limit never goes back."""
    limit = RetentionLimit.moment
    connection.execute(
        update(RetentionLimit).where(limit.is_(None) | (limit < moment)).values(moment=moment)
    )
