"""Whatever is in the queues, it is stored whole, and the worker decides the next request."""

import base64
import json
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.marks import SubmissionMark
from producer.contract.routing import TaskName
from producer.fields import MAX_MESSAGE
from support.databases import dead_letters, opened_database
from support.handover import stopped_with_messages
from support.malformed import message, random_bytes, shapes
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment
from worker.database.engine import Database

CHUNKS = TaskName.ENROLL_BATCH.value


@pytest.fixture
def own(fresh_deployment: Deployment) -> Iterator[tuple[EnrollmentClient, Any, Database]]:
    """A deployment whose dead letters are all of one test, with a student and a course."""
    with (
        opened_database(fresh_deployment.database_url) as database,
        EnrollmentClient(fresh_deployment.broker_url, timeout=20) as client,
        Redis.from_url(fresh_deployment.broker_url) as redis,
    ):
        enter_roster(client, ["S1"], ["C1"])
        yield client, redis, database


def nothing_is_held(redis: Any) -> bool:
    return not list(redis.scan_iter("enrollment.intake.taken.*")) and not any(
        redis.llen(queue) for queue in ("enrollments", "batches", "lookups")
    )


def test_every_malformed_message_is_stored_whole_and_harms_nothing_else(
    own: tuple[EnrollmentClient, Any, Database], fresh_deployment: Deployment
) -> None:
    client, redis, database = own
    processes = {p.pid for p in psutil.Process(fresh_deployment.process.pid).children()}
    slowest = 0.0
    for place, raw in enumerate(shapes().values()):
        redis.lpush(("enrollments", "batches", "lookups")[place % 3], raw)
        started = time.monotonic()
        outcome = client.enroll({"student_id": "S1", "course_ids": ["C1"]})
        slowest = max(slowest, time.monotonic() - started)
        assert outcome.status == "enrolled"
    print(f"slowest answer behind a malformed message: {slowest * 1000:.0f} ms")
    wait_for(lambda: nothing_is_held(redis))
    kept = dead_letters(database)
    assert sorted(letter.content for letter in kept) == sorted(shapes().values())
    assert {letter.reason for letter in kept} == {"malformed"}
    assert fresh_deployment.process.poll() is None
    assert {p.pid for p in psutil.Process(fresh_deployment.process.pid).children()} == processes
    assert client.student("S1").courses[0].sis_id == "C1"  # type: ignore[union-attr]


def test_the_sender_of_a_malformed_message_gets_the_reason(
    own: tuple[EnrollmentClient, Any, Database],
) -> None:
    client, redis, database = own
    request = {"student_id": "S1", "course_ids": ["C1"], "request_id": "theirs"}
    chunk = {"batch_id": "night", "number": 0}
    mistakes = {
        "headers.eta": message([[request], {}, {}], headers__eta="2099-01-01T00:00:00Z"),
        "there is no task": message([[request], {}, {}], headers__task="enrollment.enrol"),
        "the body is not JSON": message() | {"body": base64.b64encode(b"{").decode()},
        "bytes; at most": message([[request | {"more": "x" * MAX_MESSAGE}], {}, {}]),
        "records: must": message([[chunk | {"records": 5}], {}, {}], headers__task=CHUNKS),
        "headers.expires": message([[chunk], {}, {}], headers__task=CHUNKS, headers__expires="x"),
    }
    for place, (said, sent) in enumerate(mistakes.items()):
        sent["headers"]["id"] = task_id = f"task-{place}"
        for name in ("theirs", task_id):
            redis.set(Keys().request(name), SubmissionMark().model_dump_json(), ex=60)
        redis.lpush("enrollments", json.dumps(sent))
        wait_for(lambda: redis.exists(f"celery-task-meta-{task_id}"))  # noqa: B023 - at once
        answer = json.loads(redis.get(f"celery-task-meta-{task_id}"))
        assert (answer["status"], answer["traceback"]) == ("FAILURE", None)
        assert said in answer["result"]["exc_message"][0]
        of_batch = "night" in str(base64.b64decode(sent["body"]))
        asked_for = task_id if said == "the body is not JSON" else "theirs"
        if not of_batch:
            wait_for(lambda: client.status(asked_for).state == "unknown")  # noqa: B023
    night = client.batch("night")
    assert night.state == "stalled"
    assert "2 of its chunks became dead letters" in (night.advice or "")
    about = {(letter.request_id, letter.batch_id) for letter in dead_letters(database)}
    assert about == {("theirs", None), ("task-2", None), (None, "night")}
    # A corrected message may be sent under the same ids.
    assert client.enroll(request).status == "enrolled"


