"""Single requests that wait together are decided together, by a real worker."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.routing import Queue, TaskName
from producer.schemas import Code, Kind, RequestState
from support.rosters import submit_and_finish
from support.waiting import wait_for
from support.workers import running_worker
from worker.database.engine import make_engine
from worker.messaging.grouping import MAX_GROUP

HOLD = "SHARE ROW EXCLUSIVE"
"""PostgreSQL's weakest lock that excludes writers, and other transactions that take it."""

STUDENTS = [f"S{number}" for number in range(300)]


@pytest.fixture
def database_url(new_database: Callable[[str], str]) -> str:
    return new_database("postgresql")


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
def redis(valkey: str) -> Iterator[Redis]:
    with Redis.from_url(valkey) as connected:
        yield connected


@pytest.fixture
def client(valkey: str) -> Iterator[EnrollmentClient]:
    with EnrollmentClient(valkey, timeout=30) as connected:
        yield connected


def load_roster(client: EnrollmentClient) -> None:
    submit_and_finish(client, Kind.STUDENTS, [{"sis_id": name} for name in STUDENTS])
    courses = [{"sis_id": name} for name in ("C1", "KILLS", "RAISES")]
    submit_and_finish(client, Kind.COURSES, courses)


def requests(course: str = "C1") -> list[dict[str, Any]]:
    """Return a request for each student."""
    return [{"student_id": name, "course_ids": [course]} for name in STUDENTS]


def is_done(client: EnrollmentClient, ids: list[str]) -> bool:
    return all(status.state == "done" for status in client.statuses(ids))


def statuses_of(client: EnrollmentClient, ids: list[str]) -> Counter[str]:
    """Count the statuses of results."""
    found = client.statuses(ids)
    return Counter(status.result.status.value for status in found if status.result)


