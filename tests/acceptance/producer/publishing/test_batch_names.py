"""Two submissions of different records under one batch id never both succeed."""

import os
import random
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.routing import Queue
from producer.errors import BatchConflict, NoWorkerAnswered
from producer.publishing import chunking
from producer.publishing.batches import SubmittedBatch
from producer.schemas import Kind
from support.commands import CANNOT_FINISH, GOOD, REFUSED, USAGE
from support.http import serving
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment, running_worker

SMALL = 3
"""Rows of a chunk in these tests, so that a small batch has several chunks."""
STUDENTS = [f"S{n}" for n in range(30)]
COURSES = ["C1", "C2"]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "CHUNK_ROWS", SMALL)


@pytest.fixture
def redis(deployment: Deployment) -> Iterator[Redis]:
    with Redis.from_url(deployment.broker_url) as connected:
        yield connected


@pytest.fixture
def name() -> str:
    return f"night-{uuid.uuid4().hex}"


@pytest.fixture
def roster(client: EnrollmentClient) -> None:
    enter_roster(client, STUDENTS, COURSES)


def pairs(count: int, course: str = "C1") -> list[dict[str, Any]]:
    return [{"student_id": name, "course_ids": [course]} for name in STUDENTS[:count]]


def succeeds(client: EnrollmentClient, batch: SubmittedBatch) -> bool:
    """Wait as `enroll submit` does; return whether all of this submission is applied."""
    done = False

    def is_decided() -> bool:
        nonlocal done
        is_over = client.batch(batch.batch_id).state in ("done", "stalled")
        done = client.count_applied(batch) == batch.chunks and is_over
        return done

    try:
        wait_for(is_decided)
    except BatchConflict:
        return False
    return done


def stop(deployment: Deployment, *, stopped: bool) -> None:
    os.killpg(deployment.process.pid, signal.SIGSTOP if stopped else signal.SIGCONT)


@pytest.fixture
def lookups_only(tmp_path: Path, fresh_deployment: Deployment) -> Iterator[Deployment]:
    """A deployment whose only running worker answers lookups, so that every batch waits."""
    urls = (fresh_deployment.broker_url, fresh_deployment.database_url)
    stop(fresh_deployment, stopped=True)
    # Redis hands a message to the stopped worker as long as its connections wait.
    with Redis.from_url(fresh_deployment.broker_url) as redis:
        wait_for(lambda: redis.info("clients")["blocked_clients"] == 0)
    try:
        with running_worker(*urls, tmp_path / "lookups.log", "-c1", "-Q", "lookups") as worker:
            yield worker
    finally:
        stop(fresh_deployment, stopped=False)


def test_a_batch_id_is_refused_while_the_first_submission_still_waits(
    lookups_only: Deployment, tmp_path: Path
) -> None:
    first, other = tmp_path / "first.csv", tmp_path / "other.csv"
    first.write_text("sis_id,title\nC1,Logic\nC2,Algebra\n")
    other.write_text("sis_id,title\nC1,Logic\nC2,Geometry\n")
    people = tmp_path / "people.csv"
    people.write_text("sis_id,name\nC1,Logic\nC2,Algebra\n")

    def submit(path: Path, expect: int) -> str:
        arguments = ("submit", path, "--batch-id", "night", "--no-wait")
        return lookups_only.enroll(*arguments, expect=expect).stderr

    with Redis.from_url(lookups_only.broker_url) as redis:
        submit(first, GOOD)
        assert redis.llen(Queue.BATCHES) == 1
        for path in (other, people):
            assert "was already submitted with different records" in submit(path, USAGE)
            assert redis.llen(Queue.BATCHES) == 1
        submit(first, GOOD)
        assert redis.llen(Queue.BATCHES) == 2
    environment = lookups_only.environment
    with serving(environment, tmp_path / "serve.log") as (url, _):
        conflict = httpx.post(
            f"{url}/batches",
            params={"batch_id": "night"},
            content=other.read_bytes(),
            timeout=30,
        )
        assert (conflict.status_code, conflict.json()["code"]) == (409, "batch_conflict")


