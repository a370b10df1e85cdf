"""The last statement of a transaction and its COMMIT travel together, on PostgreSQL."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from support.waiting import wait_for
from worker.database.engine import Database, transaction
from worker.database.errors import is_outage, sqlstate_of
from worker.database.last_write import LastStatement, LastWrite, commit_with
from worker.database.sets import last_insert
from worker.models import Course

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def insert(sis_id: str) -> LastStatement:
    statement = last_insert(Course, ("sis_id", "title"), (sis_id, None))
    assert statement is not None
    return statement


def courses(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.scalars(text("SELECT sis_id FROM courses ORDER BY sis_id")))


def add(connection: Connection, sis_id: str) -> None:
    connection.execute(text("INSERT INTO courses (sis_id) VALUES (:sis_id)"), {"sis_id": sis_id})


def test_the_last_statement_is_committed_with_those_before_it(database: Database) -> None:
    meanwhile: list[str] = []
    with database.writing() as connection:
        add(connection, "M1")
        commit_with(connection, insert('M"2\\'), lambda: meanwhile.append("done"))
    assert courses(database) == ['M"2\\', "M1"]
    assert meanwhile == ["done"]


def test_a_statement_that_fails_undoes_the_whole_transaction(database: Database) -> None:
    with database.writing() as connection:
        add(connection, "M1")

    def write() -> None:
        with database.writing() as connection:
            add(connection, "M2")
            commit_with(connection, insert("M1"), lambda: None)

    with pytest.raises(IntegrityError) as refused:
        write()
    assert sqlstate_of(refused.value) == "23505"
    assert "M1" not in str(refused.value).splitlines()[0]
    with database.writing() as connection:
        commit_with(connection, insert("M3"), lambda: None)
    assert courses(database) == ["M1", "M3"]


def test_what_fails_meanwhile_does_not_undo_the_commit(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.writing() as connection:
        commit_with(connection, insert("M1"), lambda: 1 // 0)
    with database.writing() as connection:
        commit_with(connection, insert("M2"), lambda: None)
    assert courses(database) == ["M1", "M2"]


def test_a_lost_connection_is_an_outage_and_is_replaced(database: Database) -> None:
    def write() -> None:
        with database.writing() as connection:
            own = connection.scalar(text("SELECT pg_backend_pid()"))
            with database.engine.begin() as other:
                other.execute(text("SELECT pg_terminate_backend(:own, 10000)"), {"own": own})
            commit_with(connection, insert("M1"), lambda: None)

    with pytest.raises(DBAPIError) as lost:
        write()
    assert is_outage(lost.value)
    with database.writing() as connection:
        commit_with(connection, insert("M2"), lambda: None)
    assert courses(database) == ["M2"]


class Interrupted(Exception):
    """What a signal raises, as Celery's soft time limit does."""


@pytest.fixture
def interruptible() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("interruptible")
def test_no_later_statement_gets_the_reply_to_an_interrupted_one(database: Database) -> None:
    def interrupt_once_it_waits() -> None:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'")
        with database.engine.connect() as watcher:
            wait_for(lambda: bool(watcher.scalar(waiting)))
        os.kill(os.getpid(), signal.SIGUSR1)

    with ThreadPoolExecutor(1) as threads, database.engine.begin() as other:
        add(other, "M1")
        done = threads.submit(interrupt_once_it_waits)
        with pytest.raises(Interrupted), database.writing() as connection:
            commit_with(connection, insert("M1"), lambda: None)
        done.result(60)
    with database.writing() as connection:
        assert connection.scalar(text("SELECT 5")) == 5
    assert courses(database) == ["M1"]


class EndsEarly:
    """A connection of libpq on which a signal arrives before the COMMIT is sent."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def send_query_params(self, sql: bytes, *parameters: Any) -> None:
        if sql == b"COMMIT":
            raise Interrupted
        self._server.send_query_params(sql, *parameters)


def test_an_interruption_before_all_is_sent_waits_for_no_reply(database: Database) -> None:
    def write() -> None:
        with database.writing() as connection:
            driver: Any = connection.connection.driver_connection
            driver.pgconn = EndsEarly(driver.pgconn)
            commit_with(connection, insert("M1"), lambda: None)

    with pytest.raises(Interrupted):
        write()
    with database.writing() as connection:
        commit_with(connection, insert("M2"), lambda: None)
    assert courses(database) == ["M2"]


def test_an_old_libpq_takes_the_usual_way(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psycopg.capabilities, "has_pipeline", lambda: False)
    last = LastWrite[str](statement=lambda *_: pytest.fail("it is sent"), write=add)
    transaction(database, lambda _: "M1", last)
    assert courses(database) == ["M1"]


def test_a_value_that_cannot_be_sent_as_it_is_takes_the_usual_way(database: Database) -> None:
    assert last_insert(Course, ("sis_id", "title"), ("M\0", None)) is None
    assert courses(database) == []
