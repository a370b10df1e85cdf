"""Divide what a batch changed into pages, and read what undoes each page.

Each page becomes one chunk of the undo. The pages of a batch that was stopped are always the same,
so an undo that was interrupted continues with the next one.
"""

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection

from producer.contract.chunks import fingerprint_of, line_request_id
from worker.database.engine import Database
from worker.enrollment.derived.entries import unpack_all
from worker.undo.changes import restored_alone, reverse_alone, reverse_fresh
from worker.undo.confirmed import leave_confirmed
from worker.undo.repository import find_changes, find_past, next_fresh, read_fresh
from worker.undo.together import read_together
from worker.undo.values import PageUndo, Restored, Reversal, UndoneBatch


class Source(StrEnum):
    """Where the changes of a page are recorded."""

    FRESH = "fresh"
    """In the ledger entry of a chunk."""
    LINES = "lines"
    """In results whose ids are made from the number of a chunk."""
    OWN = "own"
    """In results of requests with ids of their own."""
    NOTHING = "nothing"
    """Nowhere: the batch changed nothing."""


class Page(NamedTuple):
    """A part of what a batch changed."""

    source: Source
    after: str
    """The number of the chunk, or the id of the result before the first one."""

    @property
    def fingerprint(self) -> int:
        """Return what identifies the page in the ledger."""
        return fingerprint_of(json.dumps(self))


def pages_of(database: Database, batch_id: str) -> Iterator[Page]:
    """Yield the pages of a batch: at least one. Raises DBAPIError."""
    is_empty = True
    for page in _pages_with_changes(database, batch_id):
        is_empty = False
        yield page
    if is_empty:
        yield Page(Source.NOTHING, "")


def _pages_with_changes(database: Database, batch_id: str) -> Iterator[Page]:
    number: int | None = -1
    while number is not None:
        with database.reading() as connection:
            number = next_fresh(connection, batch_id, number)
        if number is not None:
            yield Page(Source.FRESH, str(number))
    for source in (Source.LINES, Source.OWN):
        after: str | None = ""
        while after is not None:
            with database.reading() as connection:
                rows = find_changes(connection, batch_id, after, own=source is Source.OWN)
            if rows:
                yield Page(source, after)
            after = rows[-1].request_id if rows else None


def read_page(
    connection: Connection, batch: UndoneBatch, page: Page, *, may_change_twice: bool
) -> PageUndo:
    """Return the requests that undo a page, and the pairs that they restore."""
    rows: list[Any] = []
    fresh = None
    if page.source is Source.FRESH:
        fresh = read_fresh(connection, batch.id, int(page.after))
    elif page.source is not Source.NOTHING:
        is_own = page.source is Source.OWN
        rows = find_changes(connection, batch.id, page.after, own=is_own)
    if not may_change_twice:
        reversals = reverse_fresh(fresh, batch.counts_at) if fresh else reverse_alone(rows)
        restored = _restored(connection, batch, reversals)
        return PageUndo(leave_confirmed(connection, batch, reversals), restored)
    if fresh is not None:
        number = int(page.after)
        derived = list(unpack_all(fresh))
        own_ids = {line_request_id(batch.id, number, position) for position, _ in derived}
        students = {entry.student for _, entry in derived}
    else:
        own_ids = {row.request_id for row in rows}
        students = {row.student_id for row in rows}
    undo = read_together(connection, batch, own_ids, students)
    return undo._replace(reversals=leave_confirmed(connection, batch, undo.reversals))


def _restored(
    connection: Connection, batch: UndoneBatch, reversals: Iterable[Reversal]
) -> list[Restored]:
    pairs = [(each.student, course) for each in reversals for course in each.enrolled]
    past = find_past(connection, pairs, batch.moment)
    owners = {((row.student_id, row.course_id), row.ended_at): row.data_set for row in past}
    return restored_alone(reversals, owners)
