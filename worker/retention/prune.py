"""Remove results, past enrollments, ledgers and dead letters that are older than an age.

Rows are removed page by page in key order, each page in a short transaction, so that no worker
waits long and memory use stays flat. A request whose result was removed is unknown again: its id
counts as new.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from producer.contract.plans import PlanState
from worker.database.engine import Database, transaction
from worker.database.enrollment_lock import lock_enrollments
from worker.database.errors import EnrollmentsBusy
from worker.models import DeadLetter, EnrollmentResult
from worker.plans.reports.repository import oldest_unfinished
from worker.retention.derived import (
    old_derived,
    store_before_batch_is_removed,
    store_before_past_is_removed,
)
from worker.retention.plans.removal import old_plans
from worker.retention.repository import (
    Aged,
    count_older,
    count_past,
    count_refusals,
    delete_batches,
    delete_older,
    delete_past,
    delete_refusals,
    end_of_page,
    find_batches,
    find_running,
    lock_old_batches,
    raise_retention_limit,
)

PAGE: Final = 5_000
"""Rows that one transaction looks at."""

LIMIT_SECONDS: Final = 60.0
"""Seconds for which `prune` tries to store its limit while other transactions enroll."""

LIMIT_PAUSE: Final = 1.0
"""Seconds between two of these attempts."""

PAUSE: Final = 0.01
"""Seconds between two transactions that removed rows, so that workers can write in between."""

T = TypeVar("T")
MAX_AGE_HOURS: Final = 100 * 366 * 24
"""Hours in 100 years, the largest age that is accepted."""

KINDS: Final = (
    "results",
    "past_enrollments",
    "batches",
    "batch_chunks",
    "batch_refusals",
    "dead_letters",
    "plans",
)
"""What `prune` counts, in this order."""

_HOURS: Final = {"h": 1, "d": 24, "w": 7 * 24}
_TABLES: Mapping[str, Aged] = {"results": EnrollmentResult, "dead_letters": DeadLetter}


def parse_age(text: str) -> timedelta:
    """Parse an age such as `36h`, `400d` or `12w`. Raises ValueError with a message for people."""
    match = re.fullmatch(r"([0-9]{1,9})([hdw])", text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a valid age: write a whole number of hours, days or weeks,"
            " for example 36h, 400d or 12w"
        )
    hours = int(match[1]) * _HOURS[match[2]]
    if not 0 < hours <= MAX_AGE_HOURS:
        raise ValueError(f"{text!r} is out of range: an age is at least 1h, at most 100 years")
    return timedelta(hours=hours)


class Limit(NamedTuple):
    """The moment before which history is pruned: requests that count earlier are then refused."""

    moment: datetime
    held_back_by: str | None = None
    """The batch or plan that is not done, and counts at this moment, or None."""
    plan_state: PlanState | None = None
    """The state of the plan that holds it back; None if none does."""


def find_limit(database: Database, before: datetime) -> Limit:
    """Return the limit for what is older than a moment.

    It is never later than the moment of a plan that is not done, or of a batch, unless nothing has
    arrived for the batch since `before`: then it is removed, and what is missing of it will be
    refused.
    """
    with database.reading() as connection:
        running = find_running(connection, before, arrived_since=before)
        plan = oldest_unfinished(connection, before)
    limits = [Limit(before)]
    if running is not None:
        limits.append(Limit(running.moment, running.id))
    if plan is not None:
        limits.append(Limit(plan.moment, plan.plan_id, plan.state))
    return min(limits, key=lambda limit: limit.moment)


def prune(
    database: Database,
    before: datetime,
    *,
    dry_run: bool = False,
    page: int = PAGE,
    on_page: Callable[[], object] = lambda: None,
) -> dict[str, int]:
    """Remove what is older than a moment; return how many rows, for each of `KINDS`.

    The limit of `find_limit` is stored first. Results and past enrollments are removed up to it, by
    their moments too; batches and dead letters, up to `before`, by when they last arrived. With
    `dry_run` the same rows are counted, none are removed, and no limit is stored. A batch is
    removed as a whole, once its newest chunk is older. `on_page` is called after each page. Raises
    DBAPIError and what `on_page` raises; rows removed before the error stay removed.
    """
    removed = Counter(dict.fromkeys(KINDS, 0))
    limit = find_limit(database, before).moment
    if not dry_run:
        _store_limit(database, limit)
    for kind, table in _TABLES.items():
        until = limit if table is EnrollmentResult else before
        for count in _old_rows(database, table, until, page, dry_run=dry_run):
            removed[kind] += count
            on_page()
    run = partial(_then_pause, database)
    for count in old_derived(database, limit, run, dry_run=dry_run):
        removed["results"] += count
        on_page()
    if not dry_run:
        store_before_past_is_removed(database, limit, run)
    for count in _old_past(database, limit, page, dry_run=dry_run):
        removed["past_enrollments"] += count
        on_page()
    for counts in _old_batches(database, before, page, dry_run=dry_run):
        removed.update(counts)
        on_page()
    for count in old_plans(database, before, page, run, dry_run=dry_run):
        removed["plans"] += count
        on_page()
    return {kind: removed[kind] for kind in KINDS}


def _store_limit(database: Database, limit: datetime) -> None:
    """Store the limit while no transaction enrolls or drops, so that all later ones see it."""

    def store(connection: Connection) -> None:
        lock_enrollments(connection, exclusive=True)
        raise_retention_limit(connection, limit)

    Retrying(
        retry=retry_if_exception_type(EnrollmentsBusy),
        wait=wait_fixed(LIMIT_PAUSE),
        stop=stop_after_delay(LIMIT_SECONDS),
        reraise=True,
    )(lambda: transaction(database, store))


def _old_past(database: Database, limit: datetime, page: int, *, dry_run: bool) -> Iterator[int]:
    if dry_run:
        with database.reading() as connection:
            yield count_past(connection, limit)
        return
    while count := _then_pause(database, partial(delete_past, before=limit, size=page)):
        yield count


def _old_rows(
    database: Database, table: Aged, before: datetime, page: int, *, dry_run: bool
) -> Iterator[int]:
    after: Any | None = None
    while True:
        with database.reading() as connection:
            through = end_of_page(connection, table, after, page)
            if through is None:
                return
            bounds = (table, after, through, before)
            count = count_older(connection, *bounds)
        if count and not dry_run:
            count = _then_pause(database, partial(_delete_older, bounds=bounds))
        yield count
        after = through


def _delete_older(connection: Connection, bounds: tuple[Aged, Any, Any, datetime]) -> int:
    return delete_older(connection, *bounds)


def _then_pause(database: Database, work: Callable[[Connection], T]) -> T:
    """Run work in a transaction, then give workers a moment to write."""
    value = transaction(database, work)
    time.sleep(PAUSE)
    return value


def _old_batches(
    database: Database, before: datetime, page: int, *, dry_run: bool
) -> Iterator[dict[str, int]]:
    after: str | None = None
    while True:
        with database.reading() as connection:
            batches = find_batches(connection, after, max(1, page // 10), before)
        if not batches:
            return
        after = batches[-1].id
        old = [row for row in batches if row.chunks is not None]
        # The ledger is removed last, so that the run after an interrupted one finds the batch.
        for row in old:
            if row.refused:
                yield {"batch_refusals": _refusals(database, row.id, before, page, dry_run=dry_run)}
        for row in old if not dry_run else ():
            store_before_batch_is_removed(database, row.id, partial(_then_pause, database))
        for group in _groups(old, page):
            if dry_run:
                yield {"batches": len(group), "batch_chunks": sum(row.chunks for row in group)}
            else:
                ids = [row.id for row in group]
                yield _then_pause(database, partial(_delete_ledgers, batch_ids=ids, before=before))


def _groups(old: Iterable[Any], max_chunks: int) -> Iterator[list[Any]]:
    """Yield groups of batches to remove together: up to `max_chunks`, or one batch with more."""
    group: list[Any] = []
    chunks = 0
    for row in old:
        if group and chunks + row.chunks > max_chunks:
            yield group
            group, chunks = [], 0
        group.append(row)
        chunks += row.chunks
    if group:
        yield group


def _delete_ledgers(
    connection: Connection, batch_ids: list[str], before: datetime
) -> dict[str, int]:
    """Remove the ledgers of these batches, except batches that got a new chunk in the meantime."""
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
        count, after = _then_pause(database, work)
        removed += count
        if count < page:
            return removed


def _delete_refusals(
    connection: Connection, batch_id: str, after: tuple[int, int], before: datetime, page: int
) -> tuple[int, tuple[int, int]]:
    if not lock_old_batches(connection, [batch_id], before):
        return 0, after
    return delete_refusals(connection, batch_id, after, page)
