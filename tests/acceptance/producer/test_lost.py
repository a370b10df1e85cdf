"""Submitters learn that the broker no longer has their requests or batches."""

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS
from producer.contract.routing import Queue
from producer.errors import SubmissionLost
from producer.publishing import connection
from producer.schemas import Kind, RequestState
from support.commands import CANNOT_FINISH, GOOD, REFUSED, run_python
from support.handover import Published, stopped_with_messages
from support.http import serving
from support.paths import ROOT
from support.rosters import enter_roster
from support.stopwatch import Stopwatch
from support.waiting import wait_for
from support.workers import Deployment, running_worker
from worker.batches.state import STALLED_SECONDS
from worker.messaging.backlog import LOST_SECONDS

pytestmark = pytest.mark.one_database

REQUEST = {"student_id": "S", "course_ids": ["C"]}


@pytest.fixture
def redis(fresh_deployment: Deployment) -> Iterator[Redis]:
    with Redis.from_url(fresh_deployment.broker_url) as connected:
        yield connected


@pytest.fixture
def client(fresh_deployment: Deployment) -> Iterator[EnrollmentClient]:
    with EnrollmentClient(fresh_deployment.broker_url, timeout=20) as connected:
        enter_roster(connected, ["S"], ["C"])
        yield connected


def stopped(
    deployment: Deployment, redis: Redis, publish: Callable[[], Published]
) -> AbstractContextManager[Published]:
    """Stop the worker once it has been given what `publish` publishes; what follows waits."""

    def count_waiting() -> int:
        return sum(map(redis.llen, Queue))

    return stopped_with_messages(deployment.process.pid, count_waiting, publish)


def submit_another_batch(client: EnrollmentClient) -> None:
    client.submit_batch(Kind.COURSES, [{"sis_id": "C2"}])


