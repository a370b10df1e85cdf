"""Our transport on a real Valkey: prefixes, priorities, single gets, purging and queue sizes."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer
from redis import Redis

from producer.contract.keys import PRIORITIES, Keys
from producer.contract.routing import Queue as QueueName
from support.stopwatch import Stopwatch
from support.waiting import wait_for
from worker.messaging import plugins, transport
from worker.messaging.transport import MOVED_AT_ONCE

Connect = Callable[..., Any]
STEPS: list[dict[str, Any]] = [
    {},
    {"priority_steps": list(range(10))},
    {"priority_steps": [0, 9]},
    {"priority_steps": list(range(10)), "sep": ":", "queue_order_strategy": "priority"},
]
"""The options of Celery clients; the last ones stand in Celery's documentation."""


@pytest.fixture(params=["", "one:"], ids=["no prefix", "prefix"])
def keys(request: pytest.FixtureRequest) -> Keys:
    return Keys(request.param)


@pytest.fixture
def queue() -> str:
    return f"q{uuid.uuid4().hex}"


@pytest.fixture
def redis(broker_url: str) -> Iterator[Any]:
    with Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def connect(broker_url: str) -> Iterator[Connect]:
    """Returns a channel of a new connection through our transport, or through kombu's own."""
    connections = []

    def new(keys: Keys, transport: str | None = plugins.TRANSPORT, **options: Any) -> Any:
        options = {"global_keyprefix": keys.prefix, **options}
        if transport is not None:
            options.setdefault("instance", uuid.uuid4().hex)
        connections.append(Connection(broker_url, transport=transport, transport_options=options))
        return connections[-1].channel()

    yield new
    for connection in connections:
        connection.close()


def publish(channel: Any, queue: str, *bodies: Any, priority: int | None = None) -> None:
    producer = Producer(channel, serializer="json")
    for body in bodies:
        producer.publish(body, routing_key=queue, priority=priority)


def consume(channel: Any, queue: str, count: int, **options: Any) -> list[Any]:
    """Return the bodies of the next messages, each of which is acknowledged."""
    bodies: list[Any] = []

    def on_message(body: Any, message: Any) -> None:
        bodies.append(body)
        if not options.get("no_ack"):
            message.ack()

    with Consumer(channel, [Queue(queue)], callbacks=[on_message], accept=["json"], **options):
        while len(bodies) < count:
            channel.connection.client.drain_events(timeout=10)
    return bodies


def drain(channel: Any) -> None:
    """Handle what comes, until nothing has come for a moment."""
    with suppress(TimeoutError):
        while True:
            channel.connection.client.drain_events(timeout=0.5)


def left(redis: Any, queue: str) -> list[bytes]:
    """Return the keys of a queue, with its slots; none may stay when all is acknowledged."""
    return [key for key in redis.scan_iter(f"*{queue}*", 1000) if b"_kombu" not in key]


