"""Decide the state of a batch from its ledger, its mark and its dead letters. Pure functions."""

from datetime import datetime
from typing import Any, NamedTuple

from producer.contract.batches import BatchState
from producer.contract.marks import AgedMark
from worker.plain_text import printable

STALLED_SECONDS = 60.0
"""An unfinished batch is stalled if nothing has arrived for it for this many seconds."""

_MIXED_SUBMISSIONS = (
    "Every chunk has arrived, but the chunks do not belong together: two different submissions"
    " used this batch id, and rows of both are missing. Submit the right one again under a new"
    " batch id; rows that are already stored are not added twice."
)


class DeadChunks(NamedTuple):
    """The chunks of a batch that became dead letters."""

    letters: int = 0
    detail: str = ""
    """What happened to one of these chunks."""


class Standing(NamedTuple):
    """The state of a batch, and what to do if something is wrong."""

    state: BatchState
    advice: str | None = None


def batch_state(
    ledger: Any | None, mark: AgedMark | None, dead: DeadChunks, now: datetime
) -> Standing:
    """Decide the state of a batch.

    `ledger` is the sum of its applied chunks, None if none was applied. `mark` is its mark in
    Redis, None if it has none or Redis was not asked. Read the mark before the ledger: then every
    chunk that the mark counts was published before the ledger was read.
    """
    if is_whole(ledger, mark, dead):
        return Standing(BatchState.DONE)
    standing = _of_unfinished(ledger, mark, now)
    has_missing_chunks = missing_chunks(ledger, mark) > 0
    is_stuck = standing.state in (BatchState.STALLED, BatchState.UNKNOWN)
    if not dead.letters or not (has_missing_chunks or is_stuck):
        # Dead letters remain stored after their chunks were corrected and submitted again.
        return standing
    last_line = dead.detail.strip().splitlines()[-1:] or [""]
    became = "became a dead letter" if dead.letters == 1 else "became dead letters"
    advice = (
        f"{dead.letters} of its chunks {became} ({printable(last_line[0])[:200]}). If you have not"
        " corrected the records since, correct them and submit them again, or ask the operator"
        " to retry the dead letters."
        f" {standing.advice or ''}"
    )
    state = BatchState.STALLED if is_stuck else standing.state
    return Standing(state, advice.strip())


def is_whole(ledger: Any | None, mark: AgedMark | None, dead: DeadChunks) -> bool:
    """Return whether every chunk of a batch was applied and all chunks belong together.

    Two different submissions under one batch id, each with its own chunk sizes, fill each other's
    numbers: every number is there, but there are too few rows or too many. If no chunk became a
    dead letter, there was only one submission, and its client miscounted.
    """
    if ledger is None or total_chunks(ledger, mark) is None or missing_chunks(ledger, mark):
        return False
    return adds_up(ledger) or not dead.letters


def adds_up(ledger: Any) -> bool:
    """Return whether all chunks were applied, with exactly as many rows as the last chunk says.

    A publisher that does not count the rows before each chunk is taken at its word.
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


def _of_unfinished(ledger: Any | None, mark: AgedMark | None, now: datetime) -> Standing:
    if ledger is None and mark is None:
        return Standing(BatchState.UNKNOWN)
    total = total_chunks(ledger, mark)
    if ledger is not None and total is not None and not missing_chunks(ledger, mark):
        return Standing(BatchState.STALLED, _MIXED_SUBMISSIONS)
    ages = [] if mark is None else [mark.seconds_ago]
    if ledger is not None:
        ages.append((now - ledger.finished_at).total_seconds())
    quiet_seconds = min(ages)
    if quiet_seconds < STALLED_SECONDS:
        return Standing(BatchState.QUEUED if ledger is None else BatchState.RUNNING)
    cause = "the submitter stopped before the end" if total is None else "chunks are missing"
    return Standing(
        BatchState.STALLED,
        f"Nothing has arrived for {quiet_seconds:.0f} s, and {cause}. Check that a worker is"
        " running. If one is, submit the batch again under the same batch id (`enroll submit"
        " --resume` does that); only the missing chunks are applied.",
    )
