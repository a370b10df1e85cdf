"""Find out in SQL which batches do not count any more: they were undone.

An undo is a batch as well, and can be undone: then the batch that it had undone counts again.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, exists, literal, select
from sqlalchemy.orm import aliased

from producer.fields import UNDO_PREFIX
from worker.database.planning import real_table
from worker.models import Batch, BatchChunk

_AT_ONCE: Final = 500


def find_undone(connection: Connection, batch_ids: Iterable[str | None]) -> set[str]:
    """Return those of these batches that were undone, or that undid one which does not count.

    What such a batch did, its undo did the opposite of: together they count for nothing. A batch
    whose undo has not come to its end still counts. None stands for requests without a batch.
    """
    named = {batch_id for batch_id in batch_ids if batch_id is not None}
    undos = _finished_undos(connection, named)
    return {batch_id for batch_id in named if not _counts(batch_id, undos[base_of(batch_id)])}


def _finished_undos(connection: Connection, batch_ids: Iterable[str]) -> dict[str, int]:
    """Return how many undos have come to their end, one of another, by the batch submitted."""
    bases = {base_of(batch_id) for batch_id in batch_ids}
    undos = dict.fromkeys(bases, 0)
    current = {base: base for base in bases}
    while undone := _with_undo(connection, current):
        for batch_id in undone:
            undos[current[batch_id]] += 1
        current = {f"{UNDO_PREFIX}{batch_id}": current[batch_id] for batch_id in undone}
    return undos


class Undo(NamedTuple):
    """The undo of a batch, as far as it has come."""

    batch_id: str
    begun_at: datetime
    """By the clock of Redis."""
    is_done: bool


def find_undos(connection: Connection, batch_ids: Collection[str]) -> dict[str, Undo]:
    """Return the undos of batches that were undone, or are being undone, and still are, by batch.

    A batch whose undo was undone is left out.
    """
    if not batch_ids:
        return {}
    batch, undo = Batch, aliased(Batch)
    begun = select(batch.id, batch.stopped_at).where(
        batch.id.in_(sorted(batch_ids)),
        batch.stopped_at.is_not(None),
        exists().where(undo.id == literal(UNDO_PREFIX) + batch.id),
    )
    rows: Any = connection.execute(begun)
    begun_at: dict[str, datetime] = dict(rows.all())
    undos = _finished_undos(connection, begun_at)
    found = {}
    for batch_id, at in begun_at.items():
        later = undos[base_of(batch_id)] - batch_id.count(UNDO_PREFIX) - 1
        if later < 0 or later % 2 == 0:
            found[batch_id] = Undo(f"{UNDO_PREFIX}{batch_id}", at, is_done=later >= 0)
    return found


def _counts(batch_id: str, undos: int) -> bool:
    """Return whether a batch counts if the chain of its undos has so many members."""
    place = batch_id.count(UNDO_PREFIX)
    return place > undos or (place == 0 and undos % 2 == 0)


def base_of(batch_id: str) -> str:
    """Return the batch that was submitted, for it or for an undo of it."""
    while batch_id.startswith(UNDO_PREFIX):
        batch_id = batch_id.removeprefix(UNDO_PREFIX)
    return batch_id


def _with_undo(connection: Connection, batch_ids: Collection[str]) -> list[str]:
    """Return those of these batches of which the undo has come to its end."""
    batch, chunk = real_table(connection, Batch).c, real_table(connection, BatchChunk).c
    is_done = exists().where(chunk.batch_id == literal(UNDO_PREFIX) + batch.id, chunk.last)
    listed = sorted(batch_ids)
    done: list[str] = []
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        undone = select(batch.id).where(batch.id.in_(some), batch.stopped_at.is_not(None), is_done)
        done += connection.scalars(undone).all()
    return done


def are_others_undone(connection: Connection, batch_id: str) -> bool:
    """Return whether an undo has begun of another batch than this one and its undos."""
    base = base_of(batch_id)
    begun = select(Batch.id).where(Batch.stopped_at.is_not(None), Batch.id != base)
    return any(base_of(other) != base for other in connection.scalars(begun))
