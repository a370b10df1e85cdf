"""Work that keeps failing is isolated, then given up; attempts are counted in a real Valkey."""

import uuid
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
from celery.exceptions import Reject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from sqlalchemy import text

from producer.contract.keys import Keys
from support.valkey import free_port
from worker.database.engine import Database, make_engine
from worker.messaging.attempts import Attempts
from worker.messaging.unavailable import DatabaseUnavailable
from worker.recovery import circuit, retry_policy
from worker.recovery.retry_policy import RetryPolicy
from worker.recovery.trial import TrialInterrupted

LIMIT = 3
INSTANCE = "fallbacks"
KEYS = Keys()

Way = Callable[[], str]


def meet_outage() -> NoReturn:
    engine = make_engine("sqlite://")
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT * FROM nowhere"))
    finally:
        engine.dispose()
    raise AssertionError


def fail() -> NoReturn:
    raise ZeroDivisionError("a fault of the code")


def interrupted() -> NoReturn:
    raise TrialInterrupted


def leave() -> NoReturn:
    raise SystemExit


class Task:
    """A task whose three ways do what the test says; it records which of them were tried."""

    def __init__(self, database_url: str, broker_url: str, task_id: str) -> None:
        self.tried: list[str] = []
        self.attempts = Attempts(broker_url, INSTANCE, LIMIT, KEYS)
        self.database = Database(database_url)
        self._policy = RetryPolicy(
            self.database,
            self.attempts,
            0,
            lambda _seconds: None,
            lambda _error: None,
            lambda: None,
        )
        self._task_id = task_id

    def run(self, **ways: Way) -> str:
        """Run the task; a way that the test does not set succeeds and returns its own name."""

        def make(name: str) -> Way:
            def way() -> str:
                self.tried.append(name)
                return ways[name]() if name in ways else name

            return way

        return self._policy.with_fallbacks(
            self._task_id, make("work"), isolate=make("isolate"), give_up=make("give_up")
        )


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_policy, "FAILURE_PAUSE", 0)
    monkeypatch.setattr(circuit, "FIRST_PAUSE", 0)


@pytest.fixture
def task_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def database_url(new_database: Callable[[str], str]) -> str:
    return new_database("sqlite")


@pytest.fixture
def task(database_url: str, broker_url: str, task_id: str) -> Iterator[Task]:
    made = Task(database_url, broker_url, task_id)
    yield made
    made.database.close()


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url, decode_responses=True) as client:
        yield client
        assert client.hkeys(KEYS.running(INSTANCE)) == [], "an attempt was not ended"


def test_successful_work_clears_its_earlier_attempts(
    task: Task, redis: Redis, task_id: str
) -> None:
    task.attempts.failed(task_id)
    assert task.run() == "work"
    assert task.tried == ["work"]
    assert not redis.hexists(KEYS.attempts, task_id)


def test_a_running_task_is_recorded_as_executing(task: Task, redis: Redis, task_id: str) -> None:
    def look() -> str:
        return ",".join(map(str, redis.hkeys(KEYS.running(INSTANCE))))

    assert task.run(work=look) == task_id


def test_an_unexpected_error_is_counted_logged_and_retried(
    task: Task, redis: Redis, task_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Reject) as caught:
        task.run(work=fail)
    assert caught.value.requeue
    assert redis.hget(KEYS.attempts, task_id) == "1"
    (record,) = caplog.records
    assert (record.exc_info is not None, vars(record)["task_id"]) == (True, task_id)


