"""Connections leave a server that is no longer the master, however they notice it."""

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError, ReadOnlyError, RedisError  # noqa: A004

from producer.contract.redis_connection import MAX_AGE, connect_redis
from producer.contract.redis_errors import WrongServer
from support.broker import Broker, Server
from support.requirements import require_program
from support.valkey import free_port
from support.waiting import wait_for

SET = "return redis.call('SET', KEYS[1], ARGV[1])"
FLAGGED = f"#!lua flags=allow-oom\n{SET}"


def pipelined(redis: Any, key: str, value: str, *, transaction: bool) -> None:
    with redis.pipeline(transaction=transaction) as pipeline:
        pipeline.get(key)
        pipeline.set(key, value)
        pipeline.execute()


WRITES: dict[str, Callable[[Any, str, str], Any]] = {
    "command": lambda redis, key, value: redis.set(key, value),
    "script": lambda redis, key, value: redis.eval(SET, 1, key, value),
    "script with flags": lambda redis, key, value: redis.eval(FLAGGED, 1, key, value),
    "pipeline": lambda redis, key, value: pipelined(redis, key, value, transaction=False),
    "transaction": lambda redis, key, value: pipelined(redis, key, value, transaction=True),
}


def connect(url: str) -> Any:
    return connect_redis(url, socket_timeout=5, socket_connect_timeout=2)


@pytest.fixture(scope="module", params=["valkey", "redis-server"])
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    program = None if request.param == "valkey" else require_program(request.param)
    folder = tmp_path_factory.mktemp("servers")
    with closing(Broker(folder, replicated=True, program=program)) as made:
        yield made


def switch(servers: Broker) -> Server:
    """Swap the roles of the servers, lead the name to the new master, and return the former one."""
    servers.switch_over()
    servers.move_names()
    return former_master(servers)


def former_master(servers: Broker) -> Server:
    assert servers.replica is not None
    return servers.replica


@pytest.mark.parametrize("write", WRITES)
def test_a_refused_write_is_repeated_on_the_new_master(servers: Broker, write: str) -> None:
    with connect(servers.url) as writer, connect(servers.url) as reader:
        WRITES[write](writer, write, "before")
        assert reader.get(write) == b"before"
        former = switch(servers)
        # The former master no longer gets what is written, as if it were cut off.
        former.redis.execute_command("REPLICAOF", "127.0.0.1", free_port())
        try:
            WRITES[write](writer, write, "after")
            assert servers.master.redis.get(write) == b"after"
            # The reader was refused nothing, and yet does not read from the former master.
            assert reader.get(write) == b"after"
        finally:
            former.follow(servers.master)


def test_a_connection_that_only_reads_leaves_the_former_master(servers: Broker) -> None:
    with connect(servers.url) as reader:
        assert reader.get("read") is None
        former = switch(servers)
        former.redis.execute_command("REPLICAOF", "127.0.0.1", free_port())
        servers.master.redis.set("read", "new")
        try:
            wait_for(lambda: reader.get("read") == b"new", MAX_AGE + 2)
        finally:
            former.follow(servers.master)


def test_a_replica_is_refused_until_the_name_leads_to_the_master(servers: Broker) -> None:
    with connect(servers.url) as redis:
        redis.set("x", "1")
        servers.switch_over()
        with pytest.raises(WrongServer, match="replica"):
            redis.set("x", "2")
        with pytest.raises(WrongServer, match="replica"):
            redis.get("x")
        servers.move_names()
        redis.set("x", "3")
        assert servers.master.redis.get("x") == b"3"


def test_a_replica_without_its_master_is_refused(servers: Broker) -> None:
    with connect(servers.url) as redis:
        redis.get("x")
        former = switch(servers)
        former.redis.config_set("replica-serve-stale-data", "no")
        former.redis.execute_command("REPLICAOF", "127.0.0.1", free_port())
        try:
            assert redis.get("x") == servers.master.redis.get("x")
        finally:
            former.redis.config_set("replica-serve-stale-data", "yes")
            former.follow(servers.master)


def test_a_blocked_command_ends_when_its_server_becomes_a_replica(servers: Broker) -> None:
    ended: list[Exception] = []

    def block(redis: Any) -> None:
        with suppress(RedisError), redis.client() as client:
            client.set("about", "to block")
            try:
                client.blmove("empty", "other", 30, "RIGHT", "LEFT")
            except Exception as error:
                ended.append(error)
                raise

    with connect_redis(servers.url, socket_timeout=40) as redis:
        thread = threading.Thread(target=block, args=(redis,))
        thread.start()
        wait_for(lambda: "blmove" in str(servers.master.redis.client_list()))
        servers.switch_over()
        thread.join(25)
        servers.move_names()
    assert not thread.is_alive()
    assert isinstance(ended[0], WrongServer)


def test_random_writers_lose_nothing_over_random_switches(servers: Broker) -> None:
    """Every write that was confirmed is on the present master; each client goes on."""
    chance = random.Random(20260919)
    confirmed: dict[str, str] = {}
    clients = [connect(servers.url) for _ in range(4)]
    for number in range(300):
        if chance.random() < 0.05:
            switch(servers)
        client, write = chance.choice(clients), chance.choice(list(WRITES))
        key, value = f"key{chance.randrange(40)}", str(number)
        WRITES[write](client, key, value)
        confirmed[key] = value
        known = chance.choice(list(confirmed))
        assert chance.choice(clients).get(known) == confirmed[known].encode()
    assert {key: servers.master.redis.get(key).decode() for key in confirmed} == confirmed
    for client in clients:
        client.close()


def test_other_refusals_keep_the_connection(servers: Broker) -> None:
    with connect(servers.url) as redis:
        redis.set("text", "x")
        connection = redis.client_id()
        with pytest.raises(RedisError, match="wrong kind"):
            redis.lpush("text", "y")
        assert redis.client_id() == connection


@contextmanager
def speaking(reply: bytes) -> Iterator[int]:
    """A server that answers every command in the same way; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    accepted, _ = listener.accept()
                    with accepted:
                        accepted.recv(65_536)
                        accepted.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(25)


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":one\r\n", b"*x\r\n"])
def test_a_server_with_another_protocol_counts_as_a_lost_connection(reply: bytes) -> None:
    with (
        speaking(reply) as port,
        connect(f"redis://127.0.0.1:{port}/0") as redis,
        pytest.raises(ConnectionError, match="does not speak Redis's protocol"),
    ):
        redis.ping()


def test_a_plain_client_of_a_library_stays_on_the_former_master(servers: Broker) -> None:
    """The control: without our connections, a switchover is not survived."""
    with Redis.from_url(servers.url) as redis:
        redis.set("x", "1")
        switch(servers)
        for _ in range(3):
            with pytest.raises(ReadOnlyError):
                redis.set("x", "2")
