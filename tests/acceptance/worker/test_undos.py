"""Undos by real workers: which queue they come from, and what happens if a worker is lost."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer.contract.routing import Queue, TaskName
from support.chunks import status
from support.databases import dead_letters, enrolled_pairs, opened_database, store_roster
from support.undoing import apply, request
from support.waiting import wait_for
from support.workers import running_worker
from worker.database.engine import Database

pytestmark = pytest.mark.one_database
OTHER_QUEUES = [Queue.ENROLLMENTS, Queue.BATCHES, Queue.LOOKUPS]


@pytest.fixture
def database_url(new_database: Callable[[str], str]) -> str:
    return new_database("postgresql")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with opened_database(database_url) as opened:
        store_roster(opened, ["A", "B"], ["M1", "M2", "M3"])
        yield opened


@pytest.fixture
def redis(valkey: str) -> Iterator[Redis]:
    with Redis.from_url(valkey) as connected:
        yield connected


def message(task: TaskName, **headers: Any) -> str:
    """Return a message of a plain Celery client that undoes the batch `b`."""
    task_id = uuid.uuid4().hex
    return json.dumps(
        {
            "body": json.dumps([["b"], {}, {}]),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": task, "id": task_id},
            "properties": {"correlation_id": task_id, **headers},
        }
    )


def test_an_undo_counts_only_from_the_queue_of_decisions(
    database: Database, redis: Redis, valkey: str, database_url: str, tmp_path: Path
) -> None:
    apply(database, request("A", enroll=["M1"]))
    with running_worker(valkey, database_url, tmp_path / "log"):
        for queue in OTHER_QUEUES:
            redis.lpush(queue.value, message(TaskName.UNDO), message(TaskName.REHEARSE_UNDO))
        wait_for(lambda: len(dead_letters(database)) == 2 * len(OTHER_QUEUES), 30)
        for letter in dead_letters(database):
            assert "publish it to the queue decisions" in letter.detail
        assert enrolled_pairs(database) == {("A", "M1")}
        # One that has waited for hours is not wanted any more.
        redis.lpush(Queue.DECISIONS.value, message(TaskName.UNDO, timestamp=1))
        redis.lpush(Queue.DECISIONS.value, message(TaskName.REHEARSE_UNDO))
        wait_for(lambda: not redis.exists(Queue.DECISIONS.value), 30)
        assert enrolled_pairs(database) == {("A", "M1")}
        redis.lpush(Queue.DECISIONS.value, message(TaskName.UNDO))
        wait_for(lambda: not enrolled_pairs(database), 30)
    assert status(database, "undo:b").state == "done"


def test_an_undo_whose_message_comes_again_goes_on_with_the_rest(
    database: Database, redis: Redis, valkey: str, database_url: str, tmp_path: Path
) -> None:
    for number, course in enumerate(("M1", "M2", "M3")):
        before = {"requests": number, "rows": number}
        part = request("A", enroll=[course])
        apply(database, part, number=number, last=number == 2, before=before)
    killed = tmp_path / "killed"
    with running_worker(
        valkey,
        database_url,
        tmp_path / "log",
        app="support.apps.killed_undo",
        settings={"KILLED": str(killed)},
    ) as lost:
        redis.lpush(Queue.DECISIONS.value, message(TaskName.UNDO))
        wait_for(killed.exists, 30)
        wait_for(lambda: lost.process.poll() is not None, 30)
    assert enrolled_pairs(database) == {("A", "M2"), ("A", "M3")}
    with running_worker(valkey, database_url, tmp_path / "other-log"):
        wait_for(lambda: not enrolled_pairs(database), 60)
        wait_for(lambda: status(database, "undo:b").state == "done", 30)
    assert status(database, "undo:b").books.received == 3
    assert dead_letters(database) == []