def test_a_message_waits_a_moment_before_it_is_requeued(
    task: Task, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    slept: list[float] = []
    monkeypatch.setattr("worker.recovery.retry_policy.time.sleep", slept.append)
    with pytest.raises(Reject):
        task.run(work=fail)
    assert slept == [retry_policy.FAILURE_PAUSE]


def test_a_failure_of_our_own_code_does_not_count_while_the_database_refuses_to_work(
    task: Task, redis: Redis, task_id: str
) -> None:
    """Otherwise an error that only follows from the refusal would make a dead letter."""
    with task.database.writing() as connection:
        connection.execute(text("ALTER TABLE student_courses RENAME TO elsewhere"))
    for _ in range(2 * LIMIT):
        with pytest.raises(DatabaseUnavailable, match="no such table: student_courses"):
            task.run(work=fail)
    assert not redis.hexists(KEYS.attempts, task_id)
    with task.database.writing() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO student_courses"))
    assert task.run() == "work"


def test_after_a_refusal_other_messages_wait_before_they_are_tried(
    database_url: str, broker_url: str, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    task = Task(database_url, broker_url, task_id)
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            task.run(work=meet_outage)
    assert task.tried == ["work"]


@pytest.mark.parametrize("way_out", [meet_outage, interrupted])
@pytest.mark.parametrize(("before", "way"), [(0, "work"), (3, "isolate"), (6, "give_up")])
def test_an_outage_is_never_counted_as_a_failed_attempt(
    task: Task, redis: Redis, task_id: str, way_out: Way, before: int, way: str
) -> None:
    for _ in range(before):
        task.attempts.failed(task_id)
    with pytest.raises(Reject) as caught:
        task.run(**{way: way_out})
    assert caught.value.requeue
    assert task.tried == [way]
    assert int(redis.hget(KEYS.attempts, task_id) or 0) == before


def test_the_failure_that_reaches_the_limit_is_isolated_at_once(
    task: Task, redis: Redis, task_id: str
) -> None:
    for _ in range(LIMIT - 1):
        with pytest.raises(Reject):
            task.run(work=fail)
    assert task.run(work=fail) == "isolate"
    assert task.tried == ["work"] * LIMIT + ["isolate"]
    assert not redis.hexists(KEYS.attempts, task_id)


def test_a_message_that_kills_workers_is_isolated_and_then_given_up(
    task: Task, redis: Redis, task_id: str
) -> None:
    redis.hset(KEYS.attempts, task_id, LIMIT)
    assert task.run() == "isolate"
    redis.hset(KEYS.attempts, task_id, 2 * LIMIT)
    assert task.run() == "give_up"
    assert task.tried == ["isolate", "give_up"]


def test_a_message_that_cannot_be_given_up_is_retried_forever(
    task: Task, redis: Redis, task_id: str
) -> None:
    redis.hset(KEYS.attempts, task_id, 2 * LIMIT)
    for _ in range(2 * LIMIT):
        with pytest.raises(Reject):
            task.run(give_up=fail)
    assert set(task.tried) == {"give_up"}


def test_an_attempt_ended_by_a_stopping_worker_is_not_counted(
    task: Task, redis: Redis, task_id: str
) -> None:
    with pytest.raises(SystemExit):
        task.run(work=leave)
    assert not redis.hexists(KEYS.attempts, task_id)


def test_a_message_that_its_work_rejects_is_not_counted(
    task: Task, redis: Redis, task_id: str
) -> None:
    def reject() -> NoReturn:
        raise Reject("by itself", requeue=False)

    with pytest.raises(Reject) as caught:
        task.run(work=reject)
    assert not caught.value.requeue
    assert not redis.hexists(KEYS.attempts, task_id)


def test_without_redis_work_is_retried_and_never_isolated(database_url: str, task_id: str) -> None:
    task = Task(database_url, f"redis://127.0.0.1:{free_port()}/0", task_id)
    for _ in range(LIMIT + 1):
        with pytest.raises(Reject):
            task.run(work=fail)
    assert set(task.tried) == {"work"}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from(["fails", "fails", "dies", "outage"]), max_size=12))
def test_only_the_count_of_attempts_decides_what_is_tried(
    database_url: str, broker_url: str, events: list[str]
) -> None:
    task_id = str(uuid.uuid4())
    task = Task(database_url, broker_url, task_id)
    expected = []
    count = 0
    for event in events:
        way = min(count // LIMIT, 2)
        expected.append(way)
        if event == "dies":
            task.attempts.failed(task_id)
            count += 1
            task.tried.append(("work", "isolate", "give_up")[way])
            continue
        happens = fail if event == "fails" else meet_outage
        # A failure that reaches the limit goes on with the next way, which meets an outage here.
        ways = dict.fromkeys(("work", "isolate", "give_up"), meet_outage)
        ways[("work", "isolate", "give_up")[way]] = happens
        if event == "fails":
            count += 1
            if count % LIMIT == 0:
                expected.append(min(count // LIMIT, 2))
                # If giving up reaches the limit, it is tried again at once, and fails again.
                count += way == 2
        with pytest.raises(Reject):
            task.run(**ways)
    assert task.tried == [("work", "isolate", "give_up")[way] for way in expected]
