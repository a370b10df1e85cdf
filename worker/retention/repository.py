"""Find and remove old rows in SQL, page by page."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, delete, exists, func, select, tuple_

from worker.database.sets import is_among, list_parameter
from worker.models import Batch, BatchChunk, BatchRefusal, DeadLetter, EnrollmentResult

Aged = type[EnrollmentResult] | type[DeadLetter]
_AGED: Mapping[Aged, tuple[Any, Any]] = {
    EnrollmentResult: (EnrollmentResult.request_id, EnrollmentResult.completed_at),
    DeadLetter: (DeadLetter.id, DeadLetter.last_at),
}
"""The key by which a table is walked, and the column that tells a row's age."""


def end_of_page(connection: Connection, model: Aged, after: Any | None, size: int) -> Any | None:
    """The last key of the next so many rows behind a key; None if there are no more."""
    key, _ = _AGED[model]
    behind = select(key.label("key")).order_by(key).limit(size)
    if after is not None:
        behind = behind.where(key > after)
    return connection.scalar(select(func.max(behind.subquery().c.key)))


def count_older(
    connection: Connection, model: Aged, after: Any | None, through: Any, before: datetime
) -> int:
    """How many rows of a page are older than a moment."""
    older = select(func.count()).select_from(model).where(*_older(model, after, through, before))
    return connection.scalar(older) or 0


def delete_older(
    connection: Connection, model: Aged, after: Any | None, through: Any, before: datetime
) -> int:
    """Remove the rows of a page that are older than a moment; returns how many."""
    return connection.execute(delete(model).where(*_older(model, after, through, before))).rowcount


def _older(model: Aged, after: Any | None, through: Any, before: datetime) -> list[Any]:
    key, age = _AGED[model]
    return [key <= through, age < before, *([] if after is None else [key > after])]


def _is_older(before: datetime) -> Any:
    """The condition that no chunk of a batch was applied since a moment."""
    chunk = BatchChunk
    return ~exists().where(chunk.batch_id == Batch.id, chunk.applied_at >= before)


def find_batches(
    connection: Connection, after: str | None, size: int, before: datetime
) -> list[Any]:
    """The next so many batches by id; `chunks` is null where a chunk came since a moment."""
    chunks = select(func.count()).where(BatchChunk.batch_id == Batch.id).scalar_subquery()
    refused = exists().where(BatchRefusal.batch_id == Batch.id).correlate(Batch)
    columns = [case((_is_older(before), of)) for of in (chunks, refused)]
    statement = select(Batch.id, columns[0].label("chunks"), columns[1].label("refused"))
    if after is not None:
        statement = statement.where(Batch.id > after)
    return list(connection.execute(statement.order_by(Batch.id).limit(size)))


def lock_old_batches(
    connection: Connection, batch_ids: Collection[str], before: datetime
) -> list[str]:
    """Of these batches, those that are still older than a moment; no chunk can come meanwhile."""
    dialect = connection.dialect.name
    these = select(Batch.id).where(is_among(dialect, Batch.id)).order_by(Batch.id)
    given = list_parameter(dialect, batch_ids)
    # In two statements: whoever waited for the lock must see what the other one wrote.
    connection.execute(these.with_for_update(), given)
    return list(connection.scalars(these.where(_is_older(before)), given))


def count_refusals(connection: Connection, batch_id: str) -> int:
    """How many refused lines of a batch are kept."""
    counted = select(func.count()).select_from(BatchRefusal)
    return connection.scalar(counted.where(BatchRefusal.batch_id == batch_id)) or 0


def delete_refusals(
    connection: Connection, batch_id: str, after: tuple[int, int], size: int
) -> tuple[int, tuple[int, int]]:
    """Remove the next refused lines of a batch, those behind a (line, id).

    Returns how many, and the last one.
    """
    refusal = BatchRefusal
    page = (
        select(refusal.id)
        .where(refusal.batch_id == batch_id, tuple_(refusal.line, refusal.id) > tuple_(*after))
        .order_by(refusal.line, refusal.id)
        .limit(size)
    )
    removed = delete(refusal).where(refusal.id.in_(page)).returning(refusal.line, refusal.id)
    places = [(line, key) for line, key in connection.execute(removed)]
    return len(places), max(places, default=after)


def delete_batches(connection: Connection, batch_ids: Collection[str]) -> tuple[int, int]:
    """Remove batches without refusals; returns how many, and how many chunks they had."""
    dialect = connection.dialect.name
    given = list_parameter(dialect, batch_ids)
    of_chunks = delete(BatchChunk).where(is_among(dialect, BatchChunk.batch_id))
    chunks = connection.execute(of_chunks, given).rowcount
    of_batches = delete(Batch).where(is_among(dialect, Batch.id))
    return connection.execute(of_batches, given).rowcount, chunks
