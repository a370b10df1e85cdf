"""Undo a batch, chunk by chunk. Each chunk has its identity in the ledger, so it counts once.

The batch is stopped first: chunks that are not applied yet are refused from then on. The undo is a
batch like any other: its requests run through the ordinary code, and it can be undone, too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple, TypeVar

from sqlalchemy import Connection
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from producer.schemas import Kind
from worker.batches.apply import Applied, ChunkOutcome, apply_to
from worker.batches.counts import ROW_COUNTS, Counts
from worker.batches.repository import sum_chunks
from worker.database.engine import Database, transaction
from worker.database.enrollment_lock import lock_enrollments
from worker.database.errors import EnrollmentsBusy, is_lock
from worker.moments import Clock, Reading, own_clock, read_clock
from worker.undo.chunks import make_chunk
from worker.undo.left import MAX_LEFT, find_left
from worker.undo.owners.later_snapshots import leave_to_snapshots
from worker.undo.owners.repository import count_left_to_snapshots
from worker.undo.owners.restore import renew_notes, restore_ownership
from worker.undo.pages import Page, pages_of, read_page
from worker.undo.plans import discard, waiting_plan
from worker.undo.repository import find_progress, may_change_twice, restore_owners
from worker.undo.start import (
    add_undo_once,
    begin,
    check,
    stop,
    undid_changes_twice,
    undo_id_of,
)
from worker.undo.values import LeftPair, Reversal, UndoneBatch, UndoneElsewhere

BUSY_SECONDS: Final = 60.0
"""Seconds for which a transaction is tried again while others hold the locks that it needs, unless
the caller says otherwise."""

_BUSY_PAUSE: Final = 0.5

T = TypeVar("T")


@dataclass
class UndoReport:
    """What an undo did, or would do."""

    batch_id: str
    undo_id: str
    counts: Counts = field(default_factory=lambda: dict.fromkeys(ROW_COUNTS, 0))
    """Its rows, by what happened to them."""
    left: list[LeftPair] = field(default_factory=list)
    """The first pairs that later requests decide."""
    left_to_snapshots: int = 0
    """How many pairs are not enrolled again because a later snapshot of their data set does not
    name them; they are among those that later requests decide."""
    discarded_plan: str | None = None
    """The plan that is discarded instead, because nothing of the batch is applied."""
    is_complete: bool = True
    """False if only the beginning of the batch was examined."""


def undo(
    database: Database,
    batch_id: str,
    *,
    on_chunk: Callable[[], object] = lambda: None,
    on_applied: Callable[[], object] = lambda: None,
    clock: Clock = own_clock,
    busy_seconds: float = BUSY_SECONDS,
) -> UndoReport:
    """Undo a batch, or continue its undo after an interruption.

    If the batch is a member of a plan of which nothing is applied, discard the plan instead.
    `on_chunk` is called before each transaction, and `on_applied` after each chunk but the last
    one. A transaction is tried again for `busy_seconds` while others hold the locks that it needs.
    Raises CannotUndo, DBAPIError, and what these raise; what was undone before the error stays
    undone.
    """
    on_chunk()
    plan_id = _waiting_plan(database, batch_id)
    if plan_id is not None:
        discard(database, plan_id, clock=clock)
        return UndoReport(batch_id, undo_id_of(batch_id), discarded_plan=plan_id)
    unless_busy = partial(_unless_busy, busy_seconds)
    unless_busy(lambda: transaction(database, lambda c: stop(c, batch_id, clock())))
    unless_busy(lambda: transaction(database, lambda c: begin(c, batch_id)))
    for step in _steps(database, batch_id, clock):
        on_chunk()
        unless_busy(partial(transaction, database, step.apply))
        if not step.is_last:
            on_applied()
    return report_of(database, batch_id)


def report_of(database: Database, batch_id: str) -> UndoReport:
    """Return what the undo of a batch has done so far. Raises DBAPIError."""
    report = UndoReport(batch_id, undo_id_of(batch_id))
    with database.reading() as connection:
        for ledger in sum_chunks(connection, [report.undo_id]):
            report.counts = {name: getattr(ledger, name) for name in ROW_COUNTS}
        report.left = find_left(connection, report.undo_id)
        report.left_to_snapshots = count_left_to_snapshots(connection, report.undo_id, None)
    return report


Look = Callable[[Connection, str, int], object]
"""Looks at a chunk that a dry run applies, before that is rolled back: at its batch and number."""


def rehearse(
    database: Database,
    batch_id: str,
    *,
    look: Look = lambda *_: None,
    may_go_on: Callable[[], bool] = lambda: True,
    clock: Clock = own_clock,
    busy_seconds: float = BUSY_SECONDS,
) -> UndoReport:
    """Return what the undo of a batch would do, or the rest of it, and change nothing.

    Each chunk is applied in a transaction that is rolled back. Before each chunk but the first one,
    `may_go_on` says whether to examine it. One is tried again for `busy_seconds`, as in `undo`.
    Raises CannotUndo, DBAPIError.
    """
    plan_id = _waiting_plan(database, batch_id)
    report = UndoReport(batch_id, undo_id_of(batch_id), discarded_plan=plan_id)
    if plan_id is not None:
        return report
    for position, step in enumerate(_steps(database, batch_id, clock)):
        if position and not may_go_on():
            report.is_complete = False
            break
        _unless_busy(busy_seconds, partial(_rehearse, database, step, report, look))
    return report


def _waiting_plan(database: Database, batch_id: str) -> str | None:
    with database.reading() as connection:
        return waiting_plan(connection, batch_id)


def _rehearse(database: Database, step: "_Step", report: UndoReport, look: Look) -> None:
    with database.engine.connect() as connection, connection.begin() as rolled_back:
        add_undo_once(connection, step.batch)
        counts = step.apply(connection).counts
        left: list[LeftPair] = []
        if counts["superseded"] and len(report.left) < MAX_LEFT:
            limit = MAX_LEFT - len(report.left)
            left = find_left(connection, report.undo_id, limit, step.number)
        to_snapshots = count_left_to_snapshots(connection, report.undo_id, step.number)
        look(connection, report.undo_id, step.number)
        rolled_back.rollback()
    report.left += left
    report.left_to_snapshots += to_snapshots
    for name in ROW_COUNTS:
        report.counts[name] += counts[name]


class _Step(NamedTuple):
    """A page of the batch, to be undone by a chunk."""

    batch: UndoneBatch
    page: Page
    number: int
    is_last: bool
    may_change_twice: bool
    clock: Clock

    def apply(self, connection: Connection) -> Applied:
        """Undo the page within an open transaction. Raises CannotUndo."""
        batch, is_mixed = self.batch, self.may_change_twice
        lock_enrollments(connection, exclusive=True)
        content = read_page(connection, batch, self.page, may_change_twice=is_mixed)
        content = leave_to_snapshots(connection, content, batch.id)
        before = find_progress(connection, batch.undo_id)
        if before.chunks > self.number:
            raise UndoneElsewhere(
                f"Another command is already undoing the batch {batch.id} and continues; this one"
                " stops."
            )
        chunk = make_chunk(
            batch.undo_id,
            self.number,
            content.reversals,
            batch.counts_at,
            before=before.size,
            last=self.is_last,
        )
        reading = _reading_for(self.clock, content.reversals)
        fingerprint = self.page.fingerprint
        applied = apply_to(connection, Kind.ENROLLMENTS, chunk, fingerprint, {}, clock=reading)
        if applied.outcome is not ChunkOutcome.APPLIED:
            raise UndoneElsewhere(
                f"Another command has undone a part of the batch {batch.id} in the meantime. Run"
                " this command again to see what is left to do."
            )
        has_owners = batch.has_data_set or batch.after_others
        if has_owners or any(each.data_set is not None for each in content.restored):
            restore_owners(connection, content.restored)
            renew_notes(connection, [r.pair for r in content.restored], finishing=batch.id)
        if batch.has_data_set and self.is_last:
            restore_ownership(connection, batch.undo_id)
        return applied


def _reading_for(clock: Clock, reversals: Sequence[Reversal]) -> Reading:
    """Return the present time on a clock for requests whose moments may lie ahead of it.

    They follow from what was applied, so they are right although the clock was set back since.
    """
    known = read_clock(clock)
    latest = max((each.counts_at for each in reversals), default=known.latest)
    return replace(known, latest=max(known.latest, latest))


def _steps(database: Database, batch_id: str, clock: Clock) -> Iterator[_Step]:
    """Yield what is left to do of an undo, a step for each chunk. Raises CannotUndo."""
    with database.reading() as connection:
        batch = check(connection, batch_id)
        done = find_progress(connection, batch.undo_id).chunks
        is_mixed = may_change_twice(connection, batch.id, batch.moment)
        if undid_changes_twice(connection, batch.id):
            # It gave enrollments that it did not open to other owners: no result of it says so.
            batch = batch._replace(after_others=True)
    pages = pages_of(database, batch)
    page, number = next(pages), 0
    for following in pages:
        if number >= done:
            yield _Step(batch, page, number, False, is_mixed, clock)
        page, number = following, number + 1
    yield _Step(batch, page, number, True, is_mixed, clock)


def _unless_busy(seconds: float, work: Callable[[], T]) -> T:
    """Run work; repeat it while locks of other transactions hold it up. Raises DBAPIError."""
    retrying = Retrying(
        retry=retry_if_exception(_is_busy),
        wait=wait_fixed(_BUSY_PAUSE),
        stop=stop_after_delay(seconds),
        reraise=True,
    )
    return retrying(work)


def _is_busy(error: BaseException) -> bool:
    return is_lock(error) or isinstance(error, EnrollmentsBusy)
