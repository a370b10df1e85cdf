"""Find out in SQL which batches do not count any more: they were undone.

An undo is a batch as well, and can be undone: then the batch that it had undone counts again.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, exists, literal, select

from producer.fields import MAX_STORED_ID, UNDO_PREFIX
from worker.database.planning import real_table
from worker.models import Batch, BatchChunk

_AT_ONCE: Final = 500
_LONGEST_CHAIN: Final = MAX_STORED_ID // len(UNDO_PREFIX)
"""A batch has at most this many undos, one of another, by the length of their ids."""


def find_undone(
    connection: Connection,
    batch_ids: Iterable[str | None],
    finishing: str | None = None,
    *,
    begun: bool = False,
) -> set[str]:
    """Return those of these batches that were undone, or that undid one which does not count.

    Such a batch and its undo cancel each other out. A batch whose undo is not complete still
    counts, unless it is `finishing`, or `begun` is true: then every undo that has begun counts as
    complete, which is right for work that prepares for that. None stands for requests without a
    batch.
    """
    named = {batch_id for batch_id in batch_ids if batch_id is not None}
    chains = _chains(connection, named)
    if begun:
        chains = {base: _Chain([True] * len(chain.is_done)) for base, chain in chains.items()}
    if finishing is not None and (chain := chains.get(base_of(finishing))) is not None:
        chain.is_done[_place(finishing) :] = [True]
    return {batch_id for batch_id in named if chains[base_of(batch_id)].is_void(batch_id)}


class _Chain(NamedTuple):
    """The undo of a batch, the undo of that, and so on: whether each has come to its end."""

    is_done: list[bool]

    def is_undone(self, place: int) -> bool:
        """Return whether the batch at a place was undone, and still is; 0 is the submitted one."""
        undone = False
        for is_done in reversed(self.is_done[place:]):
            undone = is_done and not undone
        return undone

    def is_void(self, batch_id: str) -> bool:
        """Return whether a batch counts for nothing, together with its undo or what it undid."""
        place = _place(batch_id)
        is_undo_at_end = 0 < place <= len(self.is_done) and self.is_done[place - 1]
        return is_undo_at_end or self.is_undone(place)


def _chains(connection: Connection, batch_ids: Iterable[str]) -> dict[str, _Chain]:
    """Return the undos of batches, by the batch submitted."""
    bases = {base_of(batch_id) for batch_id in batch_ids}
    chains = {base: _Chain([]) for base in bases}
    current = {base: base for base in bases}
    while current and (undos := _undos_of(connection, current)):
        for batch_id, is_done in undos.items():
            chains[current[batch_id]].is_done.append(is_done)
        current = {f"{UNDO_PREFIX}{batch_id}": current[batch_id] for batch_id in undos}
    return chains


def _place(batch_id: str) -> int:
    """Return how many undos lie between a batch and the submitted one."""
    return (len(batch_id) - len(base_of(batch_id))) // len(UNDO_PREFIX)


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
    batch = Batch
    stopped = select(batch.id, batch.stopped_at).where(
        batch.id.in_(sorted(batch_ids)), batch.stopped_at.is_not(None)
    )
    rows: Any = connection.execute(stopped)
    stopped_at: dict[str, datetime] = dict(rows.all())
    chains = _chains(connection, stopped_at)
    found = {}
    for batch_id, at in stopped_at.items():
        chain, place = chains[base_of(batch_id)], _place(batch_id)
        if place < len(chain.is_done) and not chain.is_undone(place + 1):
            found[batch_id] = Undo(f"{UNDO_PREFIX}{batch_id}", at, chain.is_done[place])
    return found


def base_of(batch_id: str) -> str:
    """Return the batch that was submitted, for it or for an undo of it."""
    while batch_id.startswith(UNDO_PREFIX):
        batch_id = batch_id.removeprefix(UNDO_PREFIX)
    return batch_id


def _undos_of(connection: Connection, batch_ids: Collection[str]) -> dict[str, bool]:
    """Return those of these batches of which an undo has begun, and whether that is at its end."""
    batch, chunk = real_table(connection, Batch).c, real_table(connection, BatchChunk).c
    undo = real_table(connection, Batch).alias().c
    undo_id = literal(UNDO_PREFIX) + batch.id
    is_done = exists().where(chunk.batch_id == undo_id, chunk.last)
    listed = sorted(batch_ids)
    undos: dict[str, bool] = {}
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        begun = select(batch.id, is_done).where(
            batch.id.in_(some), batch.stopped_at.is_not(None), exists().where(undo.id == undo_id)
        )
        undos.update((row[0], bool(row[1])) for row in connection.execute(begun))
    return undos


def are_others_undone(
    connection: Connection, batch_id: str, stopped_at: datetime | None = None
) -> bool:
    """Return whether the undo of another batch has begun, apart from this one and its undos.

    With the moment at which this batch was stopped, only batches that were stopped before matter.
    """
    base = base_of(batch_id)
    begun = select(Batch.id).where(Batch.stopped_at.is_not(None), Batch.id != base)
    if stopped_at is not None:
        begun = begun.where(Batch.stopped_at <= stopped_at)
    some = connection.scalars(begun.limit(_LONGEST_CHAIN + 1))
    return any(base_of(other) != base for other in some)
