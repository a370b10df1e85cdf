"""A lookup whose message is lost is sent again, once, while its client waits."""

import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import pytest
from redis import Redis

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.errors import LookupFailed, NoWorkerAnswered
from producer.schemas import Kind
from support.broker_calls import REQUEST
from support.clients import blocking
from support.valkey import running_valkey

LOOKUPS: dict[str, Callable[[EnrollmentClient], Any]] = {
    "status": lambda client: client.status("x"),
    "batch": lambda client: client.batch("x"),
    "student": lambda client: client.student("S"),
    "results": lambda client: client.results("S"),
    "refusals": lambda client: list(client.refusals("x")),
    "health": lambda client: client.health(),
    "submit_batch": lambda client: client.submit_batch(Kind.COURSES, [REQUEST], batch_id="x"),
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Redis"]:
    """A broker without a worker."""
    with (
        running_valkey(tmp_path_factory.mktemp("valkey")) as server,
        Redis(port=server.port, decode_responses=True) as redis,
    ):
        yield redis


def client_of(redis: "Redis", timeout: float) -> EnrollmentClient:
    port = redis.connection_pool.connection_kwargs["port"]
    return EnrollmentClient(f"redis://127.0.0.1:{port}/0", timeout=timeout)


def take(redis: "Redis") -> dict[str, Any]:
    """Take the next lookup from the queue, as a purge does, and return its headers."""
    popped: Any = redis.brpop(["lookups"], 30)
    headers: dict[str, Any] = json.loads(popped[1])["headers"]
    return headers


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_purged_lookup_is_answered(redis: "Redis", lookup: str) -> None:
    with client_of(redis, 4) as client, ThreadPoolExecutor() as pool:
        asked = pool.submit(LOOKUPS[lookup], client)
        lost, repeated = take(redis), take(redis)
        assert lost["id"] == repeated["id"]
        assert lost["task"] == repeated["task"]
        failure = {"status": "FAILURE", "result": {"exc_message": ["this is the answer"]}}
        redis.set(f"celery-task-meta-{lost['id']}", json.dumps(failure))
        with pytest.raises(LookupFailed, match="this is the answer"):
            asked.result()


@pytest.mark.parametrize("timeout", [math.inf, 1e12, 10**9])
def test_a_lookup_may_wait_for_any_length_of_time(redis: "Redis", timeout: float) -> None:
    with client_of(redis, timeout) as client, ThreadPoolExecutor() as pool:
        asked = pool.submit(client.status, "x")
        failure = {"status": "FAILURE", "result": {"exc_message": ["this is the answer"]}}
        redis.set(f"celery-task-meta-{take(redis)['id']}", json.dumps(failure))
        with pytest.raises(LookupFailed, match="this is the answer"):
            asked.result()


@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_the_dry_run_of_an_undo_is_sent_once(redis: "Redis", *, is_asynchronous: bool) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(client_of(redis, 0.5))
        if is_asynchronous:
            url = client.shown_url
            client = stack.enter_context(blocking(lambda: AsyncEnrollmentClient(url, timeout=0.5)))
        with pytest.raises(NoWorkerAnswered, match="Nothing was undone"):
            client.undo("night", dry_run=True)
        assert redis.llen("decisions") == 1
        redis.delete("decisions")
        with pytest.raises(NoWorkerAnswered):
            client.undo("night")
        assert redis.llen("decisions") == 2
        redis.delete("decisions")


def test_a_lookup_is_sent_at_most_twice_and_both_expire(redis: "Redis") -> None:
    with client_of(redis, 0.5) as client, pytest.raises(NoWorkerAnswered):
        client.status("x")
    first, second = take(redis), take(redis)
    assert redis.llen("lookups") == 0
    assert abs(expiry(first) - expiry(second)) < 0.2


def expiry(headers: dict[str, Any]) -> float:
    """Return when a lookup expires."""
    return datetime.fromisoformat(headers["expires"]).timestamp()
