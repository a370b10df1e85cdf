"""The rules for going on with a wait: what ends it, what is waited out, and for how long."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from producer import waiting
from producer.contract.batches import BatchState, BatchStatus, Books
from producer.errors import (
    AnswerNotUnderstood,
    BatchCannotFinish,
    BatchNotDone,
    BrokerUnavailable,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.publishing.batches import SubmittedBatch
from producer.publishing.room import QUEUE_PATIENCE
from producer.schemas import Kind
from producer.waiting import LONGEST_PAUSE, UNKNOWN_PATIENCE, BatchWait

FAILED_AT = datetime(2026, 9, 1, tzinfo=UTC)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(waiting, "time", made)
    return made  # type: ignore[return-value]


def status(state: BatchState, **more: Any) -> BatchStatus:
    return BatchStatus(batch_id="b", state=state, **more)


def submission(**more: Any) -> SubmittedBatch:
    return SubmittedBatch(batch_id="b", kind=Kind.COURSES, chunks=2, **more)


def test_a_batch_is_done_if_its_state_says_so() -> None:
    wait = BatchWait("b")
    assert not wait.is_done(status(BatchState.RUNNING))
    assert wait.is_done(status(BatchState.DONE))


def test_a_submission_is_done_if_its_own_chunks_are_applied() -> None:
    mine = submission()
    wait = BatchWait(mine)
    assert wait.to_count(status(BatchState.RUNNING)) is None
    assert wait.to_count(status(BatchState.RUNNING, conflicts=1)) is mine
    assert not wait.is_done(status(BatchState.RUNNING, conflicts=1), 1)
    assert wait.to_count(status(BatchState.RUNNING, conflicts=1)) is None
    assert wait.to_count(status(BatchState.DONE)) is mine
    assert not wait.is_done(status(BatchState.DONE), 1)
    assert wait.is_done(status(BatchState.DONE), 2)


@pytest.mark.parametrize("state", ["planned", "held", "discarded"])
def test_the_wait_for_a_planned_batch_ends_where_its_plan_does(state: str) -> None:
    mine = submission(plan_id="p")
    for wait in (BatchWait("b"), BatchWait(mine)):
        assert not wait.is_done(status(BatchState.STAGED))
        assert wait.to_count(status(BatchState(state))) is None
        assert wait.is_done(status(BatchState(state)))


def test_a_plan_may_take_long_to_make(clock: Clock) -> None:
    wait = BatchWait("b")
    for _ in range(3):
        clock.now += QUEUE_PATIENCE + 1
        assert not wait.is_done(status(BatchState.STAGED))


@pytest.mark.parametrize(
    "more",
    [
        {"chunks_lost": 1, "chunks_missing": 1},
        {"chunks": 2, "chunks_missing": 0},
        {"chunks_missing": 1, "chunks_failed": 1, "failed_at": FAILED_AT},
    ],
    ids=["lost", "of two submissions", "dead letters"],
)
def test_what_cannot_finish_ends_the_wait(more: dict[str, Any]) -> None:
    for wait in (BatchWait("b"), BatchWait(submission())):
        with pytest.raises(BatchCannotFinish, match="Batch b: do this"):
            wait.is_done(status(BatchState.STALLED, advice="do this", **more))


def test_the_dead_letters_of_an_earlier_submission_do_not_end_the_wait() -> None:
    dead: dict[str, Any] = {"chunks_missing": 1, "chunks_failed": 1, "failed_at": FAILED_AT}
    wait = BatchWait(submission(failed_before=FAILED_AT))
    assert not wait.is_done(status(BatchState.RUNNING, **dead))
    later = {**dead, "failed_at": FAILED_AT.replace(year=2027)}
    with pytest.raises(BatchCannotFinish):
        wait.is_done(status(BatchState.RUNNING, **later))


def test_only_a_batch_that_was_known_may_be_unknown_for_a_while(clock: Clock) -> None:
    with pytest.raises(BatchCannotFinish, match="No batch with the id b is known"):
        BatchWait("b").is_done(status(BatchState.UNKNOWN))
    known = BatchWait("b")
    known.is_done(status(BatchState.QUEUED))
    for wait in (known, BatchWait(submission())):
        clock.now += UNKNOWN_PATIENCE
        assert not wait.is_done(status(BatchState.UNKNOWN))
        clock.now += 1
        with pytest.raises(BatchCannotFinish, match="the broker lost its data"):
            wait.is_done(status(BatchState.UNKNOWN))
        clock.now -= UNKNOWN_PATIENCE + 1


def test_a_stalled_batch_is_waited_for_as_long_as_a_full_queue(clock: Clock) -> None:
    wait = BatchWait("b")
    for _ in range(3):
        clock.now += QUEUE_PATIENCE
        assert not wait.is_done(status(BatchState.RUNNING))
    clock.now += QUEUE_PATIENCE
    assert not wait.is_done(status(BatchState.STALLED, chunks_missing=1))
    clock.now += 1
    with pytest.raises(NoWorkerAnswered, match=r"makes no progress\. Start one"):
        wait.is_done(status(BatchState.STALLED, chunks_missing=1, advice="Start one"))


@pytest.mark.parametrize("error", [BrokerUnavailable("It is full"), LookupFailed("It is locked")])
def test_an_outage_is_waited_out_for_ten_minutes(clock: Clock, error: Any) -> None:
    wait = BatchWait("b")
    clock.now += QUEUE_PATIENCE
    wait.bear(error)
    wait.bear(NoWorkerAnswered("A worker needs a while to reconnect."))
    clock.now += 1
    with pytest.raises(type(error)):
        wait.bear(error)
    assert not wait.is_done(status(BatchState.RUNNING))
    wait.bear(error)


@pytest.mark.parametrize("error", [NoWorkerAnswered("No."), AnswerNotUnderstood("Upgrade.")])
def test_without_an_outage_a_missing_or_strange_answer_ends_the_wait(error: Any) -> None:
    with pytest.raises(type(error), match=r"No|Upgrade"):
        BatchWait("b").bear(error)


def test_the_pauses_grow_and_end_with_the_time(clock: Clock) -> None:
    wait = BatchWait("b", timeout=30)
    pauses = []
    wait.is_done(status(BatchState.RUNNING, books=Books(received=5_000, not_applied=1_000)))
    while wait.seconds_left > 0:
        pauses.append(wait.pause())
        clock.now += pauses[-1]
    with pytest.raises(BatchNotDone, match="not done after 30 s: 4,000 of 5,000 rows"):
        wait.pause()
    assert sum(pauses) == pytest.approx(30)
    assert pauses[:-1] == sorted(pauses[:-1])
    assert max(pauses) == LONGEST_PAUSE
    assert len(pauses) < 100
    # The last look-up was cut short, and the batch is not without a worker.
    with pytest.raises(BatchNotDone):
        wait.bear(NoWorkerAnswered("No."))


def test_when_the_time_is_up_in_an_outage_the_error_says_so(clock: Clock) -> None:
    """What cannot be looked up may not go on at all, for example if the URL is wrong."""
    wait = BatchWait("b", timeout=2)
    outage = BrokerUnavailable("The broker is not available", "Check its URL.")
    wait.bear(outage)
    clock.now += 3
    with pytest.raises(BatchNotDone, match=r"not known to be done after 2 s\. The broker") as ended:
        wait.pause()
    assert "Check its URL. Then wait again" in str(ended.value)
    assert ended.value.__cause__ is outage
    wait.is_done(status(BatchState.RUNNING))
    with pytest.raises(BatchNotDone, match="It goes on; wait again"):
        wait.pause()


def test_when_the_time_is_up_the_error_has_the_advice(clock: Clock) -> None:
    wait = BatchWait("b", timeout=2)
    wait.is_done(status(BatchState.STAGED, advice="1 chunk is missing. Submit it."))
    clock.now += 3
    with pytest.raises(BatchNotDone, match=r"applied\. 1 chunk is missing\. Submit it\. Then"):
        wait.pause()
