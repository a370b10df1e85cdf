"""Store the report of a plan, and make its digest.

On PostgreSQL one transaction stores all of it. SQLite has a single writer, which must not be kept
waiting, so there each page is a transaction of its own, and the last one counts them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from worker.database.engine import Database, nothing
from worker.models import Pair
from worker.plans.temporary.repository import (
    PAGE_ROWS,
    add_planned_drops,
    add_planned_refusals,
    count_report,
    forget_report,
    refusal_pages,
)
from worker.snapshots.repository import planned_rows
from worker.snapshots.values import Absence


class PlanOvertaken(Exception):
    """Another worker has stored a report of the same plan; this one is given up."""


class Report:
    """The report of a plan, which is read from the temporary tables in pages."""

    def __init__(
        self,
        connection: Connection,
        plan_id: str,
        on_page: Callable[[], None],
        *,
        has_drops: bool = False,
    ) -> None:
        self._connection = connection
        self._plan_id = plan_id
        self._on_page = on_page
        self._has_drops = has_drops
        self._counts: Counter[str] = Counter()

    def digest(self, summary: Any, planned_at: datetime) -> str:
        """Return the SHA-256 of a summary, all refusals and all drops, in canonical JSON."""
        digest = hashlib.sha256(_canonical([self._plan_id, planned_at.isoformat(), summary]))
        self._counts.clear()
        for name, page in self._pages():
            digest.update(b"".join(_canonical([name, row]) for row in page))
            self._counts[name] += len(page)
            self._on_page()
        return digest.hexdigest()

    def _pages(self) -> Iterator[tuple[str, Sequence[tuple[Any, ...]]]]:
        """Yield the pages of the report, each with the name of its table."""
        for refusals in refusal_pages(self._connection):
            yield "refusals", refusals
        after: Pair | None = None
        while self._has_drops and (drops := planned_rows(self._connection, after, PAGE_ROWS)):
            yield "drops", drops
            after = drops[-1][:2]

    def store(self, write: Callable[[Callable[[Connection], None]], None]) -> None:
        """Store all pages, each through `write`, which gives it a connection."""
        write(partial(forget_report, plan_id=self._plan_id))
        for name, page in self._pages():
            write(partial(_ADD[name], plan_id=self._plan_id, rows=page))
            self._on_page()

    def check(self, connection: Connection) -> None:
        """Raise PlanOvertaken if other rows are stored than those of this report."""
        stored = count_report(connection, self._plan_id)
        if stored != (self._counts["refusals"], self._counts["drops"]):
            raise PlanOvertaken(self._plan_id)


_ADD: Final = {"refusals": add_planned_refusals, "drops": add_planned_drops}


def summary_of(absence: Absence | None) -> Any:
    """Return what the digest of a plan says of what its snapshot does not name, as JSON."""
    if absence is None:
        return None
    return [absence.absent.model_dump(mode="json"), *absence[:1], *absence[2:]]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def store_report(
    database: Database,
    report: Report,
    conclude: Callable[[Connection], None],
    before_conclusion: Callable[[], None] = nothing,
) -> None:
    """Store a report; `conclude` changes the state of its plan in the last transaction.

    `before_conclusion` is called once nothing else is left to do. Raises PlanOvertaken,
    DBAPIError, and what `conclude` raises.
    """
    if database.engine.dialect.name == "postgresql":
        with database.writing() as connection:
            report.store(lambda write: write(connection))
            report.check(connection)
            before_conclusion()
            conclude(connection)
        return

    def write(page: Callable[[Connection], None]) -> None:
        with database.writing() as connection:
            page(connection)

    report.store(write)
    before_conclusion()
    with database.writing() as connection:
        report.check(connection)
        conclude(connection)
