"""Giants are read from Redis in pieces; everything else is read as redis-py reads it."""

import hashlib
import inspect
import pickle
import tracemalloc
from collections.abc import Iterator

import pytest
from kombu.transport import redis as kombu_redis
from redis import Redis
from redis._parsers import _RESP3Parser
from redis._parsers.socket import SocketBuffer
from redis.connection import AbstractConnection

from support.large_records import giant
from worker.messaging import piecewise, transport
from worker.messaging.giants import BEGINNING, MAX_WHOLE, Beginning, shortened


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url, **piecewise.OPTIONS) as client:
        yield client
        client.delete("giants")


@pytest.mark.parametrize(
    "size", [0, 1, BEGINNING, MAX_WHOLE - 1, MAX_WHOLE, MAX_WHOLE + 1, 2 * MAX_WHOLE + 12_345]
)
def test_a_reply_is_whole_or_the_beginning_of_a_giant(redis: Redis, size: int) -> None:
    sent = giant(size, seed=1)
    redis.set("giants", sent)
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.echo("before")
        pipeline.get("giants")
        pipeline.get("giants")
        pipeline.echo("after")
        before, first, second, after = pipeline.execute()
    assert (before, after) == (b"before", b"after")
    assert first == second == (sent if size <= MAX_WHOLE else sent[:BEGINNING])
    assert isinstance(first, Beginning) == (size > MAX_WHOLE)
    if isinstance(first, Beginning):
        assert (first.size, first.sha256) == (size, hashlib.sha256(sent).hexdigest())


def test_a_giant_takes_no_more_memory_than_its_pieces(redis: Redis) -> None:
    redis.set("giants", giant(4 * MAX_WHOLE, seed=1))
    tracemalloc.start()
    try:
        assert isinstance(redis.get("giants"), Beginning)
        assert tracemalloc.get_traced_memory()[1] < 20 * BEGINNING
    finally:
        tracemalloc.stop()


def test_something_may_be_done_while_a_giant_arrives(redis: Redis) -> None:
    redis.set("giants", giant(2 * MAX_WHOLE, seed=1))
    calls: list[int] = []
    connection = redis.connection_pool.get_connection()
    try:
        piecewise.keep_alive(connection, lambda: calls.append(1))
        connection.send_command("GET", "giants")  # type: ignore[no-untyped-call]
        connection.read_response()
    finally:
        redis.connection_pool.release(connection)
    assert len(calls) > 10


def test_a_beginning_keeps_its_facts_on_the_way_to_another_process() -> None:
    sent = giant(MAX_WHOLE + 1, seed=1)
    beginning = shortened(sent)
    assert isinstance(beginning, Beginning)
    copy = pickle.loads(pickle.dumps(beginning))  # noqa: S301 - our own
    assert (copy, copy.size, copy.sha256) == (
        beginning,
        len(sent),
        hashlib.sha256(sent).hexdigest(),
    )
    assert shortened(sent[:-1]) == sent[:-1]


def test_two_giants_with_the_same_beginning_differ() -> None:
    pieces = [b"x" * BEGINNING] * 3
    one, other = Beginning.of(pieces), Beginning.of([*pieces, b"y"])
    assert one == other
    assert one.sha256 != other.sha256


def test_the_parts_of_redis_and_kombu_that_we_rely_on_have_not_changed() -> None:
    for name in ("read", "purge", "_read_from_socket"):
        assert hasattr(SocketBuffer, name)
    parser = inspect.getsource(_RESP3Parser._read_response)
    assert "self._buffer.read(int(response), timeout=timeout)" in parser
    assert "SocketBuffer(" in inspect.getsource(_RESP3Parser.on_connect)
    connection = inspect.getsource(AbstractConnection.__init__)
    assert "set_parser(parser_class)" in connection
    assert "self._connparams(asynchronous=asynchronous)" in inspect.getsource(
        kombu_redis.Channel._get_pool
    )
    for channel in (transport.Channel, transport.QueueReceiver):
        assert issubclass(channel, piecewise.PiecewiseChannel)
