"""Decide the state of a batch from its ledger, its mark and its dead letters. Pure functions."""

from datetime import datetime
from typing import Any, NamedTuple

from producer.contract.batches import BatchState
from producer.contract.marks import AgedMark
from producer.contract.printable import printable

STALLED_SECONDS = 60.0
"""An unfinished batch is stalled if nothing has arrived for it for this many seconds."""

_MIXED_SUBMISSIONS = (
    "Every chunk has arrived, but the chunks do not belong together: two different submissions"
    " used this batch id, and rows of both are missing. Submit the right one again under a new"
    " batch id; rows that are already stored are not added twice."
)
_RESUME = (
    "submit the batch again under the same batch id (`enroll submit --resume` does that); only the"
    " missing chunks are applied."
)


class DeadChunks(NamedTuple):
    """The chunks of a batch that became dead letters."""

    failed: int = 0
    """How many could not be processed."""
    detail: str = ""
    """What happened to one of these."""
    conflicts: int = 0
    """How many were refused because a different chunk was applied under their number."""
    failed_at: datetime | None = None
    """When the newest of those that could not be processed became a dead letter."""


class Standing(NamedTuple):
    """The state of a batch, what to do if something is wrong, and how many chunks are lost."""

    state: BatchState
    advice: str | None = None
    lost: int = 0


def batch_state(
    ledger: Any | None,
    mark: AgedMark | None,
    dead: DeadChunks,
    now: datetime,
    waiting: int | None = None,
) -> Standing:
    """Decide the state of a batch.

    `ledger` is the sum of its applied chunks, None if none was applied. `mark` is its mark in
    Redis, None if it has none or Redis was not asked. `waiting` is the number of chunks, of all
    batches, that wait in the broker or are being applied, None if that is unknown. Read the mark
    first, then what waits, then the ledger. In this order, every chunk that the mark counts was
    published before the ledger was read, and every chunk that no longer waited is in the ledger,
    unless it was lost.
    """
    mark = relevant_mark(ledger, mark)
    if is_whole(ledger, mark, dead):
        return Standing(BatchState.DONE, advice_on_conflicts(dead))
    standing = _of_unfinished(ledger, mark, dead, now, waiting)
    has_missing_chunks = missing_chunks(ledger, mark) > 0
    is_stuck = standing.state in (BatchState.STALLED, BatchState.UNKNOWN)
    parts = [standing.advice]
    if standing.advice is not _MIXED_SUBMISSIONS:
        parts.insert(0, advice_on_conflicts(dead))
    # Dead letters remain stored after their chunks were corrected and submitted again.
    if dead.failed and (has_missing_chunks or is_stuck):
        parts.insert(0, advice_on_failures(dead))
    has_dead_chunks = dead.failed or dead.conflicts
    state = BatchState.STALLED if is_stuck and has_dead_chunks else standing.state
    return Standing(state, " ".join(filter(None, parts)) or None, standing.lost)


def advice_on_failures(dead: DeadChunks) -> str:
    """Return what to do about chunks of a batch that could not be processed."""
    last_line = dead.detail.strip().splitlines()[-1:] or [""]
    became = "became a dead letter" if dead.failed == 1 else "became dead letters"
    return (
        f"{dead.failed} of its chunks {became} ({printable(last_line[0])[:200]}). If the"
        " records are wrong, correct them and submit them again, unless you have already done so."
        " If they are right, ask the operator to retry the dead letters."
    )


def advice_on_conflicts(dead: DeadChunks) -> str | None:
    """Return what to do about chunks of another submission; None if there are none."""
    if not dead.conflicts:
        return None
    were = "chunk was" if dead.conflicts == 1 else "chunks were"
    return (
        f"A different submission used this batch id, too: {dead.conflicts} {were} refused, and the"
        " records in them are not stored. Submit the records of that submission again under a new"
        " batch id; rows that are already stored are not added twice. Then the operator can discard"
        " the refused chunks (`enroll dead-letters list`)."
    )


def relevant_mark(ledger: Any | None, mark: AgedMark | None) -> AgedMark | None:
    """Return a batch's mark, or None if its ledger is complete without it.

    Any submitter may write any mark, so a mark must not change what the ledger proves.
    """
    return None if ledger is not None and adds_up(ledger) else mark


def is_whole(ledger: Any | None, mark: AgedMark | None, dead: DeadChunks) -> bool:
    """Return whether every chunk of a batch was applied and all chunks belong together.

    Two different submissions under one batch id, each with its own chunk sizes, fill each other's
    numbers: every number is there, but there are too few rows or too many. If no chunk became a
    dead letter, there was only one submission, and its client miscounted.
    """
    if ledger is None or total_chunks(ledger, mark) is None or missing_chunks(ledger, mark):
        return False
    return adds_up(ledger) or not (dead.failed or dead.conflicts)


def adds_up(ledger: Any) -> bool:
    """Return whether all chunks were applied, with exactly as many rows as the last chunk says.

    A client that does not count the rows before each chunk is taken at its word.
    """
    counts_rows = ledger.rows_before > 0
    has_all_rows = ledger.rows == ledger.rows_through or not counts_rows
    return bool(ledger.applied == ledger.chunks and has_all_rows)


def total_chunks(ledger: Any | None, mark: AgedMark | None) -> int | None:
    """Return how many chunks a batch has; None as long as that is unknown."""
    if ledger is not None and ledger.chunks is not None:
        return int(ledger.chunks)
    return mark.mark.chunks if mark is not None and mark.mark.complete else None


def missing_chunks(ledger: Any | None, mark: AgedMark | None) -> int:
    """Return how many of the known chunks of a batch were not applied."""
    published = 0 if mark is None else mark.mark.chunks
    if ledger is None:
        return published
    return int(max(published, ledger.known) - ledger.applied)


def _of_unfinished(
    ledger: Any | None,
    mark: AgedMark | None,
    dead: DeadChunks,
    now: datetime,
    waiting: int | None,
) -> Standing:
    if ledger is None and mark is None:
        return Standing(BatchState.UNKNOWN)
    total = total_chunks(ledger, mark)
    missing = missing_chunks(ledger, mark)
    if ledger is not None and total is not None and not missing:
        return Standing(BatchState.STALLED, _MIXED_SUBMISSIONS)
    ages = [] if mark is None else [mark.seconds_ago]
    if ledger is not None:
        ages.append((now - ledger.finished_at).total_seconds())
    quiet_seconds = min(ages)
    if quiet_seconds < STALLED_SECONDS:
        return Standing(BatchState.QUEUED if ledger is None else BatchState.RUNNING)
    lost = max(0, missing - dead.failed) if waiting == 0 else 0
    if lost:
        were = "chunk was" if lost == 1 else "chunks were"
        return Standing(
            BatchState.STALLED,
            f"{lost} {were} lost: not applied, and no longer in the queue or with a worker. To"
            f" continue, {_RESUME}",
            lost,
        )
    cause = "the submitter stopped before the end" if total is None else "chunks are missing"
    if waiting:
        cause += f" ({waiting} chunks, of all batches, wait in the queue or are being applied)"
    return Standing(
        BatchState.STALLED,
        f"Nothing has arrived for {quiet_seconds:.0f} s, and {cause}. Check that a worker is"
        f" running. If one is, {_RESUME}",
    )
