"""A message that cannot be sent to a pool process does not delay any other."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.routing import TASK_QUEUES, Queue, TaskName
from producer.schemas import Kind
from support.rosters import submit_and_finish
from support.waiting import wait_for
from support.workers import running_worker

GOOD = {"student_id": "S1", "course_ids": ["C1"]}


@pytest.fixture
def client(
    valkey: str, new_database: Callable[[str], str], tmp_path: Path
) -> Iterator[EnrollmentClient]:
    """A client of a worker with two processes, and a roster of one student and one course."""
    url, log = new_database("sqlite"), tmp_path / "worker.log"
    with (
        running_worker(valkey, url, log, "--concurrency=2"),
        EnrollmentClient(valkey, timeout=20) as connected,
    ):
        submit_and_finish(connected, Kind.STUDENTS, [{"sis_id": "S1"}])
        submit_and_finish(connected, Kind.COURSES, [{"sis_id": "C1"}])
        yield connected


def message(task: TaskName, name: str, *, deep: str = "") -> dict[str, Any]:
    """Return a request as a message; the `deep` part of it is nested too deeply for pickle."""
    made: dict[str, Any] = {
        "headers": {"task": task.value, "id": name},
        "properties": {},
        "content-type": "application/json",
        "body": json.dumps([[{**GOOD, "request_id": name}], {}, {}]),
    }
    if deep:
        nested: Any = []
        for _ in range(700):
            nested = [nested]
        # Nothing reads this part, so nothing has checked how deeply it is nested.
        made[deep]["x-trace"] = nested
    return made


def push(broker_url: str, queue: Queue, messages: list[dict[str, Any]]) -> None:
    """Put messages into a queue at once, and wait until the worker has taken them."""
    with Redis.from_url(broker_url) as redis:
        redis.lpush(queue, *map(json.dumps, messages))
        wait_for(lambda: redis.llen(queue) == 0)


def are_done(client: EnrollmentClient, names: list[str]) -> bool:
    return all(status.state == "done" for status in client.statuses(names))


@pytest.mark.parametrize("task", [TaskName.ENROLL_BATCH, TaskName.STATUS])
def test_messages_that_cannot_be_sent_to_a_process_block_no_process(
    client: EnrollmentClient, valkey: str, task: TaskName
) -> None:
    push(valkey, TASK_QUEUES[task], [message(task, f"{n}", deep="headers") for n in range(3)])
    assert client.status("whatever").state == "unknown"
    batch = submit_and_finish(client, Kind.ENROLLMENTS, [GOOD])
    assert batch.books.enrolled == 1


@pytest.mark.parametrize("part", ["headers", "properties"])
def test_a_request_that_cannot_be_sent_to_a_process_blocks_no_later_one(
    client: EnrollmentClient, valkey: str, part: str
) -> None:
    push(valkey, Queue.ENROLLMENTS, [message(TaskName.ENROLL, "deep", deep=part)])
    assert client.enroll(GOOD).status == "enrolled"


def test_a_request_that_cannot_be_sent_to_a_process_does_not_harm_its_group(
    client: EnrollmentClient, valkey: str
) -> None:
    names = [f"good-{n}" for n in range(40)]
    messages = [message(TaskName.ENROLL, name) for name in names]
    messages.insert(20, message(TaskName.ENROLL, "deep", deep="headers"))
    push(valkey, Queue.ENROLLMENTS, messages)
    wait_for(lambda: are_done(client, names))
