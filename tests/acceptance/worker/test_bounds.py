"""Clients cannot exhaust a worker's memory, waste its time on old lookups, or take lines' ids."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis
from sqlalchemy import text

from producer.client import EnrollmentClient
from producer.contract.chunks import line_request_id
from producer.contract.routing import TASK_QUEUES, Queue, TaskName
from producer.errors import InvalidRequest, LookupFailed
from producer.fields import MAX_LOOKUP_RESULTS
from producer.schemas import Kind
from support.commands import USAGE
from support.databases import dead_letters_at, opened_database
from support.malformed import message
from support.memory import limit_memory
from support.rosters import enter_roster, finished, submit_and_finish
from support.waiting import wait_for
from support.workers import Deployment, running_worker

ROOM = (2, 8, 16, 32)
"""MiB that a process may still allocate: far too little for a large answer."""


@pytest.fixture
def own(fresh_deployment: Deployment) -> Iterator[tuple[Deployment, EnrollmentClient, Any]]:
    with (
        EnrollmentClient(fresh_deployment.broker_url, timeout=20) as client,
        Redis.from_url(fresh_deployment.broker_url) as redis,
    ):
        enter_roster(client, ["S1"], ["C1"])
        yield fresh_deployment, client, redis


def ask(redis: Any, task: TaskName, *args: Any, **changes: Any) -> Any:
    """Send a lookup as a client in another language does, and return what the result key holds."""
    sent = message([list(args), {}, {}], headers__task=task.value, **changes)
    redis.lpush(Queue.LOOKUPS.value, json.dumps(sent))
    key = f"celery-task-meta-{sent['headers']['id']}"
    wait_for(lambda: redis.exists(key))
    return json.loads(redis.get(key))


def reason_of(answer: Any) -> str:
    assert answer["status"] == "FAILURE", answer
    return str(answer["result"]["exc_message"][0])


def test_a_lookup_of_too_many_results_is_refused_with_what_is_allowed(
    own: tuple[Deployment, EnrollmentClient, Any],
) -> None:
    _, client, redis = own
    for students, limit in ((1000, 1000), (1000, 11), (11, 1000)):
        sent = message(
            [[["S1"] * students], {"limit": limit}, {}], headers__task=TaskName.RESULTS.value
        )
        redis.lpush(Queue.LOOKUPS.value, json.dumps(sent))
        key = f"celery-task-meta-{sent['headers']['id']}"
        wait_for(lambda: redis.exists(key))  # noqa: B023 - at once
        explained = reason_of(json.loads(redis.get(key)))
        assert f"at most {MAX_LOOKUP_RESULTS // limit} students" in explained
        assert f"limit to at most {MAX_LOOKUP_RESULTS // students}" in explained
    # Our own client asks in pages that are allowed.
    assert len(client.results_of(["S1"] * 25, limit=1000)) == 25


def test_an_invalid_argument_of_a_lookup_is_explained_by_the_contract(
    own: tuple[Deployment, EnrollmentClient, Any],
) -> None:
    _, client, redis = own
    for task, args, reason in (
        (TaskName.HISTORY, [["S1"]], "student: must be our key"),
        (TaskName.HISTORY, ["S1", "C1", 1, "today"], "before: must be a time with its time zone"),
        (TaskName.ROLL, [""], "course: must be our key"),
        (TaskName.ROLL, ["C1", None, 1, "S1"], "after: must be an integer from 0 to"),
        (TaskName.STUDENT, ["S1"], "students: must be a list of at most 1000, not"),
        (TaskName.RESULTS, [["S1"], 1, "x"], "before: must be the completed_at and"),
        (TaskName.STATUS, [[1]], "request_ids[0]: must be a string"),
        (TaskName.BATCH, [[""]], "batch_ids[0]: must be a string"),
        (TaskName.CHUNKS, ["b", [-1]], "numbers[0]: must be an integer from 0 to"),
        (TaskName.REFUSALS, ["b", -1], "line: must be an integer from 0 to"),
        (TaskName.RECENT_BATCHES, [0], "limit: must be an integer from 1 to"),
    ):
        explained = reason_of(ask(redis, task, *args))
        assert explained.startswith(reason)
        assert ", not " in explained
    assert client.student("S1") is not None


@pytest.mark.long
def test_too_little_memory_never_ends_the_worker(
    own: tuple[Deployment, EnrollmentClient, Any],
) -> None:
    """Whatever it is too little for: reading, deciding, answering, or even starting."""
    deployment, client, redis = own
    courses = [f"{n}-" + "x" * 200 for n in range(100)]
    everyone = [f"T{n}" for n in range(200)]
    enter_roster(client, everyone, courses)
    submit_and_finish(
        client, Kind.ENROLLMENTS, [{"student_id": who, "course_ids": courses} for who in everyone]
    )
    assert len(client.students(everyone)) == 200
    main = psutil.Process(deployment.process.pid)
    reasons = set()
    for mebibytes in ROOM:
        for process in main.children():
            limit_memory(process.pid, mebibytes * 2**20)
        # A lookup is answered, perhaps with an error.
        try:
            client.students(everyone)
        except LookupFailed as error:
            reasons.add(str(error))
        # Single requests, which form groups, and a chunk are decided, or tried again.
        large = {"student_id": "S1", "course_ids": ["C1"], "x": ["y" * 1000] * 2000}
        for number in range(5):
            record = large | {"request_id": f"large-{mebibytes}-{number}"}
            redis.lpush(Queue.ENROLLMENTS.value, json.dumps(message([[record], {}, {}])))
        records = [{"student_id": f"unknown {n}", "course_ids": courses[:5]} for n in range(2000)]
        chunk = {"batch_id": f"b-{mebibytes}", "number": 0, "last": True, "records": records}
        sent = message([[json.dumps(chunk)], {}, {}], headers__task=TaskName.ENROLL_BATCH.value)
        redis.lpush(Queue.BATCHES.value, json.dumps(sent))
        wait_for(lambda: nothing_waits(redis), 120)
        assert deployment.process.poll() is None
    print("\n".join(sorted(reasons)))
    assert any("memory" in reason for reason in reasons)
    # With enough memory again, everything works again.
    for process in main.children():
        limit_memory(process.pid, 2**40)
    assert client.enroll({"student_id": "S1", "course_ids": ["C1"]}).status == "enrolled"
    names = [f"large-{mebibytes}-{number}" for mebibytes in ROOM for number in range(5)]
    assert {status.state for status in client.statuses(names)} == {"done"}
    letters = {letter.batch_id for letter in dead_letters_at(deployment.database_url)}
    for status in client.batches([f"b-{mebibytes}" for mebibytes in ROOM]):
        assert (status.state == "done") != (status.batch_id in letters)


def nothing_waits(redis: Any) -> bool:
    held = list(redis.scan_iter("enrollment.intake.taken.*"))
    return not held and not any(redis.llen(queue.value) for queue in Queue)


@pytest.mark.parametrize(
    ("sent_at", "answered"),
    [
        (lambda: int(time.time()) - 30, True),
        (lambda: time.time() - 700, False),
        (lambda: int(time.time()) - 10**6, False),
        (lambda: int(time.time()) + 10**6, True),
        (lambda: int(time.time()) * 1000, True),  # In milliseconds, as JavaScript counts.
        (lambda: 10**400, True),
        (lambda: -(10**400), True),
        (lambda: "yesterday", True),
        (lambda: None, True),
        (lambda: True, True),
    ],
    ids=range(10),
)
def test_a_lookup_that_no_client_waits_for_any_more_is_not_run(
    deployment: Deployment, sent_at: Any, answered: bool
) -> None:
    with Redis.from_url(deployment.broker_url) as redis:
        answer = ask(redis, TaskName.STATUS, ["x"], properties__timestamp=sent_at())
        if answered:
            assert answer["result"] == [
                {"request_id": "x", "state": "unknown", "result": None, "advice": None}
            ]
        else:
            assert "send it again" in reason_of(answer)


def test_a_lookup_that_expired_is_not_run(deployment: Deployment) -> None:
    with Redis.from_url(deployment.broker_url) as redis:
        answer = ask(redis, TaskName.STATUS, ["x"], headers__expires="2020-01-01T00:00:00+00:00")
        assert answer["status"] == "REVOKED"


@pytest.mark.parametrize("task", [t for t, queue in TASK_QUEUES.items() if queue is Queue.LOOKUPS])
def test_a_lookup_with_wrong_arguments_gets_a_short_reason(
    deployment: Deployment, task: TaskName
) -> None:
    before = deployment.log.stat().st_size
    with Redis.from_url(deployment.broker_url) as redis:
        for args, kwargs in (
            ([1] * 9, {}),
            ([], {"no\x1b[31m\nsuch": 1}),
            ([], {"k" * 300_000: 1}),
        ):
            sent = message([args, kwargs, {}], headers__task=task.value)
            redis.lpush(Queue.LOOKUPS.value, json.dumps(sent))
            key = f"celery-task-meta-{sent['headers']['id']}"
            wait_for(lambda: redis.exists(key))  # noqa: B023 - at once
            reason = reason_of(json.loads(redis.get(key)))
            assert reason.startswith("the arguments do not fit this lookup: ")
            assert len(reason) < 300
            assert reason.isprintable()
    assert deployment.log.stat().st_size - before < 10_000


def test_an_expired_lookup_refuses_no_other_message_with_its_id(
    own: tuple[Deployment, EnrollmentClient, Any],
) -> None:
    _, client, redis = own
    answered = (Queue.LOOKUPS, Queue.DECISIONS)
    others = (task for task, queue in TASK_QUEUES.items() if queue not in answered)
    tasks = (TaskName.STATUS, *others)
    for task in tasks:
        task_id = f"sis-{task.value}"
        expired = {"headers__expires": "2020-01-01T00:00:00+00:00", "headers__id": task_id}
        assert ask(redis, TaskName.STATUS, ["x"], **expired)["status"] == "REVOKED"
        redis.delete(f"celery-task-meta-{task_id}")
        if task is TaskName.STATUS:
            assert ask(redis, task, ["x"], headers__id=task_id)["status"] == "SUCCESS"
            continue
        is_request = task is TaskName.ENROLL
        chunk = {"batch_id": task_id, "number": 0, "last": True, "records": []}
        argument = {"student_id": "S1", "course_ids": ["C1"]} if is_request else chunk
        sent = message([[argument], {}, {}], headers__task=task.value, headers__id=task_id)
        redis.lpush(TASK_QUEUES[task].value, json.dumps(sent))
        state: Callable[[str], Any] = client.status if is_request else client.batch
        wait_for(lambda: state(task_id).state == "done")  # noqa: B023 - at once


def test_a_lookup_whose_workers_die_is_given_up(
    new_database: Callable[[str], str], valkey: str, tmp_path: Path
) -> None:
    database_url = new_database("postgresql")
    sent = message([[["x"]], {}, {}], headers__task=TaskName.STATUS.value, headers__id="deadly")
    settings = {"ENROLL_MAX_ATTEMPTS": "1"}
    with (
        Redis.from_url(valkey) as redis,
        opened_database(database_url) as database,
        database.engine.connect() as locking,
    ):
        with running_worker(valkey, database_url, tmp_path / "log", settings=settings) as first:
            locking.execute(text("LOCK TABLE enrollment_results IN ACCESS EXCLUSIVE MODE"))
            redis.lpush(Queue.LOOKUPS.value, json.dumps(sent))
            wait_for(
                lambda: any(
                    redis.hexists(key, "deadly")
                    for key in redis.scan_iter("enrollment.intake.running.*")
                )
            )
            os.killpg(first.process.pid, signal.SIGKILL)
            first.process.wait()
        locking.rollback()
        with (
            running_worker(valkey, database_url, tmp_path / "log", settings=settings),
            EnrollmentClient(valkey, timeout=20) as client,
        ):
            wait_for(lambda: redis.exists("celery-task-meta-deadly"))
            answer = json.loads(redis.get("celery-task-meta-deadly") or b"")
            assert "workers died while answering it" in reason_of(answer)
            wait_for(lambda: not redis.hexists("enrollment.intake.attempts", "deadly"))
            assert client.status("x").state == "unknown"


# --- ids that belong to the lines of batches --------------------------------------------------

LINE = line_request_id("night", 0, 0)


def test_no_single_request_takes_the_id_of_a_line(
    own: tuple[Deployment, EnrollmentClient, Any],
) -> None:
    deployment, client, redis = own
    request = {"student_id": "S1", "course_ids": ["C1"], "request_id": LINE}
    for submit in (client.submit, client.enroll, lambda r: client.submit_all([r])):
        with pytest.raises(InvalidRequest, match=":NUMBER:NUMBER"):
            submit(request)
    deployment.enroll("request", "S1", "C1", "--request-id", LINE, expect=USAGE)
    # A client in another language, with the id in the request, as the task id, or as both.
    without_id = {name: value for name, value in request.items() if name != "request_id"}
    for record, task_id in ((request, "theirs"), (without_id, LINE), (request, f"{LINE}1")):
        sent = message([[record], {}, {}], headers__id=task_id)
        redis.delete(f"celery-task-meta-{task_id}")
        redis.lpush(Queue.ENROLLMENTS.value, json.dumps(sent))
        wait_for(lambda: redis.exists(f"celery-task-meta-{task_id}"))  # noqa: B023 - at once
        result = json.loads(redis.get(f"celery-task-meta-{task_id}"))["result"]
        assert result["status"] == "rejected"
        assert result["errors"][0]["code"] == "invalid_request"
        assert ":NUMBER:NUMBER" in result["errors"][0]["message"]
        assert client.status(LINE).state == "unknown"
    # So the line of the batch is enrolled.
    records = [{"student_id": "S1", "course_ids": ["C1"]}, request]
    batch = client.submit_batch(Kind.ENROLLMENTS, records, batch_id="night")
    status = finished(client, batch.batch_id)
    assert (status.books.enrolled, status.books.rejected) == (1, 1)
    (group,) = status.refusals
    assert group.code == "invalid_request"
    assert ":NUMBER:NUMBER" in group.example
    assert client.status(LINE).state == "done"
