"""The price of a poll, and that what it reads in Redis is never older than it may be."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
from redis import Redis
from sqlalchemy import delete, func, select, update

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS, SubmissionMark
from producer.contract.routing import TaskName
from producer.errors import NoWorkerAnswered
from producer.fields import MAX_CHUNK_RECORDS
from producer.publishing import polling
from producer.schemas import Kind, RequestState
from support.commands import UNREACHABLE, run_enroll
from support.databases import dead_letters, opened_database
from support.rosters import submit_and_finish
from support.stopwatch import Stopwatch
from support.valkey import free_port
from support.waiting import wait_for
from support.workers import Deployment
from worker.database.engine import Database
from worker.dead_letters.letters import keep
from worker.models import BatchChunk, EnrollmentResult, LetterReason
from worker.recovery.isolate import call_letter

KEYS = Keys()


@pytest.fixture
def redis(deployment: Deployment) -> Iterator[Redis]:
    with Redis.from_url(deployment.broker_url) as connected:
        yield connected


@pytest.fixture
def request_of(client: EnrollmentClient) -> dict[str, Any]:
    """A request for a student and a course of this test's own, not yet submitted."""
    student, course = f"S-{uuid.uuid4()}", f"C-{uuid.uuid4()}"
    submit_and_finish(client, Kind.STUDENTS, [{"sis_id": student}])
    submit_and_finish(client, Kind.COURSES, [{"sis_id": course, "title": "Logic"}])
    return {"student_id": student, "course_ids": [course], "request_id": f"r-{uuid.uuid4()}"}


@contextmanager
def without_worker(deployment: Deployment) -> Iterator[EnrollmentClient]:
    """A client while no worker answers; a lookup of it fails at once."""
    os.killpg(deployment.process.pid, signal.SIGSTOP)
    try:
        with EnrollmentClient(deployment.broker_url, timeout=0.5) as client:
            yield client
    finally:
        os.killpg(deployment.process.pid, signal.SIGCONT)


def finish(client: EnrollmentClient, request: dict[str, Any]) -> str:
    request_id = client.submit(request)
    wait_for(lambda: client.status(request_id).state == "done")
    return request_id


def test_a_finished_request_is_read_without_a_worker(
    deployment: Deployment, client: EnrollmentClient, request_of: dict[str, Any], redis: Redis
) -> None:
    request_id = finish(client, request_of)
    asked = client.results(request_of["student_id"])
    with without_worker(deployment) as alone:
        assert [alone.status(request_id).result] == asked
        # A mark that any submitter may write does not change it.
        redis.set(KEYS.request(request_id), SubmissionMark().model_dump_json(), ex=MARK_SECONDS)
        assert alone.status(request_id).state == "done"
        with pytest.raises(NoWorkerAnswered):
            alone.status("of this one, Redis knows nothing")


def test_polls_at_once_in_an_event_loop_are_a_few_reads_of_redis(
    deployment: Deployment, client: EnrollmentClient, request_of: dict[str, Any], redis: Redis
) -> None:
    finished, batch_id = finish(client, request_of), f"b-{uuid.uuid4()}"
    client.wait(client.submit_batch(Kind.STUDENTS, [{"sis_id": batch_id}], batch_id=batch_id))
    requests = [{**request_of, "request_id": f"r-{uuid.uuid4()}"} for _ in range(300)]

    async def poll() -> list[str]:
        async with AsyncEnrollmentClient(deployment.broker_url, timeout=0.5) as alone:
            ids = [finished, *await alone.submit_all(requests)]
            statuses = await asyncio.gather(*map(alone.status, ids))
            batches = await asyncio.gather(*(alone.batch(batch_id) for _ in range(300)))
            assert await alone.statuses(ids) == statuses
            assert await alone.batches([batch_id]) == batches[:1]
            return [*(s.state.value for s in statuses), *(b.state.value for b in batches)]

    with without_worker(deployment):
        redis.config_resetstat()
        states = asyncio.run(poll())
        reads = redis.info("commandstats")["cmdstat_mget"]["calls"]
    assert states == ["done"] + ["queued"] * 300 + ["done"] * 300
    assert reads < 12


