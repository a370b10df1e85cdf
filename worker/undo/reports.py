"""Report an undo to its client: what it would change, and what it has changed so far."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Connection

from producer.contract.batches import Books
from producer.contract.printable import shell_argument
from producer.contract.undos import (
    MAX_UNDO_COURSES,
    MAX_UNDO_PAIRS,
    BatchUndo,
    CourseUndo,
    LeftEnrollment,
    UndoneEnrollment,
    UndoState,
)
from producer.schemas import Action
from worker.database.engine import Database
from worker.enrollment.derived.entries import unpack_all
from worker.enrollment.repository import summarize_courses
from worker.moments import Clock, own_clock
from worker.repository import describe_students
from worker.undo.changes import changes_of
from worker.undo.plans import waiting_plan
from worker.undo.repository import find_changes_of_chunk, find_progress, read_fresh
from worker.undo.run import BUSY_SECONDS, UndoReport, rehearse, report_of
from worker.undo.start import undo_id_of
from worker.undo.values import AlreadyUndone, CannotUndo, UnknownBatch

EXAMINE_SECONDS: Final = 5.0
"""Seconds after which a dry run ends although more is to be examined: its client waits."""

_AT_LEAST: Final = (
    "The batch is large, so only its beginning was examined: undoing it changes at least this"
    " much. For the full counts, ask the operator to run `enroll undo --dry-run {}`."
)


class _Changes:
    """What the chunks of a dry run change: the count of each course, and the first pairs."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, Action]] = Counter()
        self.first: list[tuple[int, int, Action]] = []

    def look(self, connection: Connection, undo_id: str, number: int) -> None:
        """Add what a chunk changes; it is rolled back afterwards."""
        for student, course, action in _changes_of_chunk(connection, undo_id, number):
            self.counts[course, action] += 1
            if len(self.first) < MAX_UNDO_PAIRS:
                self.first.append((student, course, action))


def _changes_of_chunk(
    connection: Connection, undo_id: str, number: int
) -> Iterator[tuple[int, int, Action]]:
    """Yield the student, the course and the action of each change that a chunk has made."""
    for row in find_changes_of_chunk(connection, undo_id, number):
        for change in changes_of(row):
            yield *change.pair, change.action
    fresh = read_fresh(connection, undo_id, number)
    for _, entry in unpack_all(fresh) if fresh else ():
        for course in entry.courses:
            yield entry.student, course, Action.ENROLL


def preview(
    database: Database,
    batch_id: str,
    *,
    seconds: float = EXAMINE_SECONDS,
    clock: Clock = own_clock,
    busy_seconds: float = BUSY_SECONDS,
) -> BatchUndo:
    """Return what the undo of a batch would change, by course and with names; change nothing.

    Of a large batch, only what can be examined in some seconds is counted. If the undo has begun,
    its state is returned instead. A chunk is tried again for `busy_seconds` while others hold the
    locks that it needs. Raises DBAPIError.
    """
    try:
        if (refusal := refuse_waiting(database, batch_id)) is not None:
            return refusal
        with database.reading() as connection:
            progress = find_progress(connection, undo_id_of(batch_id))
        if progress.chunks and not progress.is_done:
            return running(database, batch_id)
        changes, until = _Changes(), time.monotonic() + seconds
        report = rehearse(
            database,
            batch_id,
            look=changes.look,
            may_go_on=lambda: time.monotonic() < until,
            clock=clock,
            busy_seconds=busy_seconds,
        )
    except CannotUndo as error:
        return refused(batch_id, error)
    with database.reading() as connection:
        courses = tuple(_courses(connection, changes.counts))
        pairs = tuple(_named(connection, changes.first))
    more: dict[str, Any] = {"courses": courses, "changes": pairs}
    if not report.is_complete:
        more |= {"is_complete": False, "advice": _AT_LEAST.format(shell_argument(batch_id))}
    return _status(report, UndoState.PLANNED, **more)


def _courses(connection: Connection, counts: Counter[tuple[int, Action]]) -> Iterator[CourseUndo]:
    totals: Counter[int] = Counter()
    for (course, _), count in counts.items():
        totals[course] += count
    shown = [course for course, _ in totals.most_common(MAX_UNDO_COURSES)]
    summaries = summarize_courses(connection, shown)
    for course in shown:
        yield CourseUndo(
            course_id=course,
            sis_id=summaries[course].sis_id,
            title=summaries[course].title,
            dropped=counts[course, Action.DROP],
            enrolled=counts[course, Action.ENROLL],
        )


def _named(
    connection: Connection, pairs: Iterable[tuple[int, int, Action]]
) -> Iterator[UndoneEnrollment]:
    listed = list(pairs)
    students = {row.id: row for row in describe_students(connection, {pair[0] for pair in listed})}
    courses = summarize_courses(connection, {pair[1] for pair in listed})
    for student, course, action in listed:
        yield UndoneEnrollment(
            action=action,
            student_id=student,
            student_sis_id=students[student].sis_id,
            student_name=students[student].name,
            course_id=course,
            course_sis_id=courses[course].sis_id,
            course_title=courses[course].title,
        )


def refuse_waiting(database: Database, batch_id: str) -> BatchUndo | None:
    """Return the refusal to undo a batch whose plan waits; None if it does not wait.

    A plan is discarded by a decision, which names the report that was shown. Raises CannotUndo,
    DBAPIError.
    """
    with database.reading() as connection:
        plan_id = waiting_plan(connection, batch_id)
    if plan_id is None:
        return None
    advice = (
        f"No part of the batch {batch_id} is applied yet, because its plan {plan_id} is waiting."
        " Discard the plan instead."
    )
    return _refusal(batch_id, UndoState.REFUSED, advice)


def refused(batch_id: str, error: CannotUndo) -> BatchUndo:
    """Return why a batch cannot be undone."""
    state = UndoState.UNKNOWN if isinstance(error, UnknownBatch) else UndoState.REFUSED
    return _refusal(batch_id, state, str(error))


def _refusal(batch_id: str, state: UndoState, advice: str) -> BatchUndo:
    return BatchUndo(batch_id=batch_id, undo_id=undo_id_of(batch_id), state=state, advice=advice)


def running(database: Database, batch_id: str) -> BatchUndo:
    """Return what an undo that goes on has done so far. Raises DBAPIError."""
    return _status(
        report_of(database, batch_id),
        UndoState.RUNNING,
        advice="The batch is being undone. If the undo was interrupted, undo the batch again to"
        f" continue. The status of {undo_id_of(batch_id)} shows how far it is.",
    )


def done(report: UndoReport) -> BatchUndo:
    """Return what an undo has done."""
    return _status(report, UndoState.DONE)


def done_before(database: Database, batch_id: str, error: AlreadyUndone) -> BatchUndo:
    """Return what an undo did that ended before. Raises DBAPIError."""
    return _status(report_of(database, batch_id), UndoState.DONE, advice=str(error))


def _status(report: UndoReport, state: UndoState, **more: Any) -> BatchUndo:
    left = tuple(LeftEnrollment(**pair._asdict()) for pair in report.left[:MAX_UNDO_PAIRS])
    return BatchUndo(
        batch_id=report.batch_id,
        undo_id=report.undo_id,
        state=state,
        books=Books(received=sum(report.counts.values()), **report.counts),
        left=left,
        left_to_snapshots=report.left_to_snapshots,
        **more,
    )