def test_a_batch_id_is_claimed_without_a_lookup(client: EnrollmentClient, name: str) -> None:
    """`resume=False` says that the batch id is new; if that is wrong, nothing is published."""
    client.submit_batch(Kind.COURSES, [{"sis_id": "C1"}], batch_id=name, resume=False)
    client.submit_batch(Kind.COURSES, [{"sis_id": "C1"}], batch_id=name, resume=False)
    with pytest.raises(BatchConflict, match="Nothing was published"):
        client.submit_batch(Kind.COURSES, [{"sis_id": "C2"}], batch_id=name, resume=False)


def test_without_a_worker_nothing_is_published_under_a_used_batch_id(
    broker_url: str, name: str
) -> None:
    with EnrollmentClient(broker_url, timeout=0.1) as client, Redis.from_url(broker_url) as redis:
        client.submit_batch(Kind.COURSES, [{"sis_id": "C1"}], batch_id=name, resume=False)
        waiting = redis.llen(Queue.BATCHES)
        for resume in (True, False):
            with pytest.raises(NoWorkerAnswered, match="under this batch id"):
                client.submit_batch(Kind.COURSES, [{"sis_id": "C2"}], batch_id=name, resume=resume)
        assert redis.llen(Queue.BATCHES) == waiting


Rows = list[dict[str, Any]]
CHANGES: dict[str, Callable[[Rows], Rows]] = {
    "the first record": lambda rows: [rows[0] | {"course_ids": ["C2"]}, *rows[1:]],
    "the last record": lambda rows: [*rows[:-1], rows[-1] | {"course_ids": ["C2"]}],
    "the order": lambda rows: rows[::-1],
    "one record less": lambda rows: rows[:-1],
    "one record more": lambda rows: [*rows, rows[0]],
    "a chunk less": lambda rows: rows[:-SMALL],
    "only the first chunk": lambda rows: rows[:SMALL],
    "no record": lambda _: [],
}


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "claim lost"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("roster")
def test_of_two_different_submissions_at_most_one_succeeds(
    deployment: Deployment,
    client: EnrollmentClient,
    redis: Redis,
    name: str,
    change: str,
    *,
    claimed: bool,
) -> None:
    """With a lost claim, as after a loss of Redis's data, the ledger alone decides."""
    rows = pairs(4 * SMALL)
    submitted: list[SubmittedBatch] = []
    published = random.Random(change).sample([rows, CHANGES[change](rows)], 2)
    stop(deployment, stopped=True)
    try:
        for records in published:
            with suppress(NoWorkerAnswered, BatchConflict):
                client.timeout = 0.5
                submitted.append(
                    client.submit_batch(Kind.ENROLLMENTS, records, batch_id=name, resume=False)
                )
            if not claimed:
                redis.delete(Keys().batch(name))
    finally:
        stop(deployment, stopped=False)
    client.timeout = 20
    assert len(submitted) == (1 if claimed else 2)
    succeeded = [succeeds(client, batch) for batch in submitted]
    assert succeeded.count(True) <= 1
    status = client.batch(name)
    if claimed:
        assert succeeded == [True]
        assert (status.conflicts, status.advice) == (0, None)
        return
    wait_for(lambda: client.batch(name).conflicts > 0)
    status = client.batch(name)
    assert status.advice is not None
    assert "submission" in status.advice
    books = status.books
    done = books.enrolled + books.already_enrolled + books.rejected
    assert books.received == done + books.not_applied


