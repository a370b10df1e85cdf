"""Divide what a batch changed into pages, and read what undoes each page.

Each page becomes one chunk of the undo. The pages of a batch that was stopped are always the same,
so an undo that was interrupted continues with the next one.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection

from producer.contract.chunks import fingerprint_of, line_request_id
from producer.fields import UNDO_PREFIX
from worker.database.engine import Database
from worker.enrollment.derived.entries import unpack_all
from worker.intervals.undone.repository import are_others_undone, base_of
from worker.models import Pair
from worker.undo.after_others import reverse_after_others
from worker.undo.changes import pairs_named_in, restored_alone, reverse_alone, reverse_fresh
from worker.undo.confirmed import leave_confirmed
from worker.undo.events.repository import (
    did_undone_batches_name,
    find_events,
    find_results_before,
)
from worker.undo.owners.later_snapshots import list_dropped
from worker.undo.owners.repository import find_adopted, find_ended
from worker.undo.repository import (
    chunks_with_fresh,
    find_batch,
    find_changes,
    find_past,
    read_fresh,
)
from worker.undo.together import derived_changes, read_together
from worker.undo.values import PageUndo, Restored, Reversal, UndoneBatch


class Source(StrEnum):
    """Where the changes of a page are recorded."""

    FRESH = "fresh"
    """In the ledger entry of a chunk."""
    LINES = "lines"
    """In results whose ids are made from the number of a chunk."""
    OWN = "own"
    """In results of requests with ids of their own."""
    ENDED = "ended"
    """In enrollments of its data set that ended before it, which it lacks as a snapshot."""
    ADOPTED = "adopted"
    """In what it adopted as a snapshot, and a later snapshot may have dropped."""
    NOTHING = "nothing"
    """Nowhere: the batch changed nothing."""


class Page(NamedTuple):
    """A part of what a batch changed."""

    source: Source
    after: str
    """The number of the chunk, or the id of the result, or the pair, before the first one."""

    @property
    def fingerprint(self) -> int:
        """Return what identifies the page in the ledger."""
        return fingerprint_of(json.dumps(self))


def pages_of(database: Database, batch: UndoneBatch) -> Iterator[Page]:
    """Yield the pages of a batch: at least one. Raises DBAPIError."""
    is_empty = True
    for page in _pages_with_changes(database, batch):
        is_empty = False
        yield page
    if is_empty:
        yield Page(Source.NOTHING, "")


def _named_by(batch: UndoneBatch) -> str:
    """Return the batch whose results name the pairs of the pages.

    If other batches were undone before, pairs matter that a batch named without changing them. An
    undo that changed nothing names no pairs, but the batch that was submitted does.
    """
    return base_of(batch.id) if batch.after_others else batch.id


def _pages_with_changes(database: Database, batch: UndoneBatch) -> Iterator[Page]:
    batch_id, others = _named_by(batch), batch.after_others
    with database.reading() as connection:
        numbers = chunks_with_fresh(connection, batch_id)
    for number in numbers:
        yield Page(Source.FRESH, str(number))
    for source in (Source.LINES, Source.OWN):
        after: str | None = ""
        while after is not None:
            with database.reading() as connection:
                is_own = source is Source.OWN
                rows = find_changes(connection, batch_id, after, own=is_own, others=others)
            if rows:
                yield Page(source, after)
            after = rows[-1].request_id if rows else None
    if batch.lacking is not None:
        yield from _pages_of_pairs(database, batch, Source.ENDED)
    base = base_of(batch.id)
    is_applied_again = batch.id.removesuffix(base).count(UNDO_PREFIX) % 2 == 1
    if not is_applied_again:
        yield from _pages_of_pairs(database, batch, Source.ADOPTED)


def _pages_of_pairs(database: Database, batch: UndoneBatch, source: Source) -> Iterator[Page]:
    after = (0, 0)
    while True:
        page = Page(source, json.dumps(after))
        with database.reading() as connection:
            pairs = _listed_pairs(connection, batch, page)
        if not pairs:
            return
        yield page
        after = pairs[-1]


def _listed_pairs(connection: Connection, batch: UndoneBatch, page: Page) -> list[Pair]:
    """Return the pairs of a page that begins after a pair, in the order of their keys."""
    student, course = json.loads(page.after)
    if page.source is Source.ADOPTED:
        return find_adopted(connection, base_of(batch.id), (student, course))
    return find_ended(connection, batch.lacking or 0, batch.moment, (student, course))


def read_page(
    connection: Connection, batch: UndoneBatch, page: Page, *, may_change_twice: bool
) -> PageUndo:
    """Return the requests that undo a page, and the pairs that they restore.

    Call this with the lock on enrollments alone: whether others are undone must not change.
    """
    if page.source is Source.ADOPTED:
        return list_dropped(connection, batch, _listed_pairs(connection, batch, page))
    is_apart = not (batch.after_others or are_others_undone(connection, batch.id))
    if not (is_apart or may_change_twice):
        is_apart = _is_apart(connection, batch, page)
    if not is_apart:
        return reverse_after_others(connection, batch, _pairs_of(connection, batch, page))
    read = _read_together if may_change_twice else _read_alone
    undo = read(connection, batch, page)
    return undo._replace(reversals=leave_confirmed(connection, batch, undo.reversals))


def _read_alone(connection: Connection, batch: UndoneBatch, page: Page) -> PageUndo:
    """Return what undoes each change of a page alone."""
    if page.source is Source.FRESH:
        fresh = read_fresh(connection, batch.id, int(page.after))
        reversals = reverse_fresh(fresh, batch.counts_at) if fresh else []
    else:
        reversals = reverse_alone(_rows_of(connection, batch, page))
    return PageUndo(reversals, _restored(connection, batch, reversals))


def _read_together(connection: Connection, batch: UndoneBatch, page: Page) -> PageUndo:
    """Return what undoes the pairs of a page, which the batch may have changed more than once."""
    if page.source is Source.FRESH:
        number = int(page.after)
        fresh = read_fresh(connection, batch.id, number)
        derived = list(unpack_all(fresh)) if fresh else []
        own_ids = {line_request_id(batch.id, number, position) for position, _ in derived}
        students = {entry.student for _, entry in derived}
    else:
        rows = _rows_of(connection, batch, page)
        own_ids = {row.request_id for row in rows}
        students = {row.student_id for row in rows}
    return read_together(connection, batch, own_ids, students)


def _rows_of(connection: Connection, batch: UndoneBatch, page: Page) -> list[Any]:
    if page.source is Source.NOTHING:
        return []
    return find_changes(connection, batch.id, page.after, own=page.source is Source.OWN)


def _is_apart(connection: Connection, batch: UndoneBatch, page: Page) -> bool:
    """Return whether no other batch that was undone has named the students of a page.

    Then it is enough to reverse the page, which is several times as fast. Only most of a large
    import is examined: derived results of a batch that is no undo.
    """
    if page.source is not Source.FRESH or base_of(batch.id) != batch.id:
        return False
    fresh = read_fresh(connection, batch.id, int(page.after))
    students = {entry.student for _, entry in unpack_all(fresh)} if fresh else set()
    return not did_undone_batches_name(connection, students, batch.id)


def _pairs_of(connection: Connection, batch: UndoneBatch, page: Page) -> set[Pair]:
    """Return the pairs that a page is about: those of other pages are left out, if possible."""
    batch_id = _named_by(batch)
    if page.source is Source.NOTHING:
        return set()
    if page.source is Source.FRESH:
        fresh = read_fresh(connection, batch_id, int(page.after))
        entries = [entry for _, entry in unpack_all(fresh)] if fresh else []
        return {(entry.student, course) for entry in entries for course in entry.courses}
    if page.source is Source.ENDED:
        ended = _listed_pairs(connection, batch, page)
        named = find_events(connection, ended)
        return set(ended) - {event.pair for event in named if event.batch_id == batch_id}
    is_own = page.source is Source.OWN
    rows = find_changes(connection, batch_id, page.after, own=is_own, others=batch.after_others)
    pairs = {pair for row in rows for pair in pairs_named_in(row)}
    # Pairs that derived results have opened as well belong to the pages of those.
    submitted = find_batch(connection, batch_id)
    if submitted is None or not pairs:
        return pairs
    students = {student for student, _ in pairs}
    derived = derived_changes(connection, batch_id, submitted.moment, students)
    pairs -= {change.pair for change in derived}
    return pairs - _settled_before(connection, batch, page, students)


def _settled_before(
    connection: Connection, batch: UndoneBatch, page: Page, students: Collection[int]
) -> set[Pair]:
    """Return the pairs of some students that earlier pages of stored results have settled.

    An operation list can name a pair on several pages. It is settled once, so it is counted once.
    """
    is_own = page.source is Source.OWN
    # Unless each page is settled, a pair that is named on several belongs to its first change.
    if not batch.after_others or not (page.after or is_own):
        return set()
    rows = find_results_before(connection, _named_by(batch), page.after, students, own=is_own)
    return {pair for row in rows for pair in pairs_named_in(row)}


def _restored(
    connection: Connection, batch: UndoneBatch, reversals: Iterable[Reversal]
) -> list[Restored]:
    pairs = [(each.student, course) for each in reversals for course in each.enrolled]
    past = find_past(connection, pairs, batch.moment)
    owners = {((row.student_id, row.course_id), row.ended_at): row.data_set for row in past}
    return restored_alone(reversals, owners)