# --- Priorities -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", STEPS, ids=repr)
def test_messages_of_every_priority_are_received_the_highest_first(
    connect: Connect, redis: Any, keys: Keys, queue: str, options: dict[str, Any]
) -> None:
    stock = connect(keys, transport=None, **options)
    for priority in reversed(PRIORITIES):
        publish(stock, queue, priority, 10 * priority, priority=priority)
    steps = stock.priority_steps
    assert redis.llen(keys.queue(queue)) == sum(2 for n in PRIORITIES if stock.priority(n) == 0)
    received = consume(connect(keys), queue, 2 * len(PRIORITIES))
    assert sorted(received) == sorted([*PRIORITIES, *(10 * n for n in PRIORITIES)])
    by_step = [stock.priority(n if n < 10 else n // 10) for n in received]
    assert by_step == sorted(by_step), f"the order of the steps {steps} was not kept"
    assert left(redis, queue) == []


def test_a_message_with_a_priority_does_not_wait_for_more_than_a_few_heartbeats(
    connect: Connect, keys: Keys, queue: str
) -> None:
    """While the queue itself is never empty."""
    stock, ours = connect(keys, transport=None), connect(keys)
    received: list[Any] = []

    def on_message(body: Any, message: Any) -> None:
        received.append(body)
        message.ack()
        publish(stock, queue, "next")

    with Consumer(ours, [Queue(queue)], callbacks=[on_message], accept=["json"]):
        publish(stock, queue, "first")
        ours.connection.client.drain_events(timeout=10)
        publish(stock, queue, "urgent", priority=9)
        watch = Stopwatch(os.getpid())
        while "urgent" not in received:
            ours.connection.client.drain_events(timeout=10)
    assert watch.seconds() < 8


def test_one_heartbeat_moves_many_messages(
    connect: Connect, redis: Any, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MOVING_SECONDS", 30.0)  # On a busy machine, too.
    waiting = {name: keys.priorities(name)[5] for name in QueueName}
    count = 5 * MOVED_AT_ONCE + 1
    try:
        for name in waiting.values():
            redis.lpush(name, *range(count))
        connect(keys).beat()
        for queue, name in waiting.items():
            assert redis.llen(name) == 0
            assert redis.lrange(keys.queue(queue), 0, -1) == [
                str(n).encode() for n in reversed(range(count))
            ]
    finally:
        redis.delete(*waiting.values(), *map(keys.queue, QueueName))


def test_a_user_whose_rules_are_older_still_receives_what_has_no_priority(
    connect: Connect, broker_url: str, redis: Any, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(f"{queue}:")
    patterns = [keys.queue(queue), f"{keys.prefix}enrollment.intake.*", f"{keys.prefix}_kombu*"]
    redis.acl_setuser(
        queue, enabled=True, nopass=True, keys=patterns, commands=["+@all"], reset=True
    )
    options = {"global_keyprefix": keys.prefix}
    url = broker_url.replace("://", f"://{queue}:x@")
    publish(connect(keys, transport=None), queue, "plain")
    publish(connect(keys, transport=None), queue, "urgent", priority=3)
    try:
        with Connection(url, transport=plugins.TRANSPORT, transport_options=options) as connection:
            channel = connection.channel()
            assert channel.queue_declare(queue).message_count == 1
            assert consume(channel, queue, 1) == ["plain"]
    finally:
        redis.acl_deluser(queue)
    assert "refuses to move messages with a priority" in caplog.text
    assert consume(connect(keys), queue, 1) == ["urgent"]


# --- Size and purge ---------------------------------------------------------------------------


def test_the_size_of_a_queue_and_a_purge_include_all_priorities(
    connect: Connect, redis: Any, keys: Keys, queue: str
) -> None:
    for options in STEPS:
        for priority in (None, *PRIORITIES):
            publish(connect(keys, transport=None, **options), queue, "x", priority=priority)
    ours, count = connect(keys), len(STEPS) * (1 + len(PRIORITIES))
    assert ours.queue_declare(queue).message_count == count
    assert ours.queue_purge(queue) == count
    assert ours.queue_declare(queue).message_count == 0
    assert left(redis, queue) == []


def test_a_purge_leaves_what_a_consumer_holds(
    connect: Connect, redis: Any, keys: Keys, queue: str
) -> None:
    ours = connect(keys)
    publish(ours, queue, "held", "waiting")
    message = ours.basic_get(queue)
    assert ours.queue_purge(queue) == 1
    message.requeue()
    assert consume(ours, queue, 1) == ["held"]


# --- Single gets ------------------------------------------------------------------------------


def test_a_message_that_was_got_is_acknowledged_requeued_or_rejected(
    connect: Connect, redis: Any, keys: Keys, queue: str
) -> None:
    ours = connect(keys)
    publish(ours, queue, 1, 2, 3)
    ours.basic_get(queue).ack()
    second = ours.basic_get(queue)
    assert second.payload == 2
    second.requeue()
    assert ours.basic_get(queue, no_ack=True).payload == 2
    ours.basic_get(queue).reject()
    assert ours.basic_get(queue) is None
    assert left(redis, queue) == []


def test_a_message_with_a_priority_can_be_got(connect: Connect, keys: Keys, queue: str) -> None:
    publish(connect(keys, transport=None), queue, "low", priority=9)
    publish(connect(keys, transport=None), queue, "high", priority=3)
    ours = connect(keys)
    got = [ours.basic_get(queue, no_ack=True).payload for _ in range(2)]
    assert got == ["high", "low"]


def test_a_get_from_an_empty_queue_uses_up_no_slot(
    connect: Connect, keys: Keys, queue: str
) -> None:
    ours = connect(keys)
    for _ in range(3_000):
        assert ours.basic_get(queue) is None


def test_a_message_got_by_a_connection_that_is_lost_is_requeued(
    connect: Connect, redis: Any, keys: Keys
) -> None:
    queue, instance = QueueName.LOOKUPS, uuid.uuid4().hex
    lost = connect(keys, instance=instance)
    publish(lost, queue, "x")
    assert lost.basic_get(queue).payload == "x"
    redis.delete(keys.intake("alive", instance))
    connect(keys).beat()
    assert connect(keys).basic_get(queue, no_ack=True).payload == "x"


def test_a_consumer_that_needs_no_acknowledgement_leaves_nothing_behind(
    connect: Connect, redis: Any, keys: Keys, queue: str
) -> None:
    ours = connect(keys)
    publish(ours, queue, *range(20))
    assert consume(ours, queue, 20, no_ack=True) == list(range(20))
    assert left(redis, queue) == []


def test_a_channel_can_requeue_all_that_it_holds(
    connect: Connect, redis: Any, keys: Keys, queue: str
) -> None:
    ours = connect(keys)
    publish(ours, queue, 1, 2, 3)
    assert [ours.basic_get(queue).payload for _ in range(3)] == [1, 2, 3]
    ours.basic_recover(requeue=True)
    assert sorted(consume(ours, queue, 3)) == [1, 2, 3]
    assert left(redis, queue) == []


def test_a_broadcast_can_be_acknowledged_or_rejected(
    connect: Connect, keys: Keys, queue: str
) -> None:
    ours, exchange = connect(keys), Exchange(queue, type="fanout")
    received: list[Any] = []

    def on_message(body: Any, message: Any) -> None:
        received.append(body)
        (message.ack, message.reject, message.requeue)[body]()

    consumer = Consumer(ours, [Queue(queue, exchange)], callbacks=[on_message], accept=["json"])
    consumer.consume()
    drain(ours)
    for body in range(3):
        Producer(ours, exchange, serializer="json").publish(body, declare=[exchange])
    drain(ours)
    assert received == [0, 1, 2]


# --- Prefixes ---------------------------------------------------------------------------------

SEPARATED = st.builds(lambda name: f"{name}:", st.text("ab:._-", min_size=1, max_size=8))


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(one=SEPARATED, more=SEPARATED)
def test_a_worker_requeues_only_messages_under_its_own_prefix(
    connect: Connect, redis: Any, one: str, more: str
) -> None:
    unique = f"{uuid.uuid4().hex}:"
    own, other = Keys(unique + one), Keys(unique + one + more)
    queue, instance = QueueName.ENROLLMENTS, uuid.uuid4().hex
    lost = connect(own, instance=instance)
    publish(lost, queue, "x")
    lost.basic_get(queue)
    redis.delete(own.intake("alive", instance))
    for stranger in (other, Keys(more), Keys()):
        connect(stranger).beat()
    assert redis.llen(own.queue(queue)) == 0
    connect(own).beat()
    assert redis.llen(own.queue(queue)) == 1


def test_a_broadcast_stays_under_its_prefix(connect: Connect, redis: Any, queue: str) -> None:
    one, two = Keys(f"{queue}.1:"), Keys(f"{queue}.2:")
    exchange = Exchange(queue, type="fanout")
    received: dict[str, list[Any]] = {"1": [], "2": []}
    consumers, channels = [], {}
    for name, keys in (("1", one), ("2", two)):
        channels[name] = connect(keys)
        consumers.append(
            Consumer(
                channels[name],
                [Queue(f"{queue}.{name}", exchange)],
                callbacks=[lambda body, _, name=name: received[name].append(body)],
                accept=["json"],
                no_ack=True,
            )
        )
        consumers[-1].consume()
        drain(channels[name])
    wait_for(lambda: redis.pubsub_numpat() >= 2)
    Producer(channels["1"], exchange, serializer="json").publish("to one", declare=[exchange])
    for channel in channels.values():
        drain(channel)
    assert received == {"1": ["to one"], "2": []}


def test_every_key_begins_with_the_prefix(connect: Connect, redis: Any, queue: str) -> None:
    keys = Keys(f"{queue}-")
    before = set(redis.scan_iter("*", 1000))
    ours = connect(keys)
    declared = Queue("direct", routing_key="direct")
    Producer(ours, serializer="json").publish(
        "x", routing_key="direct", declare=[declared], priority=9
    )
    publish(connect(keys, transport=None), "direct", "y", priority=3)
    ours.basic_get("direct")
    assert consume(ours, "direct", 1)
    added = set(redis.scan_iter("*", 1000)) - before
    assert added
    assert {key for key in added if not key.startswith(keys.prefix.encode())} == set()
