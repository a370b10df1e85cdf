"""What an operator does to PostgreSQL is never the message's fault: it is logged and waited out.

Each fault strikes a running worker with two processes and its open connections, and is then
repaired; nothing is refused, and no process is restarted.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from producer.client import EnrollmentClient
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import Decision, PlanState, PlanStatus
from producer.errors import LookupFailed
from producer.schemas import Kind, RequestState, ResultStatus
from support.databases import dead_letters_at, enrolled_pairs, opened_database
from support.pgbouncer import running_pgbouncer
from support.rosters import enter_roster, finished
from support.standby import running_pair
from support.stopwatch import Stopwatch
from support.waiting import wait_for
from support.workers import running_worker
from worker import migrate
from worker.data_sets.repository import allow_snapshots, data_set_key
from worker.database.engine import LOCK_SECONDS, make_engine
from worker.undo.run import undo

STUDENTS = [f"S{number}" for number in range(40)]
COURSES = [f"C{number}" for number in range(40)]

Operator = Callable[[str], None]
"""Runs a statement as the owner of the database."""

ROLE = "enrollment_worker"


@pytest.fixture
def owner_url(new_database: Callable[[str], str]) -> str:
    return new_database("postgresql")


@pytest.fixture
def operator(owner_url: str) -> Operator:
    def run(statement: str) -> None:
        with psycopg.connect(owner_url, autocommit=True) as connection:
            connection.execute(statement)

    return run


@pytest.fixture
def database_url(owner_url: str, operator: Operator) -> Iterator[str]:
    """The URL of a role that may use all tables, and owns none."""
    operator(f"CREATE ROLE {ROLE} LOGIN")
    operator(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}")
    operator(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}")
    before, _, after = owner_url.partition("://")
    yield f"{before}://{ROLE}@{after.rpartition('@')[2]}"
    operator(f"DROP OWNED BY {ROLE}")
    operator(f"DROP ROLE {ROLE}")


@pytest.fixture
def client(valkey: str) -> Iterator[EnrollmentClient]:
    with EnrollmentClient(valkey, timeout=30) as connected:
        yield connected


@contextmanager
def struck(operator: Operator, strike: list[str], repair: list[str]) -> Iterator[None]:
    for statement in strike:
        operator(statement)
    try:
        yield
    finally:
        for statement in repair:
            operator(statement)


END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'enrollment_worker'"
)

RAISE = "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not now''; END'"

REFUSALS: dict[str, tuple[list[str], list[str], str]] = {
    "right to write": (
        [f"REVOKE INSERT ON student_courses FROM {ROLE}"],
        [f"GRANT INSERT ON student_courses TO {ROLE}"],
        "permission denied for table student_courses",
    ),
    "right to read": (
        ["REVOKE SELECT ON students FROM enrollment_worker"],
        [f"GRANT SELECT ON students TO {ROLE}"],
        "permission denied for table students",
    ),
    "schema": (
        ["ALTER SCHEMA public RENAME TO aside"],
        ["ALTER SCHEMA aside RENAME TO public"],
        "does not exist",
    ),
    "table": (
        ["ALTER TABLE enrollment_results RENAME TO aside"],
        ["ALTER TABLE aside RENAME TO enrollment_results"],
        'relation "enrollment_results" does not exist',
    ),
    "columns": (
        [
            "ALTER TABLE batch_chunks RENAME COLUMN rows TO aside",
            "ALTER TABLE courses RENAME COLUMN title TO aside",
        ],
        [
            "ALTER TABLE batch_chunks RENAME COLUMN aside TO rows",
            "ALTER TABLE courses RENAME COLUMN aside TO title",
        ],
        "does not exist",
    ),
    "read-only": (
        [f"ALTER ROLE {ROLE} SET default_transaction_read_only = on", END_SESSIONS],
        [f"ALTER ROLE {ROLE} RESET default_transaction_read_only"],
        "in a read-only transaction",
    ),
    "trigger": (
        [
            RAISE,
            "CREATE TRIGGER no BEFORE INSERT ON student_courses EXECUTE FUNCTION no()",
        ],
        ["DROP TRIGGER no ON student_courses", "DROP FUNCTION no()"],
        "not now",
    ),
}
"""What strikes, what repairs, and a part of the database's own sentence."""


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_refusal_of_the_database_is_logged_in_its_own_words_and_waited_out(
    valkey: str,
    database_url: str,
    owner_url: str,
    operator: Operator,
    client: EnrollmentClient,
    tmp_path: Path,
) -> None:
    once = {"ENROLL_MAX_ATTEMPTS": "1"}  # A faulty message would have one attempt.
    log = tmp_path / "worker.log"
    with running_worker(valkey, database_url, log, "--concurrency=2", settings=once) as made:
        enter_roster(client, STUDENTS, COURSES)
        for number, (strike, repair, sentence) in enumerate(REFUSALS.values()):
            with struck(operator, strike, repair):
                before = log.read_text()
                submitted = submit_work(client, number)
                wait_for(lambda: sentence in log.read_text()[len(before) :])  # noqa: B023
                requeued, often = "task requeued", 3 * len(STUDENTS)
                wait_for(lambda: log.read_text()[len(before) :].count(requeued) > often)  # noqa: B023
            assert_all_enrolled(client, *submitted, owner_url)
        assert made.process.poll() is None


