"""New small batches and new requests are published in one round trip, to a real Valkey."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.connection import AbstractConnection

from producer.client import EnrollmentClient
from producer.contract.headers import MOMENT_HEADER
from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS, SubmissionMark
from producer.contract.redis_connection import connection_options
from producer.contract.routing import Queue
from producer.fields import read_moment
from producer.publishing.batches import SMALL_CHUNK
from producer.schemas import Kind
from support.relay import Relay
from support.valkey import running_valkey

REQUESTS = [{"student_id": f"S{n}", "course_ids": ["C1"]} for n in range(3)]


@pytest.fixture
def prefix() -> str:
    return f"at-once-{uuid.uuid4().hex}:"


@pytest.fixture
def client(broker_url: str, prefix: str) -> Iterator[EnrollmentClient]:
    with EnrollmentClient(broker_url, key_prefix=prefix) as made:
        yield made


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url) as made:
        yield made


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What connections to Redis send, one item for each round trip."""
    items: list[Any] = []
    send: Callable[..., Any] = AbstractConnection.send_packed_command

    def note(connection: Any, command: Any, *args: Any, **options: Any) -> Any:
        items.append(command)
        return send(connection, command, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", note)
    return items


def submit(client: EnrollmentClient, **options: Any) -> str:
    return client.submit_batch(Kind.ENROLLMENTS, REQUESTS, **options).batch_id


def messages(redis: Redis, prefix: str, queue: Queue = Queue.BATCHES) -> list[Any]:
    """Return the messages in a queue, the oldest first."""
    texts: Any = redis.lrange(prefix + queue, 0, -1)
    return [json.loads(text) for text in reversed(texts)]


def mark_of(redis: Redis, prefix: str, batch_id: str) -> SubmissionMark:
    text: Any = redis.get(Keys(prefix).batch(batch_id))
    return SubmissionMark.model_validate_json(text)


def moment_of(message: Any) -> datetime:
    moment = read_moment(message["headers"][MOMENT_HEADER])
    assert moment is not None
    return moment


def now_of(redis: Redis) -> datetime:
    reply: Any = redis.time()
    seconds, microseconds = reply
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)


def test_a_small_batch_after_another_costs_one_round_trip(
    client: EnrollmentClient, sent: list[Any]
) -> None:
    trips = []
    for _ in range(30):
        sent.clear()
        submit(client, max_queued=100)
        trips.append(len(sent))
    # On a busy machine the clock may have to be read again. The first one also says hello.
    assert min(trips) == 1


def test_a_new_request_after_another_costs_one_round_trip(
    client: EnrollmentClient, sent: list[Any]
) -> None:
    trips = []
    for _ in range(30):
        sent.clear()
        client.submit(REQUESTS[0])
        trips.append(len(sent))
    assert min(trips) == 1


def test_each_request_has_its_mark_and_counts_while_it_is_submitted(
    client: EnrollmentClient, redis: Redis, prefix: str
) -> None:
    times, ids = [now_of(redis)], []
    for _ in range(30):
        ids.append(client.submit(REQUESTS[0]))
        times.append(now_of(redis))
    sent = messages(redis, prefix, Queue.ENROLLMENTS)
    moments = [moment_of(message) for message in sent]
    for before, moment, after in zip(times, moments, times[1:], strict=False):
        assert before < moment < after
    keys = [Keys(prefix).request(request_id) for request_id in ids]
    marks: Any = redis.mget(keys)
    assert {SubmissionMark.model_validate_json(mark) for mark in marks} == {SubmissionMark()}
    lifetimes: Any = list(map(redis.ttl, keys))
    assert all(MARK_SECONDS - 60 < seconds <= MARK_SECONDS for seconds in lifetimes)


def test_its_mark_says_what_that_of_any_batch_says(
    client: EnrollmentClient, redis: Redis, prefix: str
) -> None:
    ids = [submit(client), submit(client, batch_id="own", resume=False)]
    for batch_id, message in zip(ids, messages(redis, prefix), strict=True):
        mark = mark_of(redis, prefix, batch_id)
        assert (mark.kind, mark.chunks, mark.complete) == (Kind.ENROLLMENTS, 1, True)
        assert (mark.tally.requests, mark.tally.rows) == (3, 3)
        assert mark.first_chunk is not None
        assert mark.moment == moment_of(message)
        seconds_left: Any = redis.ttl(Keys(prefix).batch(batch_id))
        assert MARK_SECONDS - 60 < seconds_left <= MARK_SECONDS


def test_each_batch_counts_while_it_is_submitted(
    client: EnrollmentClient, redis: Redis, prefix: str
) -> None:
    times = [now_of(redis)]
    for _ in range(30):
        submit(client)
        times.append(now_of(redis))
    moments = [moment_of(message) for message in messages(redis, prefix)]
    for before, moment, after in zip(times, moments, times[1:], strict=False):
        assert before < moment < after


def test_no_moment_is_given_twice_even_by_many_threads(
    client: EnrollmentClient, redis: Redis, prefix: str
) -> None:
    threads = [
        threading.Thread(target=lambda: [submit(client, max_queued=500) for _ in range(25)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moments = {moment_of(message) for message in messages(redis, prefix)}
    assert len(moments) == 100


def test_it_waits_while_the_queue_is_full(
    client: EnrollmentClient, redis: Redis, prefix: str
) -> None:
    for _ in range(5):
        submit(client, max_queued=5)
    blocked = threading.Thread(target=submit, args=(client,), kwargs={"max_queued": 5})
    blocked.start()
    blocked.join(0.3)
    assert blocked.is_alive()
    assert len(messages(redis, prefix)) == 5
    redis.rpop(prefix + Queue.BATCHES)
    blocked.join(60)
    assert not blocked.is_alive()
    assert len(messages(redis, prefix)) == 5


def test_a_larger_batch_and_one_with_an_id_of_its_own_are_published_chunk_by_chunk(
    client: EnrollmentClient, redis: Redis, prefix: str, sent: list[Any]
) -> None:
    submit(client)
    sent.clear()
    large = [{"student_id": "x" * SMALL_CHUNK, "course_ids": ["C1"]}]
    client.submit_batch(Kind.ENROLLMENTS, large)
    assert len(sent) > 1
    assert len(messages(redis, prefix)) == 2


def test_a_message_is_the_same_as_that_of_a_batch_with_an_id_of_its_own(
    client: EnrollmentClient, redis: Redis, prefix: str
) -> None:
    name = submit(client, file_name="a.csv", submitter="me")
    redis.delete(Keys(prefix).batch(name))
    submit(client, file_name="a.csv", submitter="me", batch_id=name, resume=False)
    one, other = messages(redis, prefix)
    own = ("id", "root_id", "argsrepr", MOMENT_HEADER)
    for message in (one, other):
        for field in own:
            assert message["headers"].pop(field)
        message.pop("properties")
    assert one == other


def test_a_request_follows_the_name_to_the_new_master(
    tmp_path: Path, broker_url: str, prefix: str
) -> None:
    """The connection still leads to the former master, which is a replica now."""
    master: Any = connection_options(broker_url)
    with (
        running_valkey(tmp_path) as former,
        Relay(("127.0.0.1", former.port)) as name,
        EnrollmentClient(f"redis://127.0.0.1:{name.port}/0", key_prefix=prefix) as client,
    ):
        client.submit(REQUESTS[0])
        with Redis(port=former.port) as redis:
            redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        name.lead_to((master["host"], master["port"]))
        assert client.submit(REQUESTS[1])
