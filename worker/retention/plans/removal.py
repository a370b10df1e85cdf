"""Remove plans that ended long ago, page by page."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from worker.database.engine import Database
from worker.retention.plans.repository import (
    count_old_plans,
    delete_parts,
    delete_plan,
    find_old_plans,
)

Run = Callable[[Callable[..., Any]], Any]
"""Runs work in a transaction of its own, then gives workers a moment to write."""


def old_plans(
    database: Database, before: datetime, page: int, run: Run, *, dry_run: bool
) -> Iterator[int]:
    """Remove the plans that ended before a moment; yield how many, after each page.

    With `dry_run`, they are only counted. Raises DBAPIError.
    """
    if dry_run:
        with database.reading() as connection:
            yield count_old_plans(connection, before)
        return
    while True:
        with database.reading() as connection:
            plans = find_old_plans(connection, before, max(1, page // 100))
        if not plans:
            return
        yield run(partial(_remove, plan_ids=plans, page=page))


def _remove(connection: Connection, plan_ids: Sequence[str], page: int) -> int:
    """Remove plans, and about a page of their parts; return how many plans were removed whole."""
    removed = 0
    for plan_id in plan_ids:
        parts = delete_parts(connection, plan_id, page)
        page -= parts
        if page <= 0:
            return removed  # It may have more, or the next one, for the next transaction.
        removed += delete_plan(connection, plan_id)
    return removed
