"""How long things are kept: results, ledgers and dead letters older than an age are removed.

Page by page along the keys, each in a short transaction, so that a worker never waits long and
memory stays flat. What is forgotten is unknown: a request id of it that comes again is new.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from worker.database.engine import Database, transaction
from worker.models import DeadLetter, EnrollmentResult
from worker.retention.repository import (
    Aged,
    count_older,
    count_refusals,
    delete_batches,
    delete_older,
    delete_refusals,
    end_of_page,
    find_batches,
    lock_old_batches,
)

PAGE: Final = 5_000
"""Rows that are looked at in one transaction."""

PAUSE: Final = 0.01
"""Seconds between two transactions that removed something, in which others can write."""

T = TypeVar("T")
LONGEST: Final = 100 * 366 * 24
"""Hours; nothing here is older."""

KINDS: Final = ("results", "batches", "batch_chunks", "batch_refusals", "dead_letters")
"""What is counted, in this order."""

_HOURS: Final = {"h": 1, "d": 24, "w": 7 * 24}
_TABLES: Mapping[str, Aged] = {"results": EnrollmentResult, "dead_letters": DeadLetter}


def parse_age(text: str) -> timedelta:
    """An age as `36h`, `400d` or `12w`. Raises ValueError with a sentence."""
    match = re.fullmatch(r"([0-9]{1,9})([hdw])", text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is no age: write a whole number of hours, days or weeks, as 36h, 400d, 12w"
        )
    hours = int(match[1]) * _HOURS[match[2]]
    if not 0 < hours <= LONGEST:
        raise ValueError(f"{text!r} is out of range: at least 1h, at most 100 years")
    return timedelta(hours=hours)


def prune(
    database: Database, before: datetime, *, dry_run: bool = False, page: int = PAGE
) -> dict[str, int]:
    """Remove what is older than a moment; returns how many rows, for each of `KINDS`.

    With `dry_run` the same is counted and nothing removed. A batch goes as a whole, when its
    newest chunk is older. Raises DBAPIError; what was removed until then stays removed.
    """
    removed = Counter(dict.fromkeys(KINDS, 0))
    for kind, table in _TABLES.items():
        for count in _old_rows(database, table, before, page, dry_run=dry_run):
            removed[kind] += count
    for counts in _old_batches(database, before, page, dry_run=dry_run):
        removed.update(counts)
    return {kind: removed[kind] for kind in KINDS}


def _old_rows(
    database: Database, table: Aged, before: datetime, page: int, *, dry_run: bool
) -> Iterator[int]:
    after: Any | None = None
    while True:
        with database.reading() as connection:
            through = end_of_page(connection, table, after, page)
            if through is None:
                return
            place = (table, after, through, before)
            count = count_older(connection, *place)
        if count and not dry_run:
            count = _shortly(database, partial(_delete_older, place=place))
        yield count
        after = through


def _delete_older(connection: Connection, place: tuple[Aged, Any, Any, datetime]) -> int:
    return delete_older(connection, *place)


def _shortly(database: Database, work: Callable[[Connection], T]) -> T:
    done = transaction(database, work)
    time.sleep(PAUSE)
    return done


def _old_batches(
    database: Database, before: datetime, page: int, *, dry_run: bool
) -> Iterator[dict[str, int]]:
    after: str | None = None
    while True:
        with database.reading() as connection:
            found = find_batches(connection, after, max(1, page // 10), before)
        if not found:
            return
        after = found[-1].id
        old = [row for row in found if row.chunks is not None]
        # The ledger goes last: who is interrupted before it finds the batch again.
        for row in old:
            if row.refused:
                yield {"batch_refusals": _refusals(database, row.id, before, page, dry_run=dry_run)}
        for group in _groups(old, page):
            if dry_run:
                yield {"batches": len(group), "batch_chunks": sum(row.chunks for row in group)}
            else:
                ids = [row.id for row in group]
                yield _shortly(database, partial(_forget, batch_ids=ids, before=before))


def _groups(old: Iterable[Any], most: int) -> Iterator[list[Any]]:
    """Batches that are removed together: those of a page's chunks, or one that has more."""
    group: list[Any] = []
    chunks = 0
    for row in old:
        if group and chunks + row.chunks > most:
            yield group
            group, chunks = [], 0
        group.append(row)
        chunks += row.chunks
    if group:
        yield group


def _forget(connection: Connection, batch_ids: list[str], before: datetime) -> dict[str, int]:
    """Remove the ledgers of these batches, but of those that somebody went on with meanwhile."""
    old = lock_old_batches(connection, batch_ids, before)
    batches, chunks = delete_batches(connection, old)
    return {"batches": batches, "batch_chunks": chunks}


def _refusals(
    database: Database, batch_id: str, before: datetime, page: int, *, dry_run: bool
) -> int:
    if dry_run:
        with database.reading() as connection:
            return count_refusals(connection, batch_id)
    removed, after = 0, (0, 0)
    while True:
        work = partial(_delete_refusals, batch_id=batch_id, after=after, before=before, page=page)
        count, after = _shortly(database, work)
        removed += count
        if count < page:
            return removed


def _delete_refusals(
    connection: Connection, batch_id: str, after: tuple[int, int], before: datetime, page: int
) -> tuple[int, tuple[int, int]]:
    if not lock_old_batches(connection, [batch_id], before):
        return 0, after
    return delete_refusals(connection, batch_id, after, page)