def submit_work(client: EnrollmentClient, number: int) -> tuple[list[str], str]:
    """Submit a request and a row of a batch for each student, for two courses of this number.

    Returns the ids of the requests and of the batch.
    """
    single, batched = COURSES[2 * number : 2 * number + 2]
    ids = client.submit_all([{"student_id": s, "course_ids": [single]} for s in STUDENTS])
    rows = [{"student_id": s, "course_ids": [batched]} for s in STUDENTS]
    return ids, client.submit_batch(Kind.ENROLLMENTS, rows).batch_id


def assert_all_enrolled(
    client: EnrollmentClient, ids: list[str], batch_id: str, owner_url: str
) -> None:
    wait_for(lambda: all(s.state == RequestState.DONE for s in client.statuses(ids)))
    results = [status.result for status in client.statuses(ids)]
    assert {result.status for result in results if result} == {ResultStatus.ENROLLED}
    books = finished(client, batch_id).books
    assert (books.enrolled, books.rejected) == (len(STUDENTS), 0)
    assert dead_letters_at(owner_url) == []


def test_the_status_of_waiting_work_gives_the_reason(
    valkey: str,
    database_url: str,
    owner_url: str,
    operator: Operator,
    client: EnrollmentClient,
    tmp_path: Path,
) -> None:
    strike, repair, sentence = REFUSALS["right to write"]
    with running_worker(valkey, database_url, tmp_path / "worker.log", "--concurrency=2"):
        enter_roster(client, STUDENTS, ["C1", "C2"])
        with struck(operator, strike, repair):
            request_id = client.submit({"student_id": "S1", "course_ids": ["C1"]})
            batch = client.submit_batch(
                Kind.ENROLLMENTS, [{"student_id": s, "course_ids": ["C2"]} for s in STUDENTS]
            )
            wait_for(lambda: sentence in (client.status(request_id).advice or ""))
            wait_for(lambda: sentence in (client.batch(batch.batch_id).advice or ""))
        assert_all_enrolled(client, [request_id], batch.batch_id, owner_url)
        assert client.status(request_id).advice is None


