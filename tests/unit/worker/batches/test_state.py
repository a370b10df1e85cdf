"""The state of a batch: one rule for `enroll status`, `enroll batches` and the web page."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.batches import BatchState
from producer.contract.chunks import Tally
from producer.contract.marks import AgedMark, SubmissionMark
from worker.batches.state import STALLED_SECONDS, DeadChunks, Standing, batch_state

NOW = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
NONE = DeadChunks()
ONE = DeadChunks(1, "Traceback\nValueError: it failed")
CONFLICTS = DeadChunks(conflicts=2)


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


def advice(
    ledger: Ledger | None,
    left: AgedMark | None,
    dead: DeadChunks = NONE,
    waiting: int | None = None,
) -> str:
    return batch_state(ledger, left, dead, NOW, waiting).advice or ""


def test_a_batch_without_ledger_mark_and_dead_letters_is_unknown() -> None:
    assert state(None, None) is BatchState.UNKNOWN


def test_a_batch_that_waits_in_the_queue_is_queued_until_it_waits_too_long() -> None:
    assert state(None, mark()) is BatchState.QUEUED
    assert state(None, mark(seconds_ago=STALLED_SECONDS + 1)) is BatchState.STALLED


@pytest.mark.parametrize("left", [None, mark(), mark(seconds_ago=10_000)])
def test_a_batch_with_all_its_chunks_is_done_whatever_its_mark_says(left: AgedMark | None) -> None:
    assert batch_state(WHOLE, left, NONE, NOW) == Standing(BatchState.DONE)


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
    for dead in (ONE, CONFLICTS):
        assert state(mixed, left, dead) is BatchState.STALLED
        assert "two different submissions" in advice(mixed, left, dead)
    assert "A different submission" not in advice(mixed, left, CONFLICTS)


@pytest.mark.parametrize("miscounted", [TOO_FEW_ROWS, TOO_MANY_ROWS])
def test_a_batch_is_done_even_if_its_publisher_miscounted(miscounted: Ledger) -> None:
    assert state(miscounted, None) is BatchState.DONE


def test_a_publisher_that_does_not_count_the_rows_before_a_chunk_is_believed() -> None:
    uncounted = replace(WHOLE, rows_through=10, rows_before=0)
    assert batch_state(uncounted, None, ONE, NOW) == Standing(BatchState.DONE)


def test_dead_letters_are_named_only_while_chunks_are_missing() -> None:
    assert "ValueError: it failed" in advice(GAP, None, ONE)
    assert "Traceback" not in advice(GAP, None, ONE)
    assert state(GAP, None, ONE) is BatchState.RUNNING
    assert advice(WHOLE, None, ONE) == ""


@pytest.mark.parametrize("ledger", [WHOLE, GAP, OPEN, replace(GAP, finished_at=QUIET), None])
@pytest.mark.parametrize("left", [None, mark()])
def test_a_conflict_is_always_told_and_does_not_change_what_is_done(
    ledger: Ledger | None, left: AgedMark | None
) -> None:
    sentence = advice(ledger, left, CONFLICTS)
    assert "2 chunks were refused" in sentence
    assert "under a new batch id" in sentence
    if ledger is WHOLE:
        assert state(ledger, left, CONFLICTS) is BatchState.DONE
    assert "ValueError: it failed" in advice(GAP, left, ONE._replace(conflicts=1))
    assert "1 chunk was refused" in advice(GAP, left, ONE._replace(conflicts=1))


def test_chunks_that_wait_nowhere_are_lost() -> None:
    quiet = replace(GAP, finished_at=QUIET)
    old = mark(seconds_ago=STALLED_SECONDS + 1)
    for ledger, left, count in ((quiet, None, 1), (quiet, old, 1), (None, old, 3)):
        standing = batch_state(ledger, left, NONE, NOW, waiting=0)
        assert (standing.state, standing.lost) == (BatchState.STALLED, count)
        assert "under the same batch id" in (standing.advice or "")
        assert "lost" in (standing.advice or "")
    # One of them is a dead letter.
    assert batch_state(None, old, ONE, NOW, waiting=0).lost == 2


@given(
    st.sampled_from(
        [WHOLE, GAP, OPEN, TOO_FEW_ROWS, TOO_MANY_ROWS, replace(GAP, finished_at=QUIET), None]
    ),
    st.sampled_from([None, mark(), mark(4, complete=False), mark(seconds_ago=10_000)]),
    st.sampled_from([NONE, ONE, CONFLICTS]),
    st.sampled_from([None, 0, 1, 70]),
)
def test_no_chunk_is_called_lost_while_chunks_wait_or_may_still_arrive(
    ledger: Ledger | None, left: AgedMark | None, dead: DeadChunks, waiting: int | None
) -> None:
    standing = batch_state(ledger, left, dead, NOW, waiting)
    if standing.lost:
        assert waiting == 0
        assert standing.state is BatchState.STALLED
        assert left is None or left.seconds_ago > STALLED_SECONDS
    assert standing.advice is not None or standing.state is not BatchState.STALLED


def test_the_advice_counts_what_waits() -> None:
    quiet = replace(GAP, finished_at=QUIET)
    assert "70 chunks, of all batches, wait" in advice(quiet, None, waiting=70)
    assert "of all batches" not in advice(quiet, None, waiting=None)


def test_a_batch_that_was_wholly_refused_is_stalled() -> None:
    assert state(None, None, ONE) is BatchState.STALLED
    assert "1 of its chunks became a dead letter" in advice(None, None, ONE)
