"""Decide the clean requests of a chunk at once, under the lock on enrollments."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from producer.contract.chunks import CheckedColumns, Chunk, courses_of
from producer.schemas import Action
from worker.batches.counts import Poison
from worker.data_sets.values import Owner
from worker.database.enrollment_lock import lock_enrollments
from worker.enrollment.shortcuts import (
    ShortcutResult,
    decide_clean_requests,
    find_clean_requests,
)
from worker.enrollment.values import Times

DecideClean = Callable[[Connection, Chunk, Poison, Times, bool, Owner | None], ShortcutResult]
"""Decides the clean requests of a chunk; the others are left to the rulebook. It receives whether
results are derived, and which data set owns what the requests open."""


def decide_by_shortcut(
    connection: Connection,
    chunk: Chunk,
    poison: Poison,
    times: Times,
    derives: bool,  # noqa: FBT001 - a DecideClean
    owner: Owner | None = None,
) -> ShortcutResult:
    """Decide the clean requests of a chunk at once, under the lock on enrollments."""
    clean = find_clean_requests(connection, chunk, poison, times)
    lock_enrollments(connection, exclusive=_may_drop(chunk, clean.rest))
    return decide_clean_requests(connection, chunk, clean, times, derives=derives, owner=owner)


def _may_drop(chunk: Chunk, rest: Sequence[int]) -> bool:
    """Return whether a request of a chunk may drop something; `rest` are those that are not clean.

    Clean requests drop something only if they are columns of drops.
    """
    columns = getattr(chunk, "requests", None)
    if isinstance(columns, CheckedColumns):
        return columns.action is Action.DROP
    records = chunk.records_in_order
    return any(courses_of(records[position], Action.DROP) for position in rest)
