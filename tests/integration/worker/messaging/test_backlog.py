"""What waits in a real Valkey is never called lost; what is gone from it is."""

import base64
import json
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from producer.contract.keys import Keys
from producer.contract.marks import AgedMark, MarkState, SubmissionMark
from producer.contract.routing import TASK_QUEUES, Queue, TaskName
from producer.fields import MAX_MESSAGE
from support.valkey import free_port, running_valkey
from worker.messaging import backlog
from worker.messaging.backlog import LOST_SECONDS, Backlog
from worker.messaging.celery_settings import TASK_TIME_LIMIT
from worker.messaging.slots import SLOTS

KEYS = Keys("enroll-test:")
QUEUES = [queue.value for queue in Queue]
CHUNK_TASKS = [task for task, queue in TASK_QUEUES.items() if queue is Queue.BATCHES]
LOOKUPS = [task for task, queue in TASK_QUEUES.items() if queue is Queue.LOOKUPS]


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey whose queues no other test uses."""
    with running_valkey(tmp_path_factory.mktemp("backlog")) as server:
        yield f"{server.connection_url}/0"


@pytest.fixture
def redis(server_url: str) -> Iterator[Redis]:
    with Redis.from_url(server_url) as client:
        client.flushall()
        yield client


def message(
    task: str, argument: object, task_id: str, *, encoded: bool = True, plain: bool = False
) -> str:
    """Return a message as clients publish it: base64 or plain, ASCII or not."""
    body = json.dumps([[argument], {}, {}], ensure_ascii=not plain)
    encoding = {"body_encoding": "base64"} if encoded else {}
    envelope = {
        "body": base64.b64encode(body.encode()).decode() if encoded else body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": task, "id": task_id, "argsrepr": repr(argument)},
        "properties": encoding,
    }
    return json.dumps(envelope, ensure_ascii=not plain)


def request(request_id: str, **form: bool) -> str:
    record = {"student_id": '"roster.upsert_students"', "course_ids": [1], "request_id": request_id}
    return message(TaskName.ENROLL, record, f"task-{request_id}"[:128], **form)


def old(*request_ids: str, seconds: float = LOST_SECONDS + 1) -> dict[str, AgedMark]:
    return {i: AgedMark(SubmissionMark(), seconds) for i in request_ids}


def put(redis: Redis, raw: str, place: tuple[str, str | None, int]) -> None:
    """Put a message into a list of a queue, or into a slot of a taker."""
    queue, taker, slot = place
    if taker is None:
        lists = KEYS.waiting(queue)
        redis.lpush(lists[slot % len(lists)], raw)
        return
    redis.sadd(KEYS.intake("takers"), taker)
    while redis.exists(key := KEYS.intake("taken", taker, queue, str(slot))):
        slot = (slot + 1) % SLOTS
    redis.lpush(key, raw)


PLACES = st.tuples(
    st.sampled_from(QUEUES), st.sampled_from([None, "alive/0", "dead/3"]), st.integers(0, SLOTS - 1)
)
IDS = st.lists(
    st.text(
        st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"),
        min_size=1,
        max_size=20,
    ),
    unique=True,
    max_size=8,
)
FORMS = st.fixed_dictionaries({"encoded": st.booleans(), "plain": st.booleans()})


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data(), IDS, IDS)
def test_exactly_the_requests_without_a_message_are_lost(
    server_url: str, redis: Redis, data: st.DataObject, there: list[str], gone: list[str]
) -> None:
    redis.flushall()
    for request_id in there:
        put(redis, request(request_id, **data.draw(FORMS)), data.draw(PLACES))
    for task in data.draw(st.lists(st.sampled_from([*CHUNK_TASKS, *LOOKUPS]), max_size=6)):
        put(redis, message(task, {"batch_id": "b"}, "t", **data.draw(FORMS)), data.draw(PLACES))
    lost = Backlog(server_url, KEYS).lost_requests(old(*there, *gone))
    assert lost == set(gone) - set(there)


def test_a_request_without_an_id_is_known_by_its_task_id(server_url: str, redis: Redis) -> None:
    raw = message(TaskName.ENROLL, {"student_id": 1, "course_ids": [1]}, "the task")
    redis.lpush(
        KEYS.queue(Queue.ENROLLMENTS), raw, message("enroll", {"request_id": "unknown task"}, "t")
    )
    lost = Backlog(server_url, KEYS).lost_requests(old("the task", "unknown task", "other"))
    assert lost == {"other"}


def test_chunks_are_counted_wherever_they_wait(server_url: str, redis: Redis) -> None:
    assert Backlog(server_url, KEYS).waiting_chunks(["b"], {}) == 0
    for place in (
        (Queue.BATCHES, None, 0),
        (Queue.ENROLLMENTS, None, 0),
        (Queue.BATCHES, "a/1", 9),
    ):
        for task in CHUNK_TASKS:
            put(redis, message(task, "{}", "t"), place)
    redis.lpush(KEYS.queue(Queue.LOOKUPS), message(TaskName.BATCH, ["b"], "t"))
    redis.lpush(KEYS.queue(Queue.ENROLLMENTS), request("r"))
    assert Backlog(server_url, KEYS).waiting_chunks(["b"], {}) == 3 * len(CHUNK_TASKS)
    fresh = {"b": AgedMark(SubmissionMark(), 1.0)}
    assert Backlog(server_url, KEYS).waiting_chunks(["b"], fresh) is None
    assert Backlog(server_url, KEYS).waiting_chunks(["b", "other"], fresh) == 3 * len(CHUNK_TASKS)


def test_a_young_mark_is_never_called_lost(server_url: str, redis: Redis) -> None:
    running = SubmissionMark(state=MarkState.RUNNING)
    marks = {
        "queued": AgedMark(SubmissionMark(), LOST_SECONDS - 1),
        "running": AgedMark(running, TASK_TIME_LIMIT + LOST_SECONDS - 1),
        "lost": AgedMark(SubmissionMark(), LOST_SECONDS + 1),
        "was running": AgedMark(running, TASK_TIME_LIMIT + LOST_SECONDS + 1),
    }
    assert Backlog(server_url, KEYS).lost_requests(marks) == {"lost", "was running"}


@pytest.mark.parametrize("raw", ["no JSON", "{}", "[]", '{"headers": {}}', "\x00" * 20])
def test_nothing_is_called_lost_while_a_message_cannot_be_read(
    server_url: str, redis: Redis, raw: str
) -> None:
    redis.lpush(KEYS.queue(Queue.ENROLLMENTS), raw)
    assert Backlog(server_url, KEYS).lost_requests(old("r")) == set()


def test_nothing_is_called_lost_while_there_is_too_much_to_look_at(
    server_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for queue in QUEUES:
        redis.lpush(KEYS.queue(queue), *[request(uuid.uuid4().hex) for _ in range(3)])
    put(redis, request("held"), (Queue.ENROLLMENTS, "a/1", 0))
    everything = 3 * len(QUEUES) + 1
    monkeypatch.setattr(backlog, "MAX_MESSAGES", everything)
    assert Backlog(server_url, KEYS).lost_requests(old("r")) == {"r"}
    monkeypatch.setattr(backlog, "MAX_MESSAGES", everything - 1)
    assert Backlog(server_url, KEYS).lost_requests(old("r")) == set()
    monkeypatch.setattr(backlog, "MAX_MESSAGES", everything - 2)
    assert Backlog(server_url, KEYS).lost_requests(old("r")) == set()
    monkeypatch.setattr(backlog, "MAX_MESSAGES", everything)
    monkeypatch.setattr(backlog, "MAX_BYTES", 100)
    assert Backlog(server_url, KEYS).lost_requests(old("r")) == set()


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("value", ["[],", "{},", '"a",', "1.5,"])
def test_a_message_that_is_refused_for_its_size_is_not_loaded(
    server_url: str, redis: Redis, queue: str, value: str
) -> None:
    values = value * (2 * MAX_MESSAGE // len(value))
    redis.lpush(KEYS.queue(queue), '{"headers": {"id": "r"}, "x": [' + values + "0]}")
    looking = Backlog(server_url, KEYS)
    tracemalloc.start()
    try:
        assert looking.lost_requests(old("r", "other")) == set()
        assert tracemalloc.get_traced_memory()[1] < MAX_MESSAGE
    finally:
        tracemalloc.stop()


def test_nothing_is_called_lost_if_redis_does_not_answer_or_is_not_the_broker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = Backlog(f"redis://127.0.0.1:{free_port()}/0", KEYS)
    assert away.lost_requests(old("r")) == set()
    assert away.waiting_chunks(["b"], {}) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert Backlog(None, KEYS).lost_requests(old("r")) == set()
    assert Backlog(None, KEYS).waiting_chunks(["b"], {}) is None


def test_a_full_redis_shows_what_waits(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as server, Redis(port=server.port) as full:
        full.lpush(KEYS.queue(Queue.ENROLLMENTS), request("there"))
        full.config_set("maxmemory", 1)
        found = Backlog(server.connection_url, KEYS).lost_requests(old("there", "gone"))
        assert found == {"gone"}
