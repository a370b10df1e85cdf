"""Remove old derived results, and store those that outlive what they are derived from."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from worker.database.engine import Database
from worker.enrollment.derived.entries import FreshRequests, unpack_all
from worker.enrollment.derived.repository import take_derived_of_chunk
from worker.enrollment.repository import add_results
from worker.retention.repository import (
    FreshChunk,
    find_fresh,
    forget_fresh,
    fresh_of_batch,
    fresh_of_past,
)

Work = Callable[[Callable[[Connection], int]], int]
"""Runs something in a transaction of its own."""


def old_derived(database: Database, before: datetime, run: Work, *, dry_run: bool) -> Iterator[int]:
    """Remove the derived results that are older than a moment, chunk by chunk; yield how many."""
    after: FreshChunk | None = None
    while True:
        with database.reading() as connection:
            row = find_fresh(connection, after, before)
        if row is None:
            return
        after = FreshChunk(row.batch_id, row.number)
        count = sum(1 for _ in unpack_all(FreshRequests(row.fresh, row.fresh_size)))
        if dry_run or run(partial(forget_fresh, chunk=after)):
            yield count


def store_before_past_is_removed(database: Database, before: datetime, run: Work) -> None:
    """Store the derived results that are not found without enrollments that ended before a moment.

    Such results were decided later, so they stay.
    """
    with database.reading() as connection:
        chunks = fresh_of_past(connection, before)
    _store(chunks, run)


def store_before_batch_is_removed(database: Database, batch_id: str, run: Work) -> None:
    """Store the derived results of a batch whose ledger is removed: they count later."""
    with database.reading() as connection:
        chunks = fresh_of_batch(connection, batch_id)
    _store(chunks, run)


def _store(chunks: Iterable[FreshChunk], run: Work) -> None:
    for chunk in chunks:
        run(partial(_store_chunk, chunk=chunk))


def _store_chunk(connection: Connection, chunk: FreshChunk) -> int:
    results = take_derived_of_chunk(connection, *chunk)
    add_results(connection, results)
    return len(results)
