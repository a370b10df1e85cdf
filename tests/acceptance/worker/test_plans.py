"""Plans by real workers: whichever finds one due goes on with it, and no message has to arrive."""

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis
from sqlalchemy import update

from producer.client import EnrollmentClient
from producer.contract.batches import BatchState
from producer.contract.plans import Decision, PlanState, PlanStatus
from producer.contract.routing import Queue, TaskName
from producer.schemas import Kind
from support.chunks import pairs, status
from support.databases import dead_letters, enrolled_pairs, opened_database
from support.databases import store_roster as store_roster_in
from support.staging import MOMENT, chunks_of, request, stage
from support.waiting import wait_for
from support.workers import Deployment, running_worker
from worker.database.engine import Database
from worker.plan_models import PlanRow
from worker.plans.decisions import decide
from worker.plans.reports.lookups import plan_status

HELD = request(hold="always")
STUDENTS = [f"S{n}" for n in range(30)]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    return new_database(request.param)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with opened_database(database_url) as opened:
        store_roster_in(opened, STUDENTS, ["C1", "C2"])
        yield opened


@pytest.fixture
def start(valkey: str, database_url: str, tmp_path: Path) -> Iterator[Callable[[], Deployment]]:
    """Starts a worker with two processes; all of them end with the test."""
    with ExitStack() as stack:

        def start_worker() -> Deployment:
            log = tmp_path / f"worker-{uuid.uuid4().hex}.log"
            options = ("--loglevel=INFO", "--concurrency=2")
            return stack.enter_context(running_worker(valkey, database_url, log, *options))

        yield start_worker


@pytest.fixture
def redis(valkey: str) -> Iterator[Redis]:
    with Redis.from_url(valkey) as connected:
        yield connected


def message(task: str, *arguments: Any) -> str:
    task_id = uuid.uuid4().hex
    body = json.dumps([list(arguments), {}, {}])
    return json.dumps(
        {
            "body": body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": task, "id": task_id},
            "properties": {
                "correlation_id": task_id,
                "delivery_info": {"routing_key": "decisions"},
            },
        }
    )


def reaches(
    database: Database, state: PlanState, plan_id: str = "b", seconds: float = 60
) -> PlanStatus:
    wait_for(lambda: plan_status(database, plan_id).state is state, seconds)
    return plan_status(database, plan_id)


def first_letter(database: Database) -> Any:
    wait_for(lambda: bool(dead_letters(database)), seconds=30)
    (letter,) = dead_letters(database)
    return letter


def test_chunks_that_arrive_are_planned_held_decided_about_and_applied(
    database: Database, valkey: str, redis: Redis, start: Callable[[], Deployment]
) -> None:
    chunks = chunks_of(HELD, *[[pairs(name, "C1")] for name in STUDENTS])
    texts = [
        message(TaskName.ENROLL_BATCH, each.model_dump_json(exclude_unset=True)) for each in chunks
    ]
    redis.lpush(Queue.BATCHES.value, *reversed(texts), *texts[:3])
    start()
    held = reaches(database, PlanState.HELD)
    assert held.batches[0].books.enrolled == len(STUDENTS)
    assert enrolled_pairs(database) == set()
    with EnrollmentClient(valkey, timeout=30) as client:
        assert client.plan("b") == held
        assert client.batch("b").state is BatchState.HELD
        approved = client.decide("b", Decision.APPROVE, str(held.digest))
        assert approved.state is not PlanState.HELD
        reaches(database, PlanState.DONE)
        assert client.batch("b").state is BatchState.DONE
    assert enrolled_pairs(database) == {(name, "C1") for name in STUDENTS}
    assert dead_letters(database) == []


def test_the_timer_alone_finishes_a_plan(
    database: Database, start: Callable[[], Deployment]
) -> None:
    """What was stored, and what was decided, while no worker was there."""
    for each in chunks_of(HELD, [pairs("S1", "C1")], [pairs("S2", "C1")]):
        stage(database, each)
    start()
    held = reaches(database, PlanState.HELD)
    decide(database, "b", Decision.APPROVE, held.digest)
    reaches(database, PlanState.DONE)
    assert enrolled_pairs(database) == {("S1", "C1"), ("S2", "C1")}