def test_a_wiped_redis_changes_no_result(
    deployment: Deployment, client: EnrollmentClient, request_of: dict[str, Any], redis: Redis
) -> None:
    request_id = finish(client, request_of)
    before = client.status(request_id)
    for key in redis.scan_iter("enrollment.cached.*"):
        redis.delete(key)
    assert client.status(request_id) == before
    # The second lookup begins a generation, so its answer is copied.
    client.status(request_id)
    with without_worker(deployment) as alone:
        assert alone.status(request_id) == before


def test_queued_is_believed_for_ten_seconds_and_then_confirmed_by_a_worker(
    deployment: Deployment, client: EnrollmentClient, redis: Redis
) -> None:
    name, mark = f"q-{uuid.uuid4()}", SubmissionMark().model_dump_json()
    with without_worker(deployment) as alone:
        redis.set(KEYS.request(name), mark, ex=MARK_SECONDS)
        assert alone.status(name).state is RequestState.QUEUED
        for seconds in (MARK_SECONDS - 11, MARK_SECONDS + 60, 10 * MARK_SECONDS):
            redis.expire(KEYS.request(name), seconds)
            with pytest.raises(NoWorkerAnswered):
                alone.status(name)
        redis.persist(KEYS.request(name))
        with pytest.raises(NoWorkerAnswered):
            alone.status(name)
    redis.expire(KEYS.request(name), MARK_SECONDS - 11)
    assert client.status(name).state is RequestState.QUEUED
    with without_worker(deployment) as alone:
        assert alone.status(name).state is RequestState.QUEUED
        assert 0 < redis.ttl(KEYS.cached_request(name)) <= 10


def test_a_mark_that_is_forged_again_and_again_hides_no_result(
    deployment: Deployment,
    client: EnrollmentClient,
    request_of: dict[str, Any],
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polling, "BELIEVED_SECONDS", 1)
    request_id, mark = finish(client, request_of), SubmissionMark().model_dump_json()
    redis.delete(KEYS.cached_request(request_id))
    # A client of its own: the first one has seen the id as queued, perhaps more than a second ago.
    with EnrollmentClient(deployment.broker_url, timeout=20) as other:

        def state_of_a_forged_mark() -> str:
            redis.set(KEYS.request(request_id), mark, ex=MARK_SECONDS)
            return other.status(request_id).state

        assert state_of_a_forged_mark() == "queued"
        wait_for(lambda: state_of_a_forged_mark() == "done", 30)
        assert state_of_a_forged_mark() == "done"


