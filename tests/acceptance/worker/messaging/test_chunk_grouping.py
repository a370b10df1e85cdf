"""Small chunks that wait together are applied together, by a real worker. On both databases."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from producer.client import EnrollmentClient
from producer.contract.routing import Queue, TaskName
from producer.schemas import Kind
from support.databases import count_rows, dead_letters, opened_database
from support.rosters import enter_roster, finished
from support.waiting import wait_for
from support.workers import running_worker
from worker.messaging.grouping import MAX_GROUP
from worker.models import BatchChunk, StudentCourse

STUDENTS = [f"S{n}" for n in range(60)]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    return new_database(request.param)


@pytest.fixture
def start(valkey: str, database_url: str, tmp_path: Path) -> Callable[..., Any]:
    """Starts a worker that logs in JSON."""

    def start_worker(app: str = "worker", **settings: str) -> Any:
        options = ("--loglevel=INFO", "--concurrency=2")
        settings = {"ENROLL_LOG_FORMAT": "json", **settings}
        return running_worker(
            valkey, database_url, tmp_path / "worker.log", *options, app=app, settings=settings
        )

    return start_worker


@pytest.fixture
def client(valkey: str) -> Iterator[EnrollmentClient]:
    with EnrollmentClient(valkey, timeout=30) as connected:
        yield connected


@pytest.fixture
def redis(valkey: str) -> Iterator[Redis]:
    with Redis.from_url(valkey) as connected:
        yield connected


def store_roster(client: EnrollmentClient) -> None:
    enter_roster(client, STUDENTS, ["C1", "C2", "C3", "KILLS", "RAISES"])


def submit_each(client: EnrollmentClient, *courses: str, field: str = "course_ids") -> list[str]:
    """Submit a batch of a single request for each student; return their ids."""
    return [
        client.submit_batch(
            Kind.ENROLLMENTS, [{"student_id": name, field: list(courses)}], max_queued=1000
        ).batch_id
        for name in STUDENTS
    ]


def all_done(client: EnrollmentClient, ids: list[str]) -> bool:
    return all(status.state == "done" for status in client.batches(ids, refusals=False))


def counts(client: EnrollmentClient, ids: list[str]) -> set[tuple[int, ...]]:
    """Return the different counts of batches: received, enrolled, dropped, rejected."""
    books = [status.books for status in client.batches(ids, refusals=False)]
    return {(b.received, b.enrolled, b.dropped, b.rejected) for b in books}


def delivered(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "chunk delivered"]


def count_repeated(log: Path) -> int:
    """Count the chunks that were delivered again; the last line may not be written to its end."""
    return len(re.findall(r'"outcome": ?"repeated"', log.read_text()))


def logged(log: Path, event: str) -> bool:
    return re.search(event, log.read_text()) is not None


def test_small_batches_that_wait_are_applied_in_groups(
    start: Callable[..., Any], client: EnrollmentClient
) -> None:
    with start() as worker:
        store_roster(client)
        ids = submit_each(client, "C1")
        wait_for(lambda: all_done(client, ids))
        assert counts(client, ids) == {(1, 1, 0, 0)}
    groups = [line.get("together", 1) for line in delivered(worker.log)]
    assert 1 < max(groups) <= MAX_GROUP


def test_what_is_submitted_later_wins_whatever_group_it_is_in(
    start: Callable[..., Any], client: EnrollmentClient, database_url: str
) -> None:
    with start():
        store_roster(client)
        ids = submit_each(client, "C1")
        ids += submit_each(client, "C1", field="drop_course_ids")
        ids += submit_each(client, "C1")
        ids += submit_each(client, "C2")
        ids += submit_each(client, "C2", field="drop_course_ids")
        wait_for(lambda: all_done(client, ids))
    with opened_database(database_url) as database, database.reading() as connection:
        rows = connection.execute(
            text(
                "SELECT courses.sis_id, count(*) FROM student_courses"
                " JOIN courses ON courses.id = course_id GROUP BY courses.sis_id"
            )
        )
        assert dict(map(tuple, rows)) == {"C1": len(STUDENTS)}


def test_what_is_no_chunk_and_what_is_in_conflict_harm_no_neighbour(
    start: Callable[..., Any], client: EnrollmentClient, redis: Redis, database_url: str
) -> None:
    with start():
        store_roster(client)
        taken = client.submit_batch(Kind.ENROLLMENTS, [{"student_id": "S1", "course_ids": ["C3"]}])
        finished(client, taken.batch_id)
        before = submit_each(client, "C1")
        bad = {"batch_id": "torn", "number": -1, "records": []}
        conflict = {"batch_id": taken.batch_id, "number": 0, "records": ["another"], "last": True}
        redis.lpush(Queue.BATCHES, *[message(each, "broken") for each in (bad, conflict)])
        after = submit_each(client, "C2")
        wait_for(lambda: all_done(client, [*before, *after]))
        assert counts(client, [*before, *after]) == {(1, 1, 0, 0)}
        assert client.batch(taken.batch_id).books.received == 1
        with opened_database(database_url) as database:
            wait_for(lambda: len(dead_letters(database)) == 2)
            reasons = {letter.reason for letter in dead_letters(database)}
    assert reasons == {"invalid_chunk", "conflict"}


@pytest.mark.parametrize("poison", ["RAISES", "KILLS"])
def test_a_poisoned_chunk_of_a_group_harms_no_other(
    start: Callable[..., Any], client: EnrollmentClient, database_url: str, poison: str
) -> None:
    with start(app="support.apps.poisoned") as worker:
        store_roster(client)
        before = submit_each(client, "C1")
        poisoned = client.submit_batch(
            Kind.ENROLLMENTS,
            [{"student_id": "S1", "course_ids": [course]} for course in ("C3", poison)],
        )
        after = submit_each(client, "C2")
        wait_for(lambda: all_done(client, [*before, *after, poisoned.batch_id]), 120)
        books = client.batch(poisoned.batch_id).books
        assert (books.received, books.enrolled, books.rejected) == (2, 1, 1)
        assert counts(client, [*before, *after]) == {(1, 1, 0, 0)}
        with opened_database(database_url) as database:
            (letter,) = dead_letters(database)
    assert letter.batch_id == poisoned.batch_id
    if poison == "RAISES":
        assert logged(worker.log, r"group of \d+ small chunks failed \(ZeroDivisionError\)")


def test_a_group_that_was_committed_but_not_acknowledged_has_one_effect(
    start: Callable[..., Any], client: EnrollmentClient, database_url: str, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    with start(app="support.apps.killed", KILLED=str(killed)) as worker:
        store_roster(client)
        ids = submit_each(client, "C1")
        ids += submit_each(client, "C1", field="drop_course_ids")
        wait_for(lambda: worker.process.poll() is not None)
    assert int(killed.read_text()) > 1
    with start() as worker:
        wait_for(lambda: all_done(client, ids))
        for status in client.batches(ids, refusals=False):
            books = status.books
            # A drop may have been decided before the enrollment that it wins against.
            assert books.enrolled + books.superseded + books.dropped + books.not_enrolled == 1
        # What the killed worker held comes back later than the batches that waited in the queue.
        wait_for(lambda: count_repeated(worker.log) >= int(killed.read_text()))
    with opened_database(database_url) as database:
        assert count_rows(database, BatchChunk) == len(ids) + 2
        assert count_rows(database, StudentCourse) == 0
        assert dead_letters(database) == []


def message(chunk: dict[str, Any], task_id: str) -> str:
    """Return a chunk as other systems publish it."""
    return json.dumps(
        {
            "headers": {"task": TaskName.ENROLL_BATCH.value, "id": f"{task_id} {chunk['number']}"},
            "content-type": "application/json",
            "body": json.dumps([[chunk], {}, None]),
        }
    )
