"""Remove plans that ended long ago, page by page."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

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
            plans = find_old_plans(connection, before, max(1, page // 10))
        if not plans:
            return
        for plan_id in plans:
            while run(partial(delete_parts, plan_id=plan_id, size=page)):
                yield 0
            yield run(partial(delete_plan, plan_id=plan_id))