def test_the_newest_result_wins(own: tuple[EnrollmentClient, Any, Database]) -> None:
    _, redis, _ = own
    for course, status in (("C1", "enrolled"), ("C2", "rejected")):
        sent = message([[{"student_id": "S1", "course_ids": [course]}], {}, {}], headers__id="one")
        redis.lpush("enrollments", json.dumps(sent))
        wait_for(lambda: status in str(redis.get("celery-task-meta-one")))  # noqa: B023 - at once


def test_random_bytes_do_no_harm(own: tuple[EnrollmentClient, Any, Database]) -> None:
    client, redis, database = own
    pushed = list(random_bytes(random.Random(4711), 300))
    for raw in pushed:
        redis.lpush("enrollments", raw)
    assert client.enroll({"student_id": "S1", "course_ids": ["C1"]}).status == "enrolled"
    wait_for(lambda: nothing_is_held(redis))
    kept = {letter.content for letter in dead_letters(database)}
    assert kept <= set(pushed)
    # A byte that was changed within the request's text may leave a message that can be read.
    assert len(kept) > 200


def test_a_malformed_message_that_arrives_twice_is_stored_once_and_counted(
    own: tuple[EnrollmentClient, Any, Database],
) -> None:
    _, redis, database = own
    redis.lpush("batches", b"twice", b"twice")
    wait_for(lambda: [letter.deliveries for letter in dead_letters(database)] == [2])


@pytest.mark.parametrize(
    "queue", ["enrollments", "batches", "enrollments:3", "enrollments\x06\x169"]
)
@pytest.mark.parametrize("task", ["enrollment.student", "enrollment.results", "enrollment.health"])
def test_a_lookup_in_another_queue_is_refused(
    deployment: Deployment, queue: str, task: str
) -> None:
    """Who may publish requests may not read thereby what others submitted."""
    task_id = uuid.uuid4().hex
    sent = message([[["S1"]], {}, {}], headers__task=task, headers__id=task_id)
    with Redis.from_url(deployment.broker_url) as redis:
        redis.lpush(queue, json.dumps(sent))
        key = Keys().result(task_id)
        wait_for(lambda: bool(redis.exists(key)))
        found: Any = redis.get(key)
    answer = json.loads(found)
    assert answer["status"] == "FAILURE"
    assert f"{task} is a lookup; publish it to the queue lookups" in json.dumps(answer["result"])


@pytest.mark.one_database
def test_a_message_that_redis_is_too_full_for_is_not_malformed(
    own: tuple[EnrollmentClient, Any, Database], fresh_deployment: Deployment
) -> None:
    """That a lookup came too late is stored as its result, when the message is accepted."""
    _, redis, database = own
    sent = message(headers__task=TaskName.STATUS, headers__expires="2020-01-01T00:00:00+00:00")
    with stopped_with_messages(
        fresh_deployment.process.pid,
        lambda: redis.llen("lookups"),
        lambda: redis.lpush("lookups", json.dumps(sent)),
    ):
        redis.config_set("maxmemory", 1)
    wait_for(lambda: "cannot be accepted now" in fresh_deployment.log.read_text())
    redis.config_set("maxmemory", 0)
    wait_for(lambda: nothing_is_held(redis))
    assert dead_letters(database) == []
