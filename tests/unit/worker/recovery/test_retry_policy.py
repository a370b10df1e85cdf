"""A task waits for an unavailable database, and requeues its message if that takes too long.

What happens when its work fails for another reason is in tests/integration.
"""

import time
from collections.abc import Callable
from typing import NoReturn

import pytest
from celery.exceptions import Reject
from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from producer.contract.keys import Keys
from worker.database.engine import Database, make_engine
from worker.messaging.attempts import Attempts
from worker.recovery.circuit import FIRST_PAUSE
from worker.recovery.retry_policy import ANSWERED_OUTAGE_WAIT, RetryPolicy
from worker.recovery.trial import TrialInterrupted

UNUSED = Attempts("redis://127.0.0.1:1/0", "here", 3, Keys())
"""It connects at first use, and no server is listening."""


def run_sql(*statements: str) -> None:
    engine = make_engine("sqlite://")
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def meet_outage() -> NoReturn:
    """Raise the error of a database without a table, as while it is being migrated."""
    run_sql("SELECT * FROM nowhere")
    raise AssertionError


def break_constraint() -> NoReturn:
    run_sql("CREATE TABLE t (i INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1), (1)")
    raise AssertionError


def fail() -> NoReturn:
    raise ZeroDivisionError


class Work:
    """Work that fails `failures` times before it succeeds."""

    def __init__(self, failures: int, fail: Callable[[], NoReturn] = meet_outage) -> None:
        self.attempts = 0
        self._failures = failures
        self._fail = fail

    def __call__(self) -> str:
        self.attempts += 1
        if self.attempts <= self._failures:
            self._fail()
        return "done"


class Clock:
    """A clock that stands still but for the pauses."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made.monotonic)
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


def make_policy(
    seconds: float = 60,
    waits: list[float] | None = None,
    refusals: list[BaseException] | None = None,
    over: Callable[[], None] = lambda: None,
) -> RetryPolicy:
    """Return a policy that adds what it reports to `waits` and `refusals`, and calls `over`."""
    return RetryPolicy(
        Database("sqlite://"),
        UNUSED,
        seconds,
        ([] if waits is None else waits).append,
        ([] if refusals is None else refusals).append,
        over,
    )


# --- through_outage ---------------------------------------------------------------------------


def test_work_is_retried_until_the_database_is_available() -> None:
    work = Work(failures=3)
    assert make_policy().through_outage(work) == "done"
    assert work.attempts == 4


def test_work_that_waited_for_a_lock_is_not_repeated() -> None:
    """The statement has waited already; repeating it would keep the process from lookups."""

    def meet_lock() -> NoReturn:
        raise OperationalError(None, None, LockNotAvailable())

    work = Work(failures=1, fail=meet_lock)
    with pytest.raises(OperationalError):
        make_policy().through_outage(work)
    assert work.attempts == 1


def test_the_time_of_the_first_attempt_counts(clock: Clock) -> None:
    def refuse_late() -> NoReturn:
        clock.sleep(ANSWERED_OUTAGE_WAIT)
        raise OperationalError(None, None, InsufficientPrivilege())

    work = Work(failures=1, fail=refuse_late)
    with pytest.raises(OperationalError):
        make_policy().through_outage(work)
    assert work.attempts == 1


def test_pauses_grow_and_are_reported_as_they_are_made(clock: Clock) -> None:
    waited: list[float] = []
    started = clock.now
    make_policy(waits=waited).through_outage(Work(failures=3))
    assert waited == pytest.approx([0.1, 0.2, 0.4])
    assert sum(waited) == pytest.approx(clock.now - started)


def test_work_that_meets_no_outage_reports_no_wait() -> None:
    waited: list[float] = []
    make_policy(waits=waited).through_outage(Work(failures=0))
    assert waited == []


@pytest.mark.parametrize("configured", [True, False])
def test_a_long_outage_is_raised_once_the_time_is_up(clock: Clock, configured: bool) -> None:
    work = Work(failures=1000)
    policy = make_policy(0.25) if configured else make_policy(60)
    started = clock.now
    with pytest.raises(OperationalError, match="nowhere"):
        policy.through_outage(work, None if configured else 0.25)
    assert clock.now - started == pytest.approx(0.1 + 0.2)
    assert work.attempts == 3


def test_without_any_wait_work_is_tried_once() -> None:
    work = Work(failures=1)
    with pytest.raises(OperationalError):
        make_policy(0).through_outage(work)
    assert work.attempts == 1


@pytest.mark.parametrize(
    ("fail", "error"), [(break_constraint, IntegrityError), (fail, ZeroDivisionError)]
)
def test_other_errors_are_not_retried(fail: Callable[[], NoReturn], error: type[Exception]) -> None:
    work = Work(failures=1, fail=fail)
    with pytest.raises(error):
        make_policy().through_outage(work)
    assert work.attempts == 1


def test_the_reason_for_waiting_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    policy = make_policy()
    for _ in range(2):
        policy.through_outage(Work(failures=2))
    (record,) = caplog.records
    assert (record.levelname, "no such table" in record.getMessage()) == ("WARNING", True)


# --- or_requeue -------------------------------------------------------------------------------


def test_work_that_is_done_requeues_nothing() -> None:
    assert make_policy().or_requeue(Work(failures=1)) == "done"


def test_a_long_outage_requeues_the_message() -> None:
    with pytest.raises(Reject) as caught:
        make_policy(0).or_requeue(Work(failures=1000))
    assert caught.value.requeue
    assert "no such table" in caught.value.reason


def test_a_trial_that_was_interrupted_requeues_the_message() -> None:
    def interrupted() -> NoReturn:
        raise TrialInterrupted

    with pytest.raises(Reject) as caught:
        make_policy().or_requeue(interrupted)
    assert caught.value.requeue


@pytest.mark.parametrize(
    ("fail", "error"), [(break_constraint, IntegrityError), (fail, ZeroDivisionError)]
)
def test_no_other_error_requeues_the_message(
    fail: Callable[[], NoReturn], error: type[Exception]
) -> None:
    with pytest.raises(error):
        make_policy().or_requeue(Work(failures=1, fail=fail))


def test_success_after_an_outage_is_reported_once() -> None:
    over: list[str] = []
    policy = make_policy(seconds=0, over=lambda: over.append("over"))
    with pytest.raises(Reject):
        policy.or_requeue(meet_outage)
    time.sleep(FIRST_PAUSE)
    assert [policy.or_requeue(lambda: "done") for _ in range(2)] == ["done"] * 2
    assert over == ["over"]


def test_an_error_of_the_database_quotes_no_values() -> None:
    engine = make_engine("sqlite://")
    twice = text("INSERT INTO t VALUES (:name), (:name)")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (name TEXT PRIMARY KEY)"))
        with pytest.raises(IntegrityError) as caught:
            connection.execute(twice, {"name": "Ada Secret"})
    engine.dispose()
    assert "INSERT INTO t" in str(caught.value)
    assert "Ada Secret" not in str(caught.value)
