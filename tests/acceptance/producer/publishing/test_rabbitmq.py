"""Whatever is wrong with RabbitMQ, every call of the client raises the same error in time."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.contract.routing import Queue
from producer.errors import BrokerUnavailable, NoWorkerAnswered
from producer.schemas import Kind
from support.broker_calls import CALLS, REQUEST, check_that_all_fail, clients_of
from support.rabbitmq import RabbitMQ, running_rabbitmq
from support.relay import Relay, make_certificates
from support.stopwatch import Stopwatch
from support.waiting import wait_for

# One process of the test run starts a RabbitMQ, for all of these tests.
pytestmark = pytest.mark.xdist_group("rabbitmq")

HIGH, LOW = "0.4", "0.00001"


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A real RabbitMQ."""
    with running_rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@contextmanager
def alarmed(broker: RabbitMQ) -> Iterator[None]:
    """Publishers are blocked, as while the broker has too little memory."""
    broker.control("set_vm_memory_high_watermark", LOW)
    try:
        yield
    finally:
        broker.control("set_vm_memory_high_watermark", HIGH)


@contextmanager
def frozen(broker: RabbitMQ) -> Iterator[None]:
    broker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        broker.signal(signal.SIGCONT)


STATES = {"alarmed": alarmed, "frozen": frozen}


@pytest.mark.parametrize("state", STATES)
def test_every_call_fails_in_time_and_works_afterwards(
    rabbitmq: RabbitMQ, broker_url: str, state: str
) -> None:
    urls = (rabbitmq.url(), rabbitmq.url("localhost"))
    with clients_of(*urls, answers=broker_url) as clients:
        with STATES[state](rabbitmq):
            check_that_all_fail(clients)
        for client in clients.values():
            wait_for(lambda: works(client))  # noqa: B023 - called at once


def test_calls_at_the_same_time_in_an_event_loop_are_published(
    rabbitmq: RabbitMQ, broker_url: str
) -> None:
    rabbitmq.control("add_vhost", "together")
    rabbitmq.control("set_permissions", "-p", "together", "guest", ".*", ".*", ".*")
    url = f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}/together"

    async def call() -> None:
        async with AsyncEnrollmentClient(url, result_backend_url=broker_url, timeout=1) as client:
            waiting: list[Coroutine[Any, Any, Any]] = [client.submit(REQUEST) for _ in range(300)]
            waiting += [client.status(f"{n}") for n in range(50)]
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(one) for one in ended[300:]} == {NoWorkerAnswered}
            assert len(set(ended[:300])) == 300

    asyncio.run(call())
    with Connection(url) as connection:

        def count(queue: Queue) -> int:
            declared = connection.default_channel.queue_declare(queue.value, passive=True)
            return int(declared.message_count)

        wait_for(lambda: count(Queue.ENROLLMENTS) == 300)


def works(client: EnrollmentClient) -> bool:
    try:
        client.submit(REQUEST)
        client.submit_batch(Kind.ENROLLMENTS, [REQUEST])
    except BrokerUnavailable:
        return False  # The alarm is not over yet.
    return True


@pytest.mark.parametrize(
    ("right", "wrong", "remedy"),
    [
        ("guest:guest@", "guest:hunter2@", "Correct the user and password"),
        ("//", "/nowhere", "Correct the virtual host"),
    ],
)
def test_every_call_fails_with_a_wrong_url(
    rabbitmq: RabbitMQ, broker_url: str, right: str, wrong: str, remedy: str
) -> None:
    before, _, after = rabbitmq.url().rpartition(right)
    url = f"{before}{wrong}{after}"
    clients = {
        (name, "new"): EnrollmentClient(url, result_backend_url=broker_url) for name in CALLS
    }
    check_that_all_fail(clients, remedy)


def test_every_call_fails_if_the_queues_were_declared_in_another_way(
    rabbitmq: RabbitMQ, broker_url: str
) -> None:
    rabbitmq.control("add_vhost", "classic")
    rabbitmq.control("set_permissions", "-p", "classic", "guest", ".*", ".*", ".*")
    url = f"amqp://guest:guest@127.0.0.1:{rabbitmq.port}/classic"
    with Connection(url) as connection:
        for queue in Queue:
            connection.default_channel.queue_declare(queue.value, durable=True, auto_delete=False)
    publishing = [name for name in CALLS if name != "submit_batch by name"]
    clients = {
        (name, "new"): EnrollmentClient(url, result_backend_url=broker_url) for name in publishing
    }
    check_that_all_fail(clients, "Delete the queue")


def test_every_call_fails_in_time_when_the_broker_is_gone(tmp_path: Path, broker_url: str) -> None:
    with running_rabbitmq(tmp_path) as broker:
        urls = (broker.url(), broker.url("localhost"))
        with clients_of(*urls, answers=broker_url) as clients:
            broker.signal(signal.SIGKILL)
            broker.process.wait()
            check_that_all_fail(clients)


def through(relay: Relay, host: str, scheme: str = "amqp") -> str:
    return f"{scheme}://guest:guest@{host}:{relay.port}//"


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_every_call_fails_in_time_when_the_connection_is_half_open(
    rabbitmq: RabbitMQ,
    broker_url: str,
    scheme: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority, tls = make_certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with Relay(("127.0.0.1", rabbitmq.port), tls if scheme == "amqps" else None) as relay:
        urls = [through(relay, host, scheme) for host in ("127.0.0.1", "localhost")]
        with clients_of(urls[0], urls[1], answers=broker_url) as clients:
            assert relay.connections > 0
            relay.fall_silent()
            check_that_all_fail(clients)


def test_a_client_is_closed_in_time_while_the_broker_is_frozen(
    rabbitmq: RabbitMQ, broker_url: str
) -> None:
    client = EnrollmentClient(rabbitmq.url(), result_backend_url=broker_url)
    client.submit_batch(Kind.ENROLLMENTS, [REQUEST])
    with frozen(rabbitmq):
        watch = Stopwatch(os.getpid())
        client.close()
        assert watch.seconds() < 10


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.submit(REQUEST),
        lambda client: client.submit_batch(Kind.ENROLLMENTS, [REQUEST]),
    ],
    ids=["submit", "submit_batch"],
)
def test_a_connection_that_broke_while_it_was_idle_is_renewed(
    rabbitmq: RabbitMQ, broker_url: str, call: Callable[[EnrollmentClient], object]
) -> None:
    with EnrollmentClient(rabbitmq.url(), result_backend_url=broker_url) as client:
        for _ in range(3):
            call(client)
            rabbitmq.control("close_all_connections", "test")
