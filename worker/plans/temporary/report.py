"""Store the report of a plan, and make its digest.

On PostgreSQL one transaction stores all of it. SQLite has a single writer, which must not be kept
waiting, so there each page is a transaction of its own, and the last one counts them.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from worker.database.engine import Database
from worker.plans.temporary.repository import (
    add_planned_refusals,
    count_planned_refusals,
    forget_report,
    refusal_pages,
)


class PlanOvertaken(Exception):
    """Another worker has stored a report of the same plan; this one is given up."""


class Report:
    """The report of a plan, which is read from the temporary tables in pages."""

    def __init__(self, connection: Connection, plan_id: str, on_page: Callable[[], None]) -> None:
        self.connection = connection
        self.plan_id = plan_id
        self.on_page = on_page
        self._refusals = 0

    def digest(self, summary: Any, planned_at: datetime) -> str:
        """Return the SHA-256 of a summary and all refusals, in canonical JSON, one a line."""
        digest = hashlib.sha256(_canonical([self.plan_id, planned_at.isoformat(), summary]))
        for page in refusal_pages(self.connection):
            for refusal in page:
                digest.update(_canonical(refusal))
            self._refusals += len(page)
            self.on_page()
        return digest.hexdigest()

    def store(self, write: Callable[[Callable[[Connection], None]], None]) -> None:
        """Store all pages, each through `write`, which gives it a connection."""
        write(lambda connection: forget_report(connection, self.plan_id))
        for page in refusal_pages(self.connection):
            write(partial(add_planned_refusals, plan_id=self.plan_id, refusals=page))
            self.on_page()

    def check(self, connection: Connection) -> None:
        """Raise PlanOvertaken if other rows are stored than those of this report."""
        if count_planned_refusals(connection, self.plan_id) != self._refusals:
            raise PlanOvertaken(self.plan_id)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def store_report(
    database: Database, report: Report, conclude: Callable[[Connection], None]
) -> None:
    """Store a report; `conclude` changes the state of its plan in the last transaction.

    Raises PlanOvertaken, DBAPIError, and what `conclude` raises.
    """
    if database.engine.dialect.name == "postgresql":
        with database.writing() as connection:
            report.store(lambda write: write(connection))
            report.check(connection)
            conclude(connection)
        return

    def write(page: Callable[[Connection], None]) -> None:
        with database.writing() as connection:
            page(connection)

    report.store(write)
    with database.writing() as connection:
        report.check(connection)
        conclude(connection)
