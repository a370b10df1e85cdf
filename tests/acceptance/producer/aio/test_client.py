"""The client for asyncio against a real broker and a real worker."""

import asyncio
import os
import signal
import threading
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from redis import Redis

from producer.aio.client import AsyncEnrollmentClient
from producer.contract.keys import Keys
from producer.contract.routing import Queue
from producer.errors import (
    BrokerUnavailable,
    ClientClosed,
    InvalidRequest,
    NoWorkerAnswered,
    SubmissionLost,
)
from support.event_loops import in_event_loop
from support.waiting import wait_for
from support.workers import Deployment

pytestmark = pytest.mark.one_database

REQUEST = {"student_id": "S", "course_ids": ["C"]}
CALLS = 1_000


async def enter_roster(client: AsyncEnrollmentClient, student: str, course: str) -> None:
    for kind, sis_id in (("students", student), ("courses", course)):
        await client.wait(await client.submit_batch(kind, [{"sis_id": sis_id}]), timeout=60)


def connections(url: str) -> int:
    """Return how many connections this process has to the server."""
    port = urlsplit(url).port
    made = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port for one in made)


@in_event_loop
async def test_a_thousand_requests_wait_at_once_with_a_few_threads_and_connections(
    deployment: Deployment,
) -> None:
    url = deployment.broker_url
    student, course = f"S-{uuid.uuid4()}", f"C-{uuid.uuid4()}"
    async with AsyncEnrollmentClient(url, timeout=60) as client:
        threads, connected = threading.active_count(), connections(url)
        await enter_roster(client, student, course)
        request = {"student_id": student, "course_ids": [course]}
        calls = [asyncio.create_task(client.enroll(request)) for _ in range(CALLS)]
        cancelled = calls[::10]
        await asyncio.sleep(0.3)
        assert threading.active_count() <= threads + 4
        assert connections(url) <= connected + 4
        for call in cancelled:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        done = [r for r in results if not isinstance(r, BaseException)]
        assert len(done) >= CALLS - len(cancelled)
        assert sum(result.enrolled_courses[0].added for result in done) <= 1
        assert {result.status for result in done} == {"enrolled"}
        statuses = await asyncio.gather(*(client.status(r.request_id) for r in done))
        assert [status.result for status in statuses] == done
        found = await asyncio.gather(*(client.student(student) for _ in range(CALLS)))
        assert all(one is not None and len(one.courses) == 1 for one in found)


@in_event_loop
async def test_an_invalid_lookup_fails_alone(deployment: Deployment) -> None:
    async with AsyncEnrollmentClient(deployment.broker_url, timeout=20) as client:
        ids: list[Any] = [*(f"nobody-{n}" for n in range(20)), "", object()]
        found = await asyncio.gather(*map(client.student, ids), return_exceptions=True)
        assert found[:20] == [None] * 20
        assert [type(error) for error in found[20:]] == [InvalidRequest] * 2


@in_event_loop
async def test_without_a_worker_calls_time_out_and_closing_ends_them(broker_url: str) -> None:
    before = connections(broker_url)  # Those of other tests.
    client = AsyncEnrollmentClient(broker_url, timeout=0.5)
    calls = [client.enroll(REQUEST), client.status("x"), client.results_of(["S"])]
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in failed] == [NoWorkerAnswered] * 3
    assert "stays queued" in str(failed[0])
    waiting = [asyncio.create_task(client.enroll(REQUEST, timeout=60)) for _ in range(100)]
    await asyncio.sleep(0.2)
    await client.close()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(error) for error in ended} == {ClientClosed}
    assert connections(broker_url) <= before


@in_event_loop
async def test_a_missing_right_to_look_up_harms_no_request_at_the_same_time(valkey: str) -> None:
    rights = ("(+lpush ~enrollments)", "(+set ~enrollment:request:*)")
    allowed = ("-@all", "+ping", "+hello", "+select", "+client|setinfo", *rights)
    with Redis.from_url(valkey) as redis:
        redis.execute_command("ACL", "SETUSER", "submitter", "on", ">secret", "resetkeys", *allowed)
        own_url = valkey.replace("redis://", "redis://submitter:secret@")
        async with AsyncEnrollmentClient(own_url, timeout=1) as client:
            calls: list[Any] = []
            for _ in range(20):
                calls += [client.submit(REQUEST), client.status("x")]
            ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in ended[::2]} == {str}
        assert {type(one) for one in ended[1::2]} == {BrokerUnavailable}
        assert "lacks a right" in str(ended[1])
        assert redis.llen(Keys().queue(Queue.ENROLLMENTS)) == 20


@in_event_loop
async def test_a_request_that_was_purged_is_lost(
    fresh_deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.aio.submitter.CHECK_SECONDS", 0.3)
    group = fresh_deployment.process.pid
    with Redis.from_url(fresh_deployment.broker_url) as redis:
        async with AsyncEnrollmentClient(fresh_deployment.broker_url, timeout=20) as client:
            await client.status("x")
            wait_for(lambda: redis.info("clients")["blocked_clients"] == len(Queue))
            os.killpg(group, signal.SIGSTOP)
            try:
                # The worker, which waits for a message of each queue, still gets the first one.
                waiting = [asyncio.create_task(client.enroll(REQUEST)) for _ in range(3)]
                while redis.llen(Keys().queue(Queue.ENROLLMENTS)) < 2:
                    await asyncio.sleep(0.05)
                redis.flushall()
            finally:
                os.killpg(group, signal.SIGCONT)
            ended = await asyncio.gather(*waiting, return_exceptions=True)
    lost = [error for error in ended if isinstance(error, SubmissionLost)]
    assert len(lost) >= 2
    assert "Submit it again under the same id" in str(lost[0])


@in_event_loop
async def test_an_asynchronous_stream_becomes_a_batch(deployment: Deployment) -> None:
    prefix = f"S-{uuid.uuid4()}"

    async def records() -> AsyncIterator[dict[str, Any]]:
        for number in range(12_000):
            yield {"sis_id": f"{prefix}-{number}" if number % 1_000 else 7}

    async with AsyncEnrollmentClient(deployment.broker_url, timeout=20) as client:
        batch = await client.submit_batch("students", records())
        status = await client.wait(batch, timeout=60)
        assert (batch.chunks, status.books.upserted, status.books.rejected) == (2, 11_988, 12)
        lines = [refused.line async for refused in client.refusals(batch.batch_id)]
        assert lines == list(range(1, 12_000, 1_000))
