"""Two versions of the contract at the same time, as while a new one is being rolled out.

The contract only grows: what one side does not know yet is refused, stored or left out, and never
half done.
"""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import func, select

from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS, SubmissionMark
from producer.errors import AnswerNotUnderstood, LookupFailed
from producer.schemas import Kind
from support.commands import invoke_enroll
from support.databases import dead_letters_at, url_of
from support.plain_celery import plain_celery
from support.waiting import wait_for
from support.workers import Deployment
from worker.database.engine import Database
from worker.messaging.quarantine import keep_message
from worker.models import Course

pytestmark = pytest.mark.one_database


@pytest.fixture
def own_broker_url(broker_url: str) -> str:
    """A database of the broker that no other test uses."""
    return broker_url.removesuffix("/0") + "/3"


# --- A newer producer meets this worker -----------------------------------------------------


def retry(database_url: str, broker_url: str, *letters: str) -> tuple[int, str]:
    urls = {"ENROLL_DATABASE_URL": database_url, "ENROLL_BROKER_URL": broker_url}
    done = invoke_enroll("dead-letters", "retry", *letters, **urls)
    return done.exit_code, done.output


def letters(database_url: str, words: str) -> list[Any]:
    found = dead_letters_at(database_url)
    return [letter for letter in found if words in f"{letter.detail} {letter.batch_id}"]


def test_an_unknown_field_of_a_request_is_refused_and_named(
    deployment: Deployment, client: EnrollmentClient
) -> None:
    request = {"student_id": "S", "course_ids": ["C"], "seat": "window"}
    with plain_celery(deployment.broker_url) as app:
        sent = app.send_task("enrollment.enroll", [request], queue="enrollments")
        answer = sent.get(timeout=20)
    assert (answer["status"], answer["enrolled_courses"]) == ("rejected", [])
    (error,) = answer["errors"]
    assert (error["code"], error["field"]) == ("invalid_request", "seat")
    status = client.status(sent.id)
    assert status.result is not None
    assert status.result.errors[0].field == "seat"


def test_a_chunk_with_an_unknown_field_is_stored_whole(
    deployment: Deployment, client: EnrollmentClient
) -> None:
    name, course = f"newer-{uuid.uuid4()}", f"C-{uuid.uuid4()}"
    chunk = {"batch_id": name, "number": 0, "last": True, "records": [{"sis_id": course}]}
    with plain_celery(deployment.broker_url) as app:
        text = json.dumps({**chunk, "compressed": True})
        app.send_task("roster.upsert_courses", [text], queue="batches")
    wait_for(lambda: bool(letters(deployment.database_url, name)))
    (letter,) = letters(deployment.database_url, name)
    assert "compressed: is not a known field" in letter.detail
    code, printed = retry(deployment.database_url, deployment.broker_url, str(letter.id))
    assert (code, "compressed: is not a known field" in printed) == (1, True)
    assert len(letters(deployment.database_url, name)) == 1
    status = client.batch(name)
    assert (status.state, status.chunks_applied) == ("stalled", 0)
    assert "compressed: is not a known field" in (status.advice or "")


def test_a_message_for_an_unknown_task_is_stored_and_harms_nothing(
    deployment: Deployment, client: EnrollmentClient
) -> None:
    task = f"enrollment.drop-{uuid.uuid4()}"
    with plain_celery(deployment.broker_url) as app:
        app.send_task(task, [{"student_id": "S"}], queue="enrollments")
    wait_for(lambda: bool(letters(deployment.database_url, task)))
    (letter,) = letters(deployment.database_url, task)
    code, printed = retry(deployment.database_url, deployment.broker_url, str(letter.id))
    assert (code, f"there is no task '{task}'" in printed) == (1, True)
    assert client.student("the worker goes on") is None
    assert len(letters(deployment.database_url, task)) == 1


def test_dead_letters_of_an_older_worker_are_retried_after_the_upgrade(
    database: Database, own_broker_url: str
) -> None:
    course = f"C-{uuid.uuid4()}"
    with EnrollmentClient(own_broker_url) as client, Redis.from_url(own_broker_url) as redis:
        client.submit_batch(Kind.COURSES, [{"sis_id": course}])
        raw: Any = redis.lpop("batches")
    # This is how a worker that does not know the task yet stores the message.
    reason = "there is no task 'roster.upsert_courses'"
    keep_message(database, raw, "batches", reason)
    code, printed = retry(url_of(database), own_broker_url, "--all")
    assert (code, printed.endswith(": applied\n")) == (0, True), printed
    with database.reading() as connection:
        counted = select(func.count()).where(Course.sis_id == course)
        assert connection.scalar(counted) == 1


