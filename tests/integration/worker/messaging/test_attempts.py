"""Attempts are counted in a real Valkey, so that the counts survive a lost worker."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from kombu.connection import Connection
from redis import Redis

from producer.contract.keys import Keys
from support.valkey import free_port
from worker.messaging import plugins
from worker.messaging.attempts import Attempts

LIMIT = 3
KEYS = Keys()


@pytest.fixture
def instance() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def attempts(broker_url: str, instance: str) -> Attempts:
    return Attempts(broker_url, instance, LIMIT, KEYS)


@pytest.fixture
def task_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def beat(broker_url: str) -> Iterator[Callable[[str], None]]:
    """Sends a worker's heartbeat, which also looks for lost workers."""
    connections = []

    def give(instance: str) -> None:
        connection = Connection(
            broker_url, transport=plugins.TRANSPORT, transport_options={"instance": instance}
        )
        connections.append(connection)
        connection.channel().beat()

    yield give
    for connection in connections:
        connection.close()


def executing(redis: Redis, instance: str) -> set[str]:
    """Return the tasks that a worker has recorded as executing."""
    return set(map(str, redis.hkeys(KEYS.running(instance))))


def test_a_task_is_recorded_from_its_start_to_its_end(
    attempts: Attempts, redis: Redis, instance: str
) -> None:
    assert attempts.begin(["a", "b", "c"]) == 0
    assert executing(redis, instance) == {"a", "b", "c"}
    attempts.end(["a"])
    attempts.end(["b"], done=False)
    assert executing(redis, instance) == {"c"}


def test_every_failure_counts_towards_the_next_limit(attempts: Attempts, task_id: str) -> None:
    assert [attempts.failed(task_id) for _ in range(7)] == [0, 0, 1, 1, 1, 2, 2]
    assert attempts.begin([task_id]) == 2


def test_a_group_has_the_highest_count_of_its_tasks(attempts: Attempts, task_id: str) -> None:
    for _ in range(LIMIT):
        attempts.failed(task_id)
    assert attempts.begin([str(uuid.uuid4())]) == 0
    assert attempts.begin([str(uuid.uuid4()), task_id, str(uuid.uuid4())]) == 1


def test_only_finished_tasks_lose_their_counts(
    attempts: Attempts, redis: Redis, task_id: str
) -> None:
    for _ in range(LIMIT):
        attempts.failed(task_id)
    attempts.begin([task_id])
    attempts.end([task_id], done=False)
    assert attempts.begin([task_id]) == 1
    attempts.end([task_id])
    assert attempts.begin([task_id]) == 0
    assert not redis.hexists(KEYS.attempts, task_id)


def test_workers_share_their_counts(broker_url: str, task_id: str) -> None:
    workers = [Attempts(broker_url, uuid.uuid4().hex, LIMIT, KEYS) for _ in range(LIMIT)]
    assert [worker.failed(task_id) for worker in workers] == [0, 0, 1]


def test_without_redis_work_goes_on_uncounted(caplog: pytest.LogCaptureFixture) -> None:
    attempts = Attempts(f"redis://127.0.0.1:{free_port()}/0", "here", limit=1, keys=KEYS)
    assert attempts.begin(["a"]) == 0
    assert attempts.failed("a") == 0
    attempts.end(["a"])
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


# --- The death of a worker --------------------------------------------------------------------


def test_the_tasks_of_a_lost_worker_are_counted_once(
    attempts: Attempts,
    redis: Redis,
    beat: Callable[[str], None],
    instance: str,
    task_id: str,
) -> None:
    beat(instance)
    attempts.begin([task_id, f"{task_id} ended"])
    attempts.end([f"{task_id} ended"], done=False)
    redis.delete(KEYS.intake("alive", instance))
    for _ in range(2):
        beat(uuid.uuid4().hex)
    assert redis.hmget(KEYS.attempts, [task_id, f"{task_id} ended"]) == ["1", None]
    assert executing(redis, instance) == set()


def test_each_killed_worker_counts_towards_the_limit(
    broker_url: str, redis: Redis, beat: Callable[[str], None], task_id: str
) -> None:
    reached = []
    for _ in range(LIMIT + 1):
        instance = uuid.uuid4().hex
        beat(instance)
        reached.append(Attempts(broker_url, instance, LIMIT, KEYS).begin([task_id]))
        redis.delete(KEYS.intake("alive", instance))
        beat(uuid.uuid4().hex)
    assert reached == [0, 0, 0, 1]


def test_the_tasks_of_a_live_worker_are_not_counted(
    attempts: Attempts,
    redis: Redis,
    beat: Callable[[str], None],
    instance: str,
    task_id: str,
) -> None:
    beat(instance)
    attempts.begin([task_id])
    # Another worker, and a new connection of the same one.
    beat(uuid.uuid4().hex)
    beat(instance)
    assert not redis.hexists(KEYS.attempts, task_id)
    assert executing(redis, instance) == {task_id}