def purge(deployment: Deployment, *options: str) -> None:
    """Purge the queues, as an operator does."""
    command = ("-m", "celery", "-A", "worker", "purge", "--force", *options)
    done = run_python(*command, env=deployment.environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def age(redis: "Redis", key: str, seconds: float) -> None:
    """Make a mark older."""
    redis.expire(key, MARK_SECONDS - round(seconds))


def states(client: EnrollmentClient, *request_ids: str) -> list[RequestState]:
    return [status.state for status in client.statuses(request_ids)]


def test_a_purged_request_is_distinguished_from_one_that_waits(
    fresh_deployment: Deployment, client: EnrollmentClient, redis: Redis, tmp_path: Path
) -> None:
    with stopped(fresh_deployment, redis, lambda: client.submit(REQUEST)) as held:
        purged = client.submit(REQUEST)
        purge(fresh_deployment)
        waiting = client.submit(REQUEST)
        for request_id in (held, purged, waiting):
            age(redis, Keys().request(request_id), LOST_SECONDS + 1)
    wait_for(lambda: states(client, held, waiting) == ["done", "done"])
    status = client.status(purged)
    assert status.state == "unknown"
    assert status.advice is not None
    assert "under the same id" in status.advice
    shown = fresh_deployment.enroll("status", purged, expect=REFUSED)
    assert status.advice in " ".join(shown.stdout.split())
    with serving(fresh_deployment.environment, tmp_path / "serve.log") as (url, _):
        lost = httpx.get(f"{url}/requests/{purged}", timeout=30)
        assert (lost.status_code, lost.json()["code"]) == (404, "lost_request")
        assert lost.json()["detail"] == status.advice
    client.submit({**REQUEST, "request_id": purged})
    wait_for(lambda: states(client, purged) == ["done"])
    assert client.status(purged).advice is None


def test_a_request_is_not_lost_while_a_dead_worker_holds_it(
    fresh_deployment: Deployment, client: EnrollmentClient, redis: Redis
) -> None:
    """Nothing but the lookup of a second worker sees the request, in the first one's slot."""
    seen = set()
    with stopped(fresh_deployment, redis, lambda: client.submit(REQUEST)) as held:
        age(redis, Keys().request(held), LOST_SECONDS + 1)
        urls = (fresh_deployment.broker_url, fresh_deployment.database_url)
        log = fresh_deployment.log.with_name("second.log")
        with running_worker(*urls, log, "--concurrency=2"):

            def is_done() -> bool:
                status = client.status(held)
                seen.add(status.state)
                return status.state is RequestState.DONE

            wait_for(is_done)
    assert RequestState.UNKNOWN not in seen


def test_waiting_for_a_lost_request_ends_with_the_advice(
    fresh_deployment: Deployment,
    client: EnrollmentClient,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CHECK_SECONDS", 0.2)
    errors: list[Exception] = []

    def enroll(request_id: str) -> None:
        try:
            client.enroll({**REQUEST, "request_id": request_id}, timeout=60)
        except SubmissionLost as error:
            errors.append(error)

    def lose(request_id: str, *keys: str) -> None:
        with stopped(fresh_deployment, redis, lambda: client.submit(REQUEST)):
            thread = threading.Thread(target=enroll, args=(request_id,))
            thread.start()
            wait_for(lambda: redis.llen(Queue.ENROLLMENTS) == 1)
            redis.delete(Queue.ENROLLMENTS, *keys)
            age(redis, Keys().request(request_id), LOST_SECONDS + 1)
        watch = Stopwatch(os.getpid(), fresh_deployment.process.pid, families=True)
        thread.join()
        assert watch.seconds() < 30

    lose("purged")
    lose("lost with its mark", Keys().request("lost with its mark"))
    assert [type(error) for error in errors] == [SubmissionLost] * 2
    assert all("under the same id" in str(error) for error in errors)


def test_a_batch_whose_chunks_are_lost_is_reported_and_ends_the_wait(
    fresh_deployment: Deployment, client: EnrollmentClient, redis: Redis, tmp_path: Path
) -> None:
    path = tmp_path / "courses.csv"
    path.write_text("sis_id,title\nC1,Logic\n")
    with stopped(fresh_deployment, redis, lambda: submit_another_batch(client)):
        submit = fresh_deployment.start_enroll("submit", "--timeout", "60", path)
        wait_for(lambda: redis.llen(Queue.BATCHES) == 1)
        assert submit.stderr is not None
        name = submit.stderr.readline().split("batch ")[1].split()[0]
        purge(fresh_deployment, "--queues", Queue.BATCHES)
        age(redis, Keys().batch(name), STALLED_SECONDS + 1)
    _, err = submit.communicate(timeout=120)
    assert submit.returncode == CANNOT_FINISH, err
    assert "1 chunk was lost" in err
    status: Any = client.batch(name)
    assert (status.state, status.chunks_missing, status.chunks_lost) == ("stalled", 1, 1)
    again = fresh_deployment.enroll("submit", path, "--resume", expect=GOOD)
    assert name in again.stdout
    assert client.batch(name).chunks_lost == 0


def test_a_batch_with_a_chunk_among_the_dead_letters_ends_the_wait(
    fresh_deployment: Deployment, client: EnrollmentClient, redis: Redis, tmp_path: Path
) -> None:
    path = tmp_path / "courses.csv"
    path.write_text("sis_id,title\nC1,Logic\n")

    with stopped(fresh_deployment, redis, lambda: submit_another_batch(client)):
        submit = fresh_deployment.start_enroll("submit", "--timeout", "60", path)
        wait_for(lambda: redis.llen(Queue.BATCHES) == 1)
        assert submit.stderr is not None
        name = submit.stderr.readline().split("batch ")[1].split()[0]
        spoil_newest_chunk(redis)
    _, err = submit.communicate(timeout=120)
    assert submit.returncode == CANNOT_FINISH, err
    assert "became a dead letter" in err
    assert "correct them and submit them again" in err
    status = client.batch(name)
    assert (status.chunks_failed, status.chunks_missing) == (1, 1)
    # An earlier dead letter does not end a wait that succeeds.
    assert name in fresh_deployment.enroll("submit", path, "--resume").stdout


def spoil_newest_chunk(redis: Redis) -> None:
    """Make a chunk that waits one that no worker accepts, as a faulty client would."""
    message: Any = json.loads(cast(bytes, redis.lpop(Queue.BATCHES)))
    body = json.loads(base64.b64decode(message["body"]))
    body[0][0] = body[0][0].replace('"number":0', '"number":-1')
    message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    redis.lpush(Queue.BATCHES, json.dumps(message))