@contextmanager
def locked(owner_url: str, table: str) -> Iterator[None]:
    with psycopg.connect(owner_url) as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_lock_of_another_session_refuses_nothing_and_does_not_silence_lookups(
    valkey: str,
    database_url: str,
    owner_url: str,
    operator: Operator,
    client: EnrollmentClient,
    tmp_path: Path,
) -> None:
    lookups: list[Callable[[], Any]] = [
        lambda: client.student("S1"),
        lambda: client.results("S1"),
        lambda: client.batch("another"),
        lambda: client.status("another"),
        client.health,
    ]
    settings = {"student_courses": "0", "enrollment_results": "30s", "students": "1ms"}
    with running_worker(valkey, database_url, tmp_path / "worker.log", "--concurrency=2") as made:
        enter_roster(client, STUDENTS, COURSES)
        for number, (table, setting) in enumerate(settings.items()):
            operator(f"ALTER ROLE {ROLE} SET lock_timeout = '{setting}'")
            operator(END_SESSIONS)
            with locked(owner_url, table):
                submitted = submit_work(client, number)
                end = time.monotonic() + 3 * LOCK_SECONDS
                while time.monotonic() < end:
                    for lookup in lookups:
                        watch = Stopwatch(os.getpid(), made.process.pid, families=True)
                        with suppress(LookupFailed):  # A lookup that needs the table fails.
                            lookup()
                        assert watch.seconds() < 5
            assert_all_enrolled(client, *submitted, owner_url)
        assert "lock timeout" in made.log.read_text()


SETTINGS = [
    "statement_timeout = '5ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "transaction_timeout = '5ms'",
    "lock_timeout = '1ms'",
    "DateStyle = 'German, DMY'",
    "TimeZone = 'Asia/Kathmandu'",
    "IntervalStyle = 'iso_8601'",
    "client_encoding = 'LATIN1'",
    "idle_session_timeout = '50ms'",
]


def test_no_setting_of_an_operator_stops_a_chunk(
    valkey: str,
    database_url: str,
    owner_url: str,
    operator: Operator,
    client: EnrollmentClient,
    tmp_path: Path,
) -> None:
    with running_worker(valkey, database_url, tmp_path / "worker.log", "--concurrency=2"):
        enter_roster(client, [{"sis_id": s, "name": "Zoë Łem"} for s in STUDENTS], COURSES)
        for number, setting in enumerate(SETTINGS):
            operator(f"ALTER ROLE {ROLE} SET {setting}")
            operator(END_SESSIONS)
            assert_all_enrolled(client, *submit_work(client, number), owner_url)
            student = client.student("S1")
            assert student is not None
            assert student.name == "Zoë Łem"
            assert abs(student.courses[-1].enrolled_at.timestamp() - time.time()) < 60


def test_a_widened_column_does_not_break_the_statements_that_are_prepared(
    valkey: str,
    database_url: str,
    owner_url: str,
    operator: Operator,
    client: EnrollmentClient,
    tmp_path: Path,
) -> None:
    with running_worker(valkey, database_url, tmp_path / "worker.log", "--concurrency=2"):
        enter_roster(client, STUDENTS, ["C1", "C2"])
        for _ in range(20):  # The driver prepares what it has run five times, in each process.
            client.student("S1")
            client.results("S1")
        operator("ALTER TABLE students ALTER COLUMN name TYPE text")
        operator("ALTER TABLE courses ALTER COLUMN title TYPE varchar(400)")
        for _ in range(20):
            client.student("S1")
            client.results("S1")
        ids = client.submit_all([{"student_id": s, "course_ids": ["C1"]} for s in STUDENTS])
        batch = client.submit_batch(
            Kind.ENROLLMENTS, [{"student_id": s, "course_ids": ["C2"]} for s in STUDENTS]
        )
        assert_all_enrolled(client, ids, batch.batch_id, owner_url)