@pytest.mark.usefixtures("roster")
def test_concurrent_submissions_succeed_only_with_the_same_records(
    deployment: Deployment, redis: Redis, name: str
) -> None:
    """Two clients submit each of three lists of records, while the claim is lost repeatedly."""
    contents = [pairs(9), pairs(9, "C2"), pairs(8)]
    outcomes: list[tuple[int, bool]] = []
    over = threading.Event()

    def submit(number: int) -> None:
        with EnrollmentClient(deployment.broker_url, timeout=30) as client:
            try:
                batch = client.submit_batch(Kind.ENROLLMENTS, contents[number], batch_id=name)
                outcomes.append((number, succeeds(client, batch)))
            except BatchConflict:
                outcomes.append((number, False))

    def lose_claims() -> None:
        while not over.wait(0.001):
            redis.delete(Keys().batch(name))

    loser = threading.Thread(target=lose_claims)
    threads = [threading.Thread(target=submit, args=(n % 3,)) for n in range(6)]
    for thread in (loser, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    loser.join()
    assert len(outcomes) == 6
    assert len({number for number, succeeded in outcomes if succeeded}) <= 1


@pytest.mark.usefixtures("roster")
def test_the_same_records_may_be_submitted_at_the_same_time(
    deployment: Deployment, name: str
) -> None:
    outcomes: list[bool] = []

    def submit() -> None:
        with EnrollmentClient(deployment.broker_url, timeout=30) as client:
            batch = client.submit_batch(Kind.ENROLLMENTS, pairs(12), batch_id=name)
            outcomes.append(succeeds(client, batch))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * 4


@pytest.mark.usefixtures("roster")
def test_a_submission_that_stopped_half_way_keeps_its_batch_id(
    client: EnrollmentClient, name: str
) -> None:
    def stopping() -> Iterator[dict[str, Any]]:
        yield from pairs(2 * SMALL + 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.submit_batch(Kind.ENROLLMENTS, stopping(), batch_id=name)
    with pytest.raises(BatchConflict):
        client.submit_batch(Kind.ENROLLMENTS, pairs(7, "C2"), batch_id=name)
    batch = client.submit_batch(Kind.ENROLLMENTS, pairs(7), batch_id=name)
    assert succeeds(client, batch)
    with pytest.raises(BatchConflict):
        client.submit_batch(Kind.ENROLLMENTS, pairs(7, "C2"), batch_id=name)


@pytest.mark.usefixtures("roster")
def test_the_same_records_in_chunks_of_another_size_are_refused(
    client: EnrollmentClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert succeeds(client, client.submit_batch(Kind.ENROLLMENTS, pairs(6), batch_id=name))
    monkeypatch.setattr(chunking, "CHUNK_ROWS", SMALL + 1)
    with pytest.raises(BatchConflict, match="another batch id"):
        client.submit_batch(Kind.ENROLLMENTS, pairs(6), batch_id=name)


def test_the_command_reports_a_conflict_at_its_end(
    lookups_only: Deployment, fresh_deployment: Deployment, tmp_path: Path
) -> None:
    """Both files wait, because the claim of the first one was lost."""
    path = tmp_path / "second.csv"
    path.write_text("sis_id,title\nC2,Algebra\n")
    with (
        EnrollmentClient(lookups_only.broker_url, timeout=20) as client,
        Redis.from_url(lookups_only.broker_url) as redis,
    ):
        first = client.submit_batch(Kind.COURSES, [{"sis_id": "C1"}], batch_id="night")
        redis.delete(Keys().batch("night"))
        with lookups_only.start_enroll("submit", path, "--batch-id", "night") as command:
            wait_for(lambda: redis.llen(Queue.BATCHES) == 2)
            stop(fresh_deployment, stopped=False)
            _, err = command.communicate(timeout=60)
        # Two processes of the worker apply the two chunks, and either may be the first.
        first_succeeded = succeeds(client, first)
        assert command.returncode == (CANNOT_FINISH if first_succeeded else GOOD), err
        if first_succeeded:
            assert "1 of the 1 chunks of this one were refused" in err
            assert "under a new batch id" in err
        wait_for(lambda: client.batch("night").conflicts == 1)
        shown = lookups_only.enroll("status", "night", expect=REFUSED).stdout
        assert "done" in shown
        assert "1 chunk was refused" in " ".join(shown.split())
        books = client.batch("night").books
        assert books.received == books.upserted == 1