@pytest.mark.parametrize("change", ["retry", "prune"])
def test_a_changed_result_is_read_at_once(
    deployment: Deployment,
    client: EnrollmentClient,
    request_of: dict[str, Any],
    redis: Redis,
    change: str,
) -> None:
    request_id = finish(client, request_of)
    copy: Any = redis.get(KEYS.cached_request(request_id))
    with opened_database(deployment.database_url) as database:
        if change == "prune":
            with database.writing() as connection:
                old = update(EnrollmentResult).where(EnrollmentResult.request_id == request_id)
                long_ago = datetime(2001, 1, 1, tzinfo=UTC)
                connection.execute(old.values(completed_at=long_ago, moment=long_ago))
            arguments = ["prune", "--older-than", "5000d", "--yes"]
        else:
            with database.writing() as connection:
                own = EnrollmentResult.request_id == request_id
                connection.execute(delete(EnrollmentResult).where(own))
            body = [{**request_of, "course_ids": [f"C-{uuid.uuid4()}"]}]
            letter = call_letter(
                TaskName.ENROLL, request_id, body, {}, LetterReason.NOT_PROCESSED, "it failed"
            )
            keep(database, letter)
            own_id = request_id.encode()
            (number,) = (one.id for one in dead_letters(database) if own_id in one.content)
            arguments = ["dead-letters", "retry", str(number)]
        with_redis = {"ENROLL_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
        away = run_enroll(deployment.environment | with_redis, *arguments, expect=UNREACHABLE)
        assert "Redis" in away.stderr
        assert client.status(request_id).state == "done"  # Nothing was changed.
        deployment.enroll(*arguments)
    status = client.status(request_id)
    if change == "prune":
        assert status.state == "unknown"
    else:
        assert status.result is not None
        assert status.result.status == "rejected"
    # A worker that is late with an earlier copy does no harm.
    redis.set(KEYS.cached_request(request_id), copy, ex=300)
    assert client.status(request_id) == status


def test_a_changed_title_is_read_at_once(
    client: EnrollmentClient, request_of: dict[str, Any]
) -> None:
    request_id, (course,) = finish(client, request_of), request_of["course_ids"]
    for title in ("Rhetoric", "Grammar"):
        submit_and_finish(client, Kind.COURSES, [{"sis_id": course, "title": title}])

        def shown() -> str | None:
            result = client.status(request_id).result
            assert result is not None
            return result.enrolled_courses[0].title

        wait_for(lambda title=title: shown() == title, 2)  # type: ignore[misc]


def test_an_id_used_for_another_request_keeps_its_result(
    client: EnrollmentClient, request_of: dict[str, Any]
) -> None:
    request_id = finish(client, request_of)
    before = client.status(request_id)
    refused = client.enroll({**request_of, "course_ids": ["another"]})
    assert refused.errors[0].code == "request_id_reused"
    assert client.status(request_id) == before
    assert client.enroll(request_of) == before.result
    assert client.status(request_id) == before


def test_the_counts_of_a_running_batch_balance_and_never_go_backwards(
    deployment: Deployment, client: EnrollmentClient, request_of: dict[str, Any]
) -> None:
    students = [f"S-{uuid.uuid4()}" for _ in range(200)]
    submit_and_finish(client, Kind.STUDENTS, [{"sis_id": name} for name in students])
    courses = request_of["course_ids"]
    name, size = f"b-{uuid.uuid4()}", 6 * MAX_CHUNK_RECORDS

    def slowly() -> Iterator[dict[str, Any]]:
        for number in range(size):
            if number % MAX_CHUNK_RECORDS == 0:
                time.sleep(0.5)
            yield {"student_id": students[number % 200], "course_ids": courses}

    worker = psutil.Process(deployment.process.pid)
    workers = [worker.pid, *(process.pid for process in worker.children(recursive=True))]

    def poll(_: int) -> int:
        """Poll until the batch is done, and return how often."""
        polls, earlier = 0, 0
        # It stands still while a busy machine keeps the worker from writing what it has read.
        clock = Stopwatch(*workers)
        stored: list[tuple[float, int]] = []
        with (
            EnrollmentClient(deployment.broker_url, timeout=30) as own,
            opened_database(deployment.database_url) as database,
        ):
            while True:
                second_ago = clock.seconds() - 1.2
                status = own.batch(name)
                polls += 1
                books = status.books.model_dump()
                assert books.pop("received") == sum(books.values())
                assert status.chunks_applied >= earlier
                earlier = status.chunks_applied
                assert earlier >= max([0, *(n for when, n in stored if when < second_ago)])
                count = stored_chunks(database, name)
                stored.append((clock.seconds(), count))
                if status.state == "done":
                    assert stored[-1][1] == earlier
                    assert status.books.received == size
                    return polls
                time.sleep(0.02)  # Faster polls would only keep the processors busy.

    with ThreadPoolExecutor(4) as pool:
        submitted = pool.submit(client.submit_batch, Kind.ENROLLMENTS, slowly(), batch_id=name)
        assert min(pool.map(poll, range(3))) > 6
        assert submitted.result().chunks == 6


def stored_chunks(database: Database, batch_id: str) -> int:
    with database.reading() as connection:
        own = select(func.count()).where(BatchChunk.batch_id == batch_id)
        return int(connection.execute(own).scalar_one())
