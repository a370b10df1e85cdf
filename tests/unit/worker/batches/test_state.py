"""The state of a batch: one rule for `enroll status`, `enroll batches` and the web page."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from producer.contract.batches import BatchState
from producer.contract.chunks import Tally
from producer.contract.marks import AgedMark, SubmissionMark
from worker.batches.state import STALLED_SECONDS, DeadChunks, batch_state

NOW = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
NONE = DeadChunks()
ONE = DeadChunks(1, "Traceback\nValueError: another chunk was applied")


@dataclass(frozen=True)
class Ledger:
    """The sums of a batch of three chunks that were all applied."""

    applied: int = 3
    known: int = 3
    chunks: int | None = 3
    rows: int = 30
    rows_through: int = 30
    rows_before: int = 20
    """The most rows that a chunk says come before it; 0 if its publisher does not count them."""
    finished_at: datetime = NOW - timedelta(seconds=5)


WHOLE = Ledger()
GAP = replace(WHOLE, applied=2, rows=20)
OPEN = replace(WHOLE, applied=2, known=2, chunks=None, rows=20, rows_through=20)
TOO_FEW_ROWS = replace(WHOLE, rows=25)
TOO_MANY_ROWS = replace(WHOLE, rows=35)
QUIET = NOW - timedelta(seconds=STALLED_SECONDS + 1)


def mark(chunks: int = 3, *, complete: bool = True, seconds_ago: float = 5) -> AgedMark:
    tally = Tally(requests=chunks, rows=10 * chunks)
    return AgedMark(SubmissionMark(tally=tally, chunks=chunks, complete=complete), seconds_ago)


def state(ledger: Ledger | None, left: AgedMark | None, dead: DeadChunks = NONE) -> BatchState:
    return batch_state(ledger, left, dead, NOW).state


def advice(ledger: Ledger | None, left: AgedMark | None, dead: DeadChunks = NONE) -> str:
    return batch_state(ledger, left, dead, NOW).advice or ""


def test_a_batch_without_ledger_mark_and_dead_letters_is_unknown() -> None:
    assert state(None, None) is BatchState.UNKNOWN


def test_a_batch_that_waits_in_the_queue_is_queued_until_it_waits_too_long() -> None:
    assert state(None, mark()) is BatchState.QUEUED
    assert state(None, mark(seconds_ago=STALLED_SECONDS + 1)) is BatchState.STALLED


@pytest.mark.parametrize("left", [None, mark(), mark(seconds_ago=10_000)])
def test_a_batch_with_all_its_chunks_is_done_whatever_its_mark_says(left: AgedMark | None) -> None:
    assert batch_state(WHOLE, left, NONE, NOW) == (BatchState.DONE, None)


def test_a_batch_whose_mark_knows_of_more_chunks_is_not_done() -> None:
    assert state(replace(WHOLE, chunks=None), mark(4)) is BatchState.RUNNING


@pytest.mark.parametrize("ledger", [GAP, OPEN])
def test_an_incomplete_batch_is_running_while_chunks_arrive(ledger: Ledger) -> None:
    assert state(ledger, None) is BatchState.RUNNING
    quiet = replace(ledger, finished_at=QUIET)
    assert state(quiet, None) is BatchState.STALLED
    assert state(quiet, mark()) is BatchState.RUNNING
    assert "--resume" in advice(quiet, None)


def test_the_advice_says_whether_the_submitter_or_the_queue_is_behind() -> None:
    assert "the submitter stopped" in advice(replace(OPEN, finished_at=QUIET), None)
    assert "chunks are missing" in advice(replace(GAP, finished_at=QUIET), None)


@pytest.mark.parametrize("left", [None, mark()])
@pytest.mark.parametrize("mixed", [TOO_FEW_ROWS, TOO_MANY_ROWS])
def test_two_submissions_under_one_batch_id_are_stalled_and_never_done(
    mixed: Ledger, left: AgedMark | None
) -> None:
    assert state(mixed, left, ONE) is BatchState.STALLED
    assert "two different submissions" in advice(mixed, left, ONE)


@pytest.mark.parametrize("miscounted", [TOO_FEW_ROWS, TOO_MANY_ROWS])
def test_a_batch_is_done_even_if_its_publisher_miscounted(miscounted: Ledger) -> None:
    assert state(miscounted, None) is BatchState.DONE


def test_a_publisher_that_does_not_count_the_rows_before_a_chunk_is_believed() -> None:
    uncounted = replace(WHOLE, rows_through=10, rows_before=0)
    assert batch_state(uncounted, None, ONE, NOW) == (BatchState.DONE, None)


def test_dead_letters_are_named_only_while_chunks_are_missing() -> None:
    assert "ValueError: another chunk was applied" in advice(GAP, None, ONE)
    assert "Traceback" not in advice(GAP, None, ONE)
    assert state(GAP, None, ONE) is BatchState.RUNNING
    assert advice(WHOLE, None, ONE) == ""


def test_a_batch_that_was_wholly_refused_is_stalled() -> None:
    assert state(None, None, ONE) is BatchState.STALLED
    assert "1 of its chunks became a dead letter" in advice(None, None, ONE)