def test_behind_pgbouncer_in_transaction_mode_everything_works(
    valkey: str, owner_url: str, client: EnrollmentClient, tmp_path: Path
) -> None:
    with running_pgbouncer(owner_url, default_pool_size=2) as pooled:
        url = f"{pooled}?pool_mode=transaction"
        log = tmp_path / "worker.log"
        with running_worker(valkey, url, log, "--concurrency=4"):
            enter_roster(client, STUDENTS, ["C1", "C2"])
            ids = client.submit_all([{"student_id": s, "course_ids": ["C1"]} for s in STUDENTS])
            for name in STUDENTS:
                assert client.student(name) is not None
            batch = client.submit_batch(
                Kind.ENROLLMENTS, [{"student_id": s, "course_ids": ["C2"]} for s in STUDENTS]
            )
            assert_all_enrolled(client, ids, batch.batch_id, owner_url)
            plan_approve_and_undo(client, url)
            text = log.read_text()
            assert "prepared statement" not in text
            assert "Traceback" not in text


def plan_approve_and_undo(client: EnrollmentClient, database_url: str) -> None:
    """Plan two snapshots of a term, hold the second one, approve it, and undo it."""
    enter_roster(client, [], ["TERM"])

    def plan(name: str, students: Sequence[str], **fields: Any) -> PlanStatus:
        members = (PlanMember(batch_id=name, kind=Kind.ENROLLMENTS),)
        request = PlanRequest(id=name, members=members, snapshot=True, **fields)
        records = [{"student_id": s, "course_ids": ["TERM"]} for s in students]
        client.submit_batch(Kind.ENROLLMENTS, records, plan=request, data_set="term")
        client.wait(name, timeout=60)
        return client.plan(name)

    with opened_database(database_url) as database:
        with database.writing() as connection:
            allow_snapshots(connection, data_set_key(connection, "term", datetime.now(UTC)))
        dry_run = plan("dry-run", STUDENTS, purpose=PlanPurpose.REPORT)
        assert dry_run.state is PlanState.PLANNED
        assert dry_run.batches[0].books.enrolled == len(STUDENTS)
        first = plan("first", STUDENTS, purpose=PlanPurpose.APPLY)
        assert first.state is PlanState.DONE
        assert first.batches == (dry_run.batches[0].model_copy(update={"batch_id": "first"}),)
        before = enrolled_pairs(database)
        second = plan("second", STUDENTS[:2], purpose=PlanPurpose.APPLY, hold="always")
        assert second.state is PlanState.HELD
        assert enrolled_pairs(database) == before
        client.decide("second", Decision.APPROVE, second.digest or "")
        client.wait("second", timeout=60)
        assert before - enrolled_pairs(database) == {(s, "TERM") for s in STUDENTS[2:]}
        undo(database, "second")
        assert enrolled_pairs(database) == before


@pytest.mark.parametrize("way", ["a name that moves", "a list of servers"])
def test_after_a_failover_the_worker_goes_on_at_the_new_primary(
    way: str, postgres_server: Any, valkey: str, client: EnrollmentClient, tmp_path: Path
) -> None:
    with running_pair(postgres_server.system_user) as pair:
        url = pair.url()
        if way == "a list of servers":
            hosts = [f"host=127.0.0.1:{node.port}" for node in (pair.standby, pair.primary)]
            options = "&".join([*hosts, "target_session_attrs=read-write"])
            url = f"postgresql://postgres@/postgres?{options}"
        engine = make_engine(url)
        migrate.upgrade(engine)
        engine.dispose()
        log = tmp_path / "worker.log"
        with running_worker(valkey, url, log, "--concurrency=2") as made:
            enter_roster(client, STUDENTS, ["C1", "C2"])
            pair.wait_for_standby()
            pair.change_places()
            ids = client.submit_all([{"student_id": s, "course_ids": ["C1"]} for s in STUDENTS])
            batch = client.submit_batch(
                Kind.ENROLLMENTS, [{"student_id": s, "course_ids": ["C2"]} for s in STUDENTS]
            )
            if way == "a name that moves":
                refused = "in a read-only transaction"
                wait_for(lambda: refused in (tmp_path / "worker.log").read_text())
                pair.name.lead_to(pair.primary.port)
            watch = Stopwatch(os.getpid(), made.process.pid, families=True)
            assert_all_enrolled(client, ids, batch.batch_id, url)
            assert watch.seconds() < 10