def test_an_unknown_option_of_a_lookup_is_refused_and_named(
    deployment: Deployment, client: EnrollmentClient
) -> None:
    with plain_celery(deployment.broker_url) as app:
        asked = {"with_history": True}
        sent = app.send_task("enrollment.batch", [["x"]], asked, queue="lookups")
        with pytest.raises(Exception, match="with_history"):
            sent.get(timeout=20)
    assert client.batch(f"nobody-{uuid.uuid4()}").state == "unknown"


def test_a_client_that_knows_no_pages_gets_a_list_of_batches(
    deployment: Deployment, client: EnrollmentClient
) -> None:
    submitter = f"older-{uuid.uuid4()}"
    batches = [
        client.submit_batch(Kind.COURSES, [{"sis_id": "C"}], submitter=submitter) for _ in range(3)
    ]
    for batch in batches:
        client.wait(batch)
    newest = [batch.batch_id for batch in reversed(batches)]
    with plain_celery(deployment.broker_url) as app:
        for args, options, expected in (
            ([], {}, newest),
            ([2], {}, newest[:2]),
            ([2], {"submitter": submitter}, newest[:2]),
            ([1], {"cursor": ["2030-01-01T00:00:00Z", newest[1]], "kind": "courses"}, newest[:1]),
        ):
            sent = app.send_task("enrollment.recent_batches", args, options, queue="lookups")
            found = [status["batch_id"] for status in sent.get(timeout=20)]
            assert found[: len(expected)] == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cursor": ["2030-01-01T00:00:00Z"]}, r"cursor\[1\]: is required"),
        ({"cursor": [0, "b"]}, r"cursor\[0\]: must be a time with its time zone"),
        ({"cursor": ["2030-01-01T00:00:00Z", "a\x00"]}, r"cursor\[1\]: must not contain"),
        ({"state": "lost"}, "state: must be queued, running"),
        ({"kind": ["students"]}, "kind: must be students"),
        ({"submitter": 7}, "submitter: must be a string"),
        ({"submitter": ""}, "submitter: must be a string of 1"),
        ({"newest_by": "size"}, "newest_by"),
    ],
)
def test_an_option_of_the_list_of_batches_that_is_not_valid_is_named(
    deployment: Deployment, options: dict[str, Any], words: str
) -> None:
    asked = {"paged": True, **options}
    with plain_celery(deployment.broker_url) as app:
        sent = app.send_task("enrollment.recent_batches", [1], asked, queue="lookups")
        with pytest.raises(Exception, match=words):
            sent.get(timeout=20)


def test_a_mark_with_unknown_fields_is_still_read(
    deployment: Deployment, client: EnrollmentClient
) -> None:
    name = f"newer-{uuid.uuid4()}"
    more = {**SubmissionMark(kind=Kind.STUDENTS, chunks=3).model_dump(), "priority": 7}
    with Redis.from_url(deployment.broker_url) as redis:
        for key in (Keys().request(name), Keys().batch(name)):
            redis.set(key, json.dumps(more), ex=MARK_SECONDS)
    assert client.status(name).state == "queued"
    assert client.batch(name).chunks_missing == 3


# --- A newer worker meets this producer -----------------------------------------------------


PROBLEM = {"code": "unknown_course", "message": "m", "course_id": "C", "severity": 3}
OUTCOME = {
    "request_id": "r",
    "student_id": "S",
    "status": "rejected",
    "errors": [PROBLEM],
    "completed_at": "2030-01-01T00:00:00Z",
    "decided_by": {"worker": 9},
}
STATUS = {"request_id": "r", "state": "done", "result": OUTCOME, "history": []}
CAUSE = {"causes": ["spaces"], "message": "m", "ids": 1, "count": 1, "certain": True}
GROUP = {"code": "unknown_course", "message": "m", "count": 1, "first_lines": [2], "example": "e"}
BATCH = {"batch_id": "b", "state": "running", "books": {"received": 2, "waiting": 1}, "owner": "x"}
STUDENT = {"id": 1, "sis_id": "S", "name": None, "email": None, "courses": [], "phone": "1"}
REFUSED = {"id": 1, "line": 2, "code": "unknown_course", "message": "m", "hint": "h"}
REQUEST = {"student_id": "S", "course_ids": ["C"]}
HEALTH = {
    "version": "9.0.0",
    "now": "2030-01-01T00:00:00Z",
    "database": "ready",
    "identity": {"id": "a", "number": 1, "place": "p", "timeline": 3},
    "findings": [{"check": "c", "state": "ok", "found": "f", "since": 1}],
    "processes": 4,
}

