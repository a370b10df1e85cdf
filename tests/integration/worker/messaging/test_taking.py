"""Small messages that wait are taken several at a time, and acknowledged together, on a Valkey."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer
from redis import Redis
from redis.connection import AbstractConnection

from producer.contract.keys import Keys
from producer.contract.routing import Queue as QueueName
from producer.contract.routing import TaskName
from worker.messaging import plugins
from worker.messaging.taking import AT_ONCE, SMALL_MESSAGE, take_several


@pytest.fixture
def keys() -> Keys:
    return Keys(f"taking-{uuid.uuid4().hex}:")


@pytest.fixture
def redis(broker_url: str) -> Iterator[Any]:
    with Redis.from_url(broker_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the commands that this process sends, each by itself."""
    names: list[str] = []
    send: Callable[..., Any] = AbstractConnection.send_command

    def note(connection: Any, *args: Any, **options: Any) -> Any:
        names.append(args[0])
        return send(connection, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_command", note)
    return names


def text(number: int, task: str = TaskName.ENROLL_BATCH, padding: int = 0) -> str:
    headers = {"task": task, "id": f"task {number}", "padding": "x" * padding}
    return json.dumps({"headers": headers, "properties": {}, "body": json.dumps(number)})


def publish(redis: Any, keys: Keys, *messages: str) -> None:
    redis.lpush(keys.queue(QueueName.BATCHES), *messages)


@contextmanager
def consuming(url: str, keys: Keys, received: list[Any]) -> Iterator[Any]:
    """Receive messages, which are acknowledged at the end at the latest; yield the channel."""
    options = {"global_keyprefix": keys.prefix, "instance": uuid.uuid4().hex}
    with Connection(url, transport=plugins.TRANSPORT, transport_options=options) as connection:
        channel = connection.channel()
        queues = [Queue(QueueName.BATCHES.value)]
        with Consumer(channel, queues, on_message=received.append, accept=["json"]):
            yield channel
        for message in received:
            if not message.acknowledged:
                message.ack()


def drain(channel: Any, received: list[Any], count: int) -> None:
    """Receive until there are this many messages."""
    while len(received) < count:
        channel.connection.client.drain_events(timeout=10)


def slots(redis: Any, keys: Keys) -> list[str]:
    return list(redis.scan_iter(f"{keys.prefix}*taken*", 1000))


# --- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "taken"),
    [
        ([], 0),
        ([text(0)], 1),
        ([text(0), text(1), text(2)], 3),
        ([text(n) for n in range(6)], 4),
        ([text(0, padding=SMALL_MESSAGE), text(1), text(2)], 3),
        ([text(0), text(1, padding=SMALL_MESSAGE), text(2)], 1),
        ([text(0, TaskName.UPSERT_COURSES), text(1)], 2),
        ([text(0), text(1), text(2, TaskName.UPSERT_COURSES)], 2),
        ([text(0), "no message", text(2)], 1),
    ],
)
def test_it_takes_the_first_message_and_the_small_ones_of_the_task_after_it(
    redis: Any, keys: Keys, waiting: list[str], taken: int
) -> None:
    if waiting:
        publish(redis, keys, *waiting)
    queue, places = keys.queue(QueueName.BATCHES), [f"{keys.prefix}slot {n}" for n in range(4)]
    command = take_several(queue, places, QueueName.BATCHES)
    assert redis.execute_command(*command) == waiting[:taken]
    assert [redis.lrange(place, 0, -1) for place in places[:taken]] == [
        [m] for m in waiting[:taken]
    ]
    assert not any(redis.exists(place) for place in places[taken:])
    assert redis.lrange(queue, 0, -1) == waiting[taken:][::-1]


# --- the worker's channel ----------------------------------------------------------------------


def test_a_backlog_of_small_messages_takes_few_commands(
    broker_url: str, redis: Any, keys: Keys, commands: list[str]
) -> None:
    count = 2 + 3 * AT_ONCE
    publish(redis, keys, *map(text, range(count)))
    received: list[Any] = []
    with consuming(broker_url, keys, received) as channel:
        drain(channel, received, count)
        assert [json.loads(each.body) for each in received] == list(range(count))
        assert commands.count("BLMOVE") == 2
        assert len(slots(redis, keys)) == count
        for each in received:
            each.ack()
        assert slots(redis, keys) == []


def test_a_message_that_cannot_be_delivered_holds_up_none_of_those_taken_with_it(
    broker_url: str, redis: Any, keys: Keys
) -> None:
    count = 6
    publish(redis, keys, *map(text, range(count)))

    class Full(list[Any]):
        def append(self, each: Any) -> None:
            if len(self) == 3:
                raise MemoryError
            super().append(each)

    received: list[Any] = Full()
    with consuming(broker_url, keys, received) as channel:
        with suppress(MemoryError):
            drain(channel, received, count)
        channel.beat()
        assert redis.llen(keys.queue(QueueName.BATCHES)) == count - len(received) - 1


def test_a_user_whose_rules_are_older_takes_them_one_by_one(
    broker_url: str, redis: Any, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    user, count = keys.prefix.rstrip(":"), 6
    redis.acl_setuser(
        user, enabled=True, nopass=True, keys=["*"], commands=["+@all", "-lindex"], reset=True
    )
    publish(redis, keys, *map(text, range(count)))
    received: list[Any] = []
    try:
        url = broker_url.replace("://", f"://{user}:x@")
        with consuming(url, keys, received) as channel:
            drain(channel, received, count)
    finally:
        redis.acl_deluser(user)
    assert [json.loads(each.body) for each in received] == list(range(count))
    assert "one by one" in caplog.text


def test_acknowledgements_that_are_collected_are_one_command(
    broker_url: str, redis: Any, keys: Keys, commands: list[str]
) -> None:
    publish(redis, keys, *map(text, range(5)))
    received: list[Any] = []
    with consuming(broker_url, keys, received) as channel:
        drain(channel, received, 5)
        channel.collect_acks(3)
        for each in received[:2]:
            each.ack()
        assert len(slots(redis, keys)) == 5
        received[2].ack()
        assert len(slots(redis, keys)) == 2
        assert commands.count("UNLINK") == 1
        received[3].ack()
        assert len(slots(redis, keys)) == 1


def test_a_heartbeat_confirms_acknowledgements_whose_group_stays_incomplete(
    broker_url: str, redis: Any, keys: Keys
) -> None:
    publish(redis, keys, *map(text, range(3)))
    received: list[Any] = []
    with consuming(broker_url, keys, received) as channel:
        drain(channel, received, 3)
        channel.collect_acks(3)
        received[0].ack()
        channel.beat()
        assert len(slots(redis, keys)) == 2
        received[1].ack()
        assert len(slots(redis, keys)) == 1
