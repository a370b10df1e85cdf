"""Decide where a batch stands. Pure: from its ledger, its mark and its dead letters."""

from datetime import datetime
from typing import Any, NamedTuple

from producer.contract.batches import BatchState
from producer.contract.marks import AgedMark
from worker.plain_text import printable

STALLED_SECONDS = 60.0
"""A batch that lacks something, and for which nothing came for so long, is stalled."""

_TWO_CONTENTS = (
    "A chunk came for every place, but they do not belong together: two contents were submitted"
    " under this batch id, and rows of both are missing. Submit what is right under a new batch"
    " id: what is there already is not done twice."
)


class DeadChunks(NamedTuple):
    """The chunks of a batch that became dead letters."""

    letters: int = 0
    detail: str = ""
    """What happened to one of them."""


class Standing(NamedTuple):
    """Where a batch stands, and what to do if something is wrong."""

    state: BatchState
    advice: str | None = None


def batch_state(
    ledger: Any | None, mark: AgedMark | None, dead: DeadChunks, now: datetime
) -> Standing:
    """Decide where a batch stands.

    `ledger` is the sum of its applied chunks, None if there is none. `mark` is what its submitter
    left in Redis, None where that is unknown. The mark must have been read before the ledger: what
    is applied was submitted by then.
    """
    if is_whole(ledger, mark, dead):
        return Standing(BatchState.DONE)
    standing = _of_unfinished(ledger, mark, now)
    lacks_chunks = missing_chunks(ledger, mark) > 0
    is_stuck = standing.state in (BatchState.STALLED, BatchState.UNKNOWN)
    if not dead.letters or not (lacks_chunks or is_stuck):
        # Dead letters stay when what they held was corrected and has come.
        return standing
    last = dead.detail.strip().splitlines()[-1:] or [""]
    advice = (
        f"{dead.letters} of its chunks became dead letters ({printable(last[0])[:200]}). If they"
        " have not been corrected since, correct and submit them again, or tell the operator."
        f" {standing.advice or ''}"
    )
    state = BatchState.STALLED if is_stuck else standing.state
    return Standing(state, advice.strip())


def is_whole(ledger: Any | None, mark: AgedMark | None, dead: DeadChunks) -> bool:
    """Say whether every chunk of a batch was applied, and all of them belong together.

    Two contents under one batch id, each cut in its own way, fill each other's numbers: every
    number is there, and rows are missing. Where no chunk was refused, a publisher has only
    counted wrong.
    """
    if ledger is None or total_chunks(ledger, mark) is None or missing_chunks(ledger, mark):
        return False
    return adds_up(ledger) or not dead.letters


def adds_up(ledger: Any) -> bool:
    """Say whether all chunks are there, and as many rows as the last of them says."""
    return bool(ledger.applied == ledger.chunks and ledger.rows >= ledger.rows_through)


def total_chunks(ledger: Any | None, mark: AgedMark | None) -> int | None:
    """Return how many chunks a batch has; None while that is unknown."""
    if ledger is not None and ledger.chunks is not None:
        return int(ledger.chunks)
    return mark.mark.chunks if mark is not None and mark.mark.complete else None


def missing_chunks(ledger: Any | None, mark: AgedMark | None) -> int:
    """Return how many chunks of a batch are known of and not applied."""
    published = 0 if mark is None else mark.mark.chunks
    if ledger is None:
        return published
    return int(max(published, ledger.known) - ledger.applied)


def _of_unfinished(ledger: Any | None, mark: AgedMark | None, now: datetime) -> Standing:
    if ledger is None and mark is None:
        return Standing(BatchState.UNKNOWN)
    total = total_chunks(ledger, mark)
    if ledger is not None and total is not None and not missing_chunks(ledger, mark):
        return Standing(BatchState.STALLED, _TWO_CONTENTS)
    quiet = [] if mark is None else [mark.seconds_ago]
    if ledger is not None:
        quiet.append((now - ledger.finished_at).total_seconds())
    if min(quiet) < STALLED_SECONDS:
        return Standing(BatchState.QUEUED if ledger is None else BatchState.RUNNING)
    what = "the submitter stopped before the end" if total is None else "chunks are missing"
    return Standing(
        BatchState.STALLED,
        f"Nothing came for {min(quiet):.0f} s, and {what}. See that a worker is running; if one"
        " is, submit the same again under this batch id (`enroll submit --resume` does): only what"
        " is missing is done.",
    )