@pytest.mark.parametrize("queue", [Queue.ENROLLMENTS, Queue.BATCHES, Queue.LOOKUPS])
def test_a_decision_counts_only_from_the_queue_of_decisions(
    database: Database, redis: Redis, start: Callable[[], Deployment], queue: Queue
) -> None:
    stage(database, chunks_of(HELD, [pairs("S1", "C1")])[0])
    start()
    held = reaches(database, PlanState.HELD)
    decision = {"plan_id": "b", "decision": "approve", "digest": held.digest}
    redis.lpush(queue.value, message(TaskName.DECIDE, decision))
    letter = first_letter(database)
    assert "publish it to the queue decisions" in letter.detail
    assert plan_status(database, "b") == held
    redis.lpush(Queue.DECISIONS.value, message(TaskName.DECIDE, decision))
    reaches(database, PlanState.DONE)


def test_nothing_but_a_decision_counts_from_the_queue_of_decisions(
    database: Database, redis: Redis, start: Callable[[], Deployment]
) -> None:
    start()
    asked = {"student_id": "S1", "course_ids": ["C1"]}
    redis.lpush(Queue.DECISIONS.value, message(TaskName.ENROLL, asked))
    letter = first_letter(database)
    assert "is not a decision" in letter.detail
    assert enrolled_pairs(database) == set()


def kill(deployment: Deployment) -> None:
    """Kill a worker with all its processes, as if its machine had stopped."""
    processes = psutil.Process(deployment.process.pid).children(recursive=True)
    os.kill(deployment.process.pid, signal.SIGKILL)
    for process in processes:
        process.kill()


def end_leases(database: Database) -> None:
    """Let the time pass for which a lost worker still holds its plans."""
    with database.writing() as connection:
        connection.execute(update(PlanRow).where(PlanRow.due_at.is_not(None)).values(due_at=MOMENT))


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.8, 1.5])
def test_a_worker_that_is_killed_only_delays_a_plan(
    database: Database, start: Callable[[], Deployment], redis: Redis, seconds: float
) -> None:
    package = request(("s", Kind.STUDENTS), ("b", Kind.ENROLLMENTS))
    (students,) = chunks_of(package, [{"sis_id": f"N{n}"} for n in range(500)], batch_id="s")
    groups = [[pairs(f"N{n}", "C1", "C2") for n in range(at, at + 10)] for at in range(0, 500, 10)]
    lost = start()
    for kind, each in [
        (TaskName.UPSERT_STUDENTS, students),
        *((TaskName.ENROLL_BATCH, each) for each in chunks_of(package, *groups)),
    ]:
        redis.lpush(Queue.BATCHES.value, message(kind, each.model_dump_json(exclude_unset=True)))
    time.sleep(seconds)
    kill(lost)
    end_leases(database)
    start()
    done = reaches(database, PlanState.DONE)
    assert done.differences == ()
    assert len(enrolled_pairs(database)) == 1000
    assert dead_letters(database) == []


def test_two_workers_share_the_work_and_do_nothing_twice(
    database: Database, start: Callable[[], Deployment]
) -> None:
    plans = [request((f"b{n}", Kind.ENROLLMENTS)) for n in range(8)]
    for plan in plans:
        groups = [[pairs(name, "C1"), pairs(name, "C2")] for name in STUDENTS[:5]]
        for each in chunks_of(plan, *groups, batch_id=plan.id):
            stage(database, each)
    start()
    start()
    for plan in plans:
        reaches(database, PlanState.DONE, plan.id)
    reports = [plan_status(database, plan.id).batches[0].books for plan in plans]
    ledgers = [status(database, plan.id).books for plan in plans]
    assert [books.received for books in ledgers] == [10] * 8
    assert [books.not_applied for books in ledgers] == [0] * 8
    assert sum(books.enrolled for books in ledgers) == 10
    assert [books.received for books in reports] == [10] * 8
    assert len(enrolled_pairs(database)) == 10
