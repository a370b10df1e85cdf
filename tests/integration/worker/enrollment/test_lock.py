"""Transactions that enroll and those that drop, at the same time. Both databases, or PostgreSQL."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from support.databases import store_roster
from support.postgres import server_of
from support.stopwatch import Stopwatch
from support.waiting import wait_for
from worker.database import enrollment_lock
from worker.database.engine import LOCK_SECONDS, SETTINGS, Database
from worker.database.errors import (
    LOCK_NOT_AVAILABLE,
    EnrollmentsBusy,
    Meaning,
    meaning_of,
    sqlstate_of,
)
from worker.enrollment.incoming import IncomingRequest, read_request
from worker.models import StudentCourse
from worker.service import add_enrollments

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture(autouse=True)
def roster(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrollment_lock, "_pause", enrollment_lock._Pause())  # noqa: SLF001 - each test begins without one
    store_roster(database, "A", ["M1", "M2"])


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(60) as pool:
        yield pool


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def request(name: str, minute: float, field: str, *courses: str) -> IncomingRequest:
    record = {"request_id": name, "student_id": "A", field: list(courses or ["M1"])}
    return read_request(name, [record], {}, at(minute))


def enroll(name: str, minute: float) -> IncomingRequest:
    return request(name, minute, "course_ids")


def drop(name: str, minute: float) -> IncomingRequest:
    return request(name, minute, "drop_course_ids")


def decide(database: Any, *requests: IncomingRequest) -> list[str]:
    decided = add_enrollments(database, requests, clock=lambda: at(600)).decided
    return [decision.result.status.value for decision in decided]


def is_enrolled(database: Database) -> bool:
    with database.reading() as connection:
        return connection.execute(select(StudentCourse)).first() is not None


def is_let_in(database: Database, dropping: IncomingRequest) -> bool:
    """Return whether a drop is done; False while this process does not try again."""
    try:
        return decide(database, dropping) == ["dropped"]
    except EnrollmentsBusy:
        return False


def waits(database: Database) -> bool:
    with database.reading() as connection:
        return bool(connection.scalar(text(WAITS)))


@pytest.fixture(params=["read committed", "repeatable read", "serializable"])
def isolated(
    database: Database, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """The database, with an operator's default for the isolation of all new sessions.

    At any but "read committed", a transaction would see what was there when it began to wait.
    """
    with database.engine.connect() as connection:
        name = connection.engine.url.database
        setting = f"default_transaction_isolation = '{request.param}'"
        connection.execute(text(f'ALTER DATABASE "{name}" SET {setting}'))
        connection.commit()
    # The test ends each wait; a slow machine must not be later than the end of all waits.
    monkeypatch.setitem(SETTINGS, "lock_timeout", "60s")
    made = Database(database.url)
    yield made
    made.close()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("confirmed", "status"), [(3, "superseded"), (1, "dropped")])
def test_a_drop_waits_for_a_confirmation_and_sees_it(
    isolated: Database, threads: ThreadPoolExecutor, confirmed: int, status: str
) -> None:
    database = isolated
    decide(database, enroll("first", 0))
    with database.writing() as connection:
        assert decide(connection, enroll("confirms", confirmed)) == ["enrolled"]
        dropping = threads.submit(decide, database, drop("drops", 2))
        wait_for(lambda: waits(database))
    assert dropping.result(60) == [status]
    assert is_enrolled(database) is (status == "superseded")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("before", [[], [enroll("first", 0)]])
@pytest.mark.parametrize(("minute", "status"), [(3, "enrolled"), (1, "superseded")])
def test_an_enrollment_waits_for_a_drop_and_sees_it(
    isolated: Database,
    threads: ThreadPoolExecutor,
    before: list[IncomingRequest],
    minute: int,
    status: str,
) -> None:
    database = isolated
    decide(database, *before)
    with database.writing() as connection:
        decide(connection, drop("drops", 2))
        enrolling = threads.submit(decide, database, enroll("enrolls", minute))
        wait_for(lambda: waits(database))
    assert enrolling.result(60) == [status]
    assert is_enrolled(database) is (status == "enrolled")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_drop_that_others_do_not_let_in_is_given_back_and_stops_nobody(
    database: Database, threads: ThreadPoolExecutor
) -> None:
    with database.writing() as connection:  # As in a worker that is frozen in a transaction.
        decide(connection, enroll("frozen", 1))
        watch = Stopwatch(os.getpid(), server_of(connection), families=True)
        with pytest.raises(EnrollmentsBusy) as busy:
            decide(database, drop("drops", 2))
        assert time.monotonic() - watch.started >= LOCK_SECONDS - 0.5
        assert watch.seconds() <= LOCK_SECONDS + 3
        assert meaning_of(busy.value) is Meaning.REFUSED
        # For a while, this process does not try again: that would stop those that enroll.
        with pytest.raises(EnrollmentsBusy):
            decide(database, drop("drops", 2))
        assert not waits(database)
        others = [request(f"other-{n}", n, "course_ids", "M2") for n in range(5)]
        assert decide(database, *others) == ["enrolled"] * 5
    wait_for(lambda: is_let_in(database, drop("drops", 2)))


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_an_enrollment_that_a_drop_does_not_let_in_is_given_back(database: Database) -> None:
    with database.writing() as connection:
        decide(connection, drop("frozen", 1))
        watch = Stopwatch(os.getpid(), server_of(connection), families=True)
        with pytest.raises(OperationalError) as busy:
            decide(database, enroll("waits", 2))
        assert time.monotonic() - watch.started >= LOCK_SECONDS - 0.5
        assert watch.seconds() <= LOCK_SECONDS + 1
        assert meaning_of(busy.value) is Meaning.REFUSED
        assert sqlstate_of(busy.value) == LOCK_NOT_AVAILABLE
    assert decide(database, enroll("waits", 2)) == ["enrolled"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_transaction_that_begins_with_the_lock_is_like_any_other(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("SET SESSION default_transaction_isolation = 'serializable'"))
    with suppress(ZeroDivisionError), database.writing() as connection:
        enrollment_lock.lock_enrollments(connection, exclusive=False)
        assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
        assert connection.scalar(text("SELECT count(*) FROM pg_locks WHERE mode = 'ShareLock'"))
        connection.execute(text("DELETE FROM courses"))
        raise ZeroDivisionError
    assert decide(database, enroll("later", 2)) == ["enrolled"]
    with database.writing() as connection:
        assert (
            connection.scalar(text("SELECT count(*) FROM pg_locks WHERE mode = 'ShareLock'")) == 0
        )


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_broken_connection_is_an_outage_when_the_lock_is_taken(database: Database) -> None:
    with database.writing() as connection:
        own = connection.scalar(text("SELECT pg_backend_pid()"))
    with psycopg.connect(database.url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [own])
    with pytest.raises(DBAPIError) as broken:
        decide(database, enroll("broken", 2))
    assert meaning_of(broken.value) is Meaning.STALE
    assert "server closed the connection" in str(broken.value)
    assert decide(database, enroll("broken", 2)) == ["enrolled"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("dropped", "is_last"), [(25.5, False), (60, True)])
def test_a_drop_races_fifty_enrollments_of_its_pair(
    database: Database, threads: ThreadPoolExecutor, seed: int, dropped: float, is_last: bool
) -> None:
    requests = [*(enroll(f"r{n}", n) for n in range(50)), drop("drops", dropped)]
    Random(seed).shuffle(requests)  # noqa: S311 - chance with a seed
    gate = threading.Event()

    def run(incoming: IncomingRequest) -> None:
        gate.wait()
        while True:
            try:
                decide(database, incoming)
            except EnrollmentsBusy:
                time.sleep(0.1)
            else:
                return

    running: list[Future[None]] = [threads.submit(run, incoming) for incoming in requests]
    gate.set()
    for done in running:
        done.result(60)
    assert is_enrolled(database) is not is_last


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_clock_that_is_ahead_of_the_databases_hides_no_confirmation(database: Database) -> None:
    now = datetime.now(UTC) + timedelta(minutes=6)

    def decide_ahead(name: str, field: str, seconds: float) -> str:
        moment = now - timedelta(seconds=seconds)
        record = {"request_id": name, "student_id": "A", field: ["M1"]}
        sent = read_request(name, [record], {}, moment)
        (decision,) = add_enrollments(database, [sent], clock=lambda: now).decided
        return decision.result.status.value

    assert decide_ahead("enrolls", "course_ids", 9) == "enrolled"
    assert decide_ahead("confirms", "course_ids", 1) == "enrolled"
    assert decide_ahead("drops", "drop_course_ids", 5) == "superseded"
    assert decide_ahead("drops last", "drop_course_ids", 0) == "dropped"
