"""Decide whether a batch can be undone, stop it, and store the batch that undoes it."""

from datetime import datetime

from sqlalchemy import Connection

from producer.contract.undos import advice_on_undone
from producer.fields import MAX_STORED_ID, UNDO_PREFIX, show_moment
from producer.schemas import Kind
from worker.batches.repository import date_batch
from worker.database.engine import Database
from worker.database.enrollment_lock import lock_enrollments
from worker.intervals.undone.repository import are_others_undone, base_of, find_undone
from worker.moments import STEP
from worker.undo.owners.repository import find_submitted
from worker.undo.repository import (
    add_undo,
    find_batch,
    find_progress,
    find_retention_limit,
    first_applied,
    may_change_twice,
    stop_batch,
    stop_last,
)
from worker.undo.values import AlreadyUndone, CannotUndo, UndoneBatch, UnknownBatch


def undo_id_of(batch_id: str) -> str:
    """Return the id of the batch that undoes another one."""
    return f"{UNDO_PREFIX}{batch_id}"


def check(connection: Connection, batch_id: str) -> UndoneBatch:
    """Return a batch that can be undone. Raises CannotUndo."""
    batch = find_batch(connection, batch_id)
    if batch is None:
        hint = (
            _enrollments_of(connection, batch_id) or "Check the id; `enroll batches` lists batches."
        )
        raise UnknownBatch(
            f"The batch {batch_id} is unknown: none of its chunks was applied, or it was pruned."
            f" {hint}"
        )
    if batch.kind != Kind.ENROLLMENTS:
        raise CannotUndo(
            f"The batch {batch_id} is a roster of {batch.kind}. Rosters are not undone, because"
            " earlier names and titles are not stored. Submit a roster with the correct records."
            f" {_enrollments_of(connection, batch_id.rpartition(':')[0])}".rstrip()
        )
    undo_id = undo_id_of(batch_id)
    if len(undo_id) > MAX_STORED_ID:
        raise CannotUndo(
            f"The batch {batch_id} cannot be undone: the id of its undo would have more than"
            f" {MAX_STORED_ID} characters. Submit a file that enrolls and drops what should change."
        )
    if find_progress(connection, undo_id).is_done:
        raise AlreadyUndone(advice_on_undone(batch_id, undo_id))
    if find_undone(connection, [undo_id]):
        raise CannotUndo(
            f"The batch {batch_id} cannot be undone again: its undo {undo_id} was itself undone"
            " before it was complete. Submit a file that enrolls and drops what should change."
        )
    # A batch of an older version has no moment: it counts when its first chunk was applied.
    moment: datetime = batch.moment or first_applied(connection, batch_id) or batch.stopped_at
    _check_limit(connection, batch_id, moment)
    submitted = find_batch(connection, base_of(batch_id))
    has_data_set = submitted is not None and submitted.data_set is not None
    begun_at = None if find_batch(connection, undo_id) is None else batch.stopped_at
    after_others = are_others_undone(connection, batch_id, begun_at)
    snapshot = find_submitted(connection, base_of(batch_id)) if after_others else None
    lacking = snapshot.data_set if snapshot is not None and snapshot.is_snapshot else None
    counts_at = moment + STEP
    return UndoneBatch(batch_id, moment, has_data_set, undo_id, counts_at, after_others, lacking)


def undid_changes_twice(connection: Connection, batch_id: str) -> bool:
    """Return whether a batch is an undo, of one that may have changed a pair more than once."""
    base_id = base_of(batch_id)
    if base_id == batch_id:
        return False
    base = find_batch(connection, base_id)
    return base is not None and may_change_twice(connection, base_id, base.moment)


def _enrollments_of(connection: Connection, package_id: str) -> str:
    """Name the batch to undo instead, if a package has this id; return "" if none has."""
    own_id = f"{package_id}:{Kind.ENROLLMENTS}"
    if find_batch(connection, own_id) is None:
        return ""
    return f"To undo the enrollments of the package {package_id}, undo the batch {own_id}."


def _check_limit(connection: Connection, batch_id: str, moment: datetime) -> None:
    limit = find_retention_limit(connection)
    if limit is not None and moment < limit:
        raise CannotUndo(
            f"The batch {batch_id} counts at {show_moment(moment)}, and what happened before"
            f" {show_moment(limit)} was pruned. Submit a file that enrolls and drops what should"
            " change."
        )


def has_begun(database: Database, batch_id: str) -> bool:
    """Return whether the batch that undoes another one is stored. Raises DBAPIError."""
    with database.reading() as connection:
        return find_batch(connection, undo_id_of(batch_id)) is not None


def stop(connection: Connection, batch_id: str, now: datetime) -> None:
    """Have the chunks of a batch refused that are not applied yet. Raises CannotUndo."""
    check(connection, batch_id)
    stop_batch(connection, batch_id, now)


def begin(connection: Connection, batch_id: str) -> None:
    """Wait for the chunks of a batch that are being applied, and store its undo.

    Call this in a later transaction than `stop`: chunks that begin after that one are refused.
    Raises CannotUndo, DBAPIError, EnrollmentsBusy.
    """
    row = find_batch(connection, batch_id, lock=True)
    batch = check(connection, batch_id)
    if row is not None and row.moment is None:
        date_batch(connection, batch_id, batch.moment)
    # No page of another undo is applied now: each of those comes before this one, or knows of it.
    lock_enrollments(connection, exclusive=True)
    if find_batch(connection, batch.undo_id) is None:
        stop_last(connection, batch_id)
    add_undo_once(connection, batch)


def add_undo_once(connection: Connection, batch: UndoneBatch) -> None:
    """Store the batch that undoes another one, unless it is stored already."""
    if find_batch(connection, batch.undo_id) is None:
        add_undo(connection, batch.undo_id, batch.counts_at, batch.id)