def logged(log: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines of a worker's log about an event."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if re.search(event, line["event"])]


def test_requests_that_are_submitted_at_once_are_decided_in_groups(
    start: Callable[..., Any], client: EnrollmentClient
) -> None:
    with start() as worker:
        load_roster(client)
        ids = client.submit_all(requests())
        wait_for(lambda: is_done(client, ids))
        assert statuses_of(client, ids) == {"enrolled": 300}
    decided = logged(worker.log, "request decided")
    assert sorted(line["request_id"] for line in decided) == sorted(ids)
    sizes = [line.get("together", 1) for line in decided]
    assert 1 < max(sizes) <= MAX_GROUP
    assert len([size for size in sizes if size > 1]) > 200
    # The log has a line for each request of a group.
    assert all(count % size == 0 for size, count in Counter(sizes).items())


@pytest.mark.parametrize("poison", ["RAISES", "KILLS"])
def test_a_poisoned_request_in_a_group_harms_no_other(
    start: Callable[..., Any],
    client: EnrollmentClient,
    redis: Redis,
    database_url: str,
    poison: str,
) -> None:
    at_once = requests()[:60]
    at_once[30]["course_ids"] = [poison]
    with (
        start(app="support.apps.poisoned") as worker,
        held_table(database_url) as release,
    ):
        load_roster(client)
        # While the first request waits for the table, the others form a group.
        first = client.submit({"student_id": "S299", "course_ids": ["C1"]})
        wait_for(lambda: states(client, [first]) == {RequestState.RUNNING})
        ids = client.submit_all(at_once)
        wait_for(lambda: redis.llen(Queue.ENROLLMENTS) == 0)
        release()
        wait_for(lambda: is_done(client, [first, *ids]), 90)
        assert statuses_of(client, [first, *ids]) == {"enrolled": 60, "rejected": 1}
        refused = client.status(ids[30]).result
    assert refused is not None
    assert [problem.code for problem in refused.errors] == [Code.NOT_PROCESSED]
    decided = logged(worker.log, "request decided")
    assert sorted(line["request_id"] for line in decided) == sorted([first, *ids])
    assert {line.get("together", 1) for line in decided} == {1}
    if poison == "RAISES":
        assert logged(worker.log, r"group of 60 requests failed \(ZeroDivisionError\)")


def test_a_listener_gets_one_signal_for_each_request_while_groups_form(
    start: Callable[..., Any], client: EnrollmentClient, tmp_path: Path
) -> None:
    spans = tmp_path / "spans"
    with start(app="support.apps.traced", SPANS=str(spans)) as worker:
        load_roster(client)
        ids = client.submit_all(requests())
        wait_for(lambda: is_done(client, ids))
        wait_for(lambda: lines_of_requests(spans, "run") == 300)
    assert max(line.get("together", 1) for line in logged(worker.log, "request decided")) > 1
    assert lines_of_requests(spans, "run") == lines_of_requests(spans, "success") == 300


def lines_of_requests(folder: Path, what: str) -> int:
    """Count the spans of requests that a worker has run, or their signals of success."""
    lines = [line for path in folder.glob("*.spans") for line in path.read_text().splitlines()]
    return len([line for line in lines if line.startswith(f"{what}/enrollment.enroll\t")])


# --- The status of a request until it is decided ----------------------------------------------


def test_a_request_is_queued_until_a_group_decides_it_and_then_running(
    start: Callable[..., Any],
    client: EnrollmentClient,
    redis: Redis,
    database_url: str,
) -> None:
    with start(), ExitStack() as stack, ThreadPoolExecutor(1) as other:
        load_roster(client)
        release = stack.enter_context(held_table(database_url))
        first = client.submit(requests()[0])
        wait_for(lambda: states(client, [first]) == {RequestState.RUNNING})
        gathered = client.submit_all(requests()[1:6])
        wait_for(lambda: redis.llen(Queue.ENROLLMENTS) == 0)
        assert states(client, gathered) == {RequestState.QUEUED}
        # Another transaction asks for the table, and gets it before the next group does.
        held_again = other.submit(stack.enter_context, held_table(database_url))
        wait_for(lambda: waiting_for_table(database_url) == 1)
        release()
        release = held_again.result(60)
        wait_for(lambda: states(client, gathered) == {RequestState.RUNNING})
        release()
        wait_for(lambda: is_done(client, [first, *gathered]))
        wait_for(lambda: not redis.exists(*map(Keys().request, [first, *gathered])))


def test_a_request_is_running_while_it_is_decided_alone(
    start: Callable[..., Any],
    client: EnrollmentClient,
    redis: Redis,
    database_url: str,
) -> None:
    with start(), held_table(database_url) as release:
        load_roster(client)
        submit_ungrouped(redis, {**requests()[0], "request_id": "alone"})
        wait_for(lambda: states(client, ["alone"]) == {RequestState.RUNNING})
        assert redis.exists(Keys().request("alone"))
        release()
        wait_for(lambda: is_done(client, ["alone"]))
        wait_for(lambda: not redis.exists(Keys().request("alone")))


def message(record: dict[str, Any], task_id: str, embedded: Any = None) -> dict[str, Any]:
    """Return a message as other systems publish it; `embedded` is the third part of its body."""
    return {
        "headers": {"task": TaskName.ENROLL.value, "id": task_id},
        "content-type": "application/json",
        "body": json.dumps([[record], {}, embedded]),
    }


def submit_ungrouped(redis: Redis, record: dict[str, Any]) -> None:
    """Submit a request as a message that joins no group: its third part is null, which is taken."""
    redis.lpush(Queue.ENROLLMENTS, json.dumps(message(record, "task-alone")))


def states(client: EnrollmentClient, ids: list[str]) -> set[RequestState]:
    return {status.state for status in client.statuses(ids)}


@contextmanager
def held_table(database_url: str) -> Iterator[Callable[[], None]]:
    """Let no worker write rows until the function that this yields is called."""
    engine = make_engine(database_url)
    try:
        with engine.connect() as connection:
            connection.execute(text(f"LOCK TABLE student_courses IN {HOLD} MODE"))
            yield connection.rollback
    finally:
        engine.dispose()


def waiting_for_table(database_url: str) -> int:
    """Count the transactions that wait for `held_table`."""
    statement = """SELECT count(*) FROM pg_locks WHERE NOT granted
        AND mode = 'ShareRowExclusiveLock' AND relation = 'student_courses'::regclass"""
    engine = make_engine(database_url)
    try:
        with engine.connect() as connection:
            return int(connection.scalar(text(statement)) or 0)
    finally:
        engine.dispose()