CALLS: dict[str, tuple[Any, Callable[[EnrollmentClient], Any]]] = {
    "enroll": (OUTCOME, lambda client: client.enroll(REQUEST)),
    "status": ([STATUS], lambda client: client.status("r")),
    "batch": ([BATCH], lambda client: client.batch("b")),
    "causes": (
        [{**BATCH, "refusals": [{**GROUP, "likely_causes": [CAUSE]}]}],
        lambda client: client.batch("b"),
    ),
    "batch_page": (
        {"batches": [BATCH], "next": ["2030-01-01T00:00:00Z", "b"], "total": 3},
        lambda client: client.batch_page(),
    ),
    "results": ([[OUTCOME]], lambda client: client.results("S")),
    "student": ([STUDENT], lambda client: client.student("S")),
    "refusals": ([REFUSED], lambda client: next(client.refusals("b"))),
    "health": (HEALTH, lambda client: client.health()),
    "submit_batch": (
        {"kind": "students", "fingerprints": [None] * 1000, "complete": False},
        lambda client: client.submit_batch(Kind.STUDENTS, [{"sis_id": "S"}], batch_id="b"),
    ),
}
BEYOND: dict[str, Any] = {
    "enroll": {**OUTCOME, "errors": [{**PROBLEM, "code": "course_full"}]},
    "status": [{**STATUS, "state": "waiting_for_approval"}],
    "batch": [{**BATCH, "kind": "sections"}],
    "batch_page": {"batches": [{**BATCH, "kind": "sections"}], "next": None},
    "results": [[{**OUTCOME, "status": "wait_listed"}]],
    "student": [{**STUDENT, "courses": [{"id": "a key that is text"}]}],
    "refusals": [{**REFUSED, "code": "course_full"}],
    "health": {**HEALTH, "database": "asleep"},
    "submit_batch": {"kind": "sections", "fingerprints": []},
}


@contextmanager
def newer_worker(broker_url: str, answer: Any) -> Iterator[EnrollmentClient]:
    """Answers every lookup as a newer worker might, in the key where Celery stores results."""
    over = threading.Event()

    def work() -> None:
        with Redis.from_url(broker_url) as redis:
            while not over.is_set():
                taken: Any = redis.brpop(["lookups", "enrollments"], 0.2)
                if taken:
                    task_id = json.loads(taken[1])["headers"]["id"]
                    meta = {"status": "SUCCESS", "result": answer, "task_id": task_id}
                    redis.set(f"celery-task-meta-{task_id}", json.dumps(meta), ex=60)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with EnrollmentClient(broker_url, timeout=20) as client:
            yield client
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("call", CALLS)
def test_a_result_with_unknown_fields_is_understood(own_broker_url: str, call: str) -> None:
    answer, ask = CALLS[call]
    with newer_worker(own_broker_url, answer) as client:
        assert ask(client) is not None


@pytest.mark.parametrize("call", BEYOND)
def test_a_result_that_cannot_be_understood_asks_for_an_upgrade(
    own_broker_url: str, call: str
) -> None:
    _, ask = CALLS[call]
    with newer_worker(own_broker_url, BEYOND[call]) as client:
        with pytest.raises(
            AnswerNotUnderstood, match="newer version; upgrade the client"
        ) as caught:
            ask(client)
        assert "pydantic" not in str(caught.value)


def test_the_errors_of_an_older_worker_are_shown_without_likely_causes(own_broker_url: str) -> None:
    with newer_worker(own_broker_url, [{**BATCH, "state": "done", "refusals": [GROUP]}]):
        done = invoke_enroll("errors", "b", ENROLL_BROKER_URL=own_broker_url)
    assert "unknown_course" in done.stdout
    assert "Likely causes" not in done.stdout


def test_the_doctor_understands_an_older_worker(own_broker_url: str) -> None:
    older = {key: HEALTH[key] for key in ("version", "now", "database")}
    with newer_worker(own_broker_url, older):
        done = invoke_enroll("doctor", "--broker", own_broker_url, "--timeout", "5", "--json")
    assert '"found":"as the worker sees it: ready."' in done.stdout


def test_a_submit_does_not_wait_for_a_worker_of_another_version(
    own_broker_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "courses.csv"
    file.write_text("sis_id,title\nC,Logic\n")
    variables = {"ENROLL_BROKER_URL": own_broker_url, "XDG_STATE_HOME": str(tmp_path)}
    with newer_worker(own_broker_url, BEYOND["batch"]):
        done = invoke_enroll("submit", str(file), **variables)
    assert done.exit_code == 3
    assert "upgrade the client" in done.stderr


def test_a_result_that_is_not_json_is_reported(own_broker_url: str) -> None:
    with Redis.from_url(own_broker_url) as redis, EnrollmentClient(own_broker_url) as client:
        over = threading.Event()

        def scribble() -> None:
            while not over.is_set():
                taken: Any = redis.brpop(["lookups"], 0.2)
                if taken:
                    task_id = json.loads(taken[1])["headers"]["id"]
                    redis.set(f"celery-task-meta-{task_id}", "<xml/>", ex=60)

        thread = threading.Thread(target=scribble)
        thread.start()
        with pytest.raises(LookupFailed, match=r"The result in the Redis key .* cannot be read"):
            client.status("x")
        over.set()
        thread.join()
