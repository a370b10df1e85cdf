"""Every new connection is checked before its first transaction."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from producer.contract.identity import DatabaseIdentity
from support.databases import store_roster, url_of
from support.pgbouncer import running_pgbouncer
from worker.database import engine
from worker.database.engine import Database
from worker.database.errors import Meaning, is_answer, meaning_of
from worker.database.guard import DatabaseRefused, GuardedDatabase
from worker.database.refusal import Refusal

NOT_THIS_ONE = Refusal("the workers use another database", "Use that one.")


def connect(database: Database) -> None:
    with database.reading() as connection:
        connection.execute(text("SELECT 1"))


@pytest.fixture
def seen() -> list[DatabaseIdentity]:
    return []


@pytest.fixture
def guarded(database: Database, seen: list[DatabaseIdentity]) -> Any:
    """A guarded database, which admits what it sees until a test says otherwise."""
    made = GuardedDatabase(url_of(database), seen.append)
    yield made
    made.close()


def test_a_connection_is_checked_once(guarded: Database, seen: list[DatabaseIdentity]) -> None:
    for _ in range(3):
        connect(guarded)
    assert len(seen) == 1
    guarded.close()
    connect(guarded)
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_a_refused_database_sees_no_transaction_and_no_attempt_is_counted(
    database: Database,
) -> None:
    refusing = GuardedDatabase(url_of(database), lambda _: NOT_THIS_ONE)
    for _ in range(2):
        with pytest.raises(DBAPIError, match="the workers use another database") as caught:
            store_roster(refusing, ["S"], [])
        assert isinstance(caught.value.orig, DatabaseRefused)
        assert caught.value.orig.refusal == NOT_THIS_ONE
        assert meaning_of(caught.value) is Meaning.REFUSED
        assert is_answer(caught.value)
    refusing.close()


def test_a_refused_database_may_be_admitted_later(database: Database) -> None:
    answers = [NOT_THIS_ONE, None]
    waiting = GuardedDatabase(url_of(database), lambda _: answers.pop(0))
    with pytest.raises(DBAPIError):
        connect(waiting)
    connect(waiting)
    waiting.close()


def test_a_key_that_is_lost_while_the_worker_runs_stops_new_connections(
    database: Database, guarded: Database, new_database: Callable[[str], str]
) -> None:
    connect(guarded)
    guarded.close()
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE student_courses RENAME TO aside"))
    with pytest.raises(DBAPIError, match="the table student_courses is missing"):
        connect(guarded)
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE aside RENAME TO student_courses"))
    connect(guarded)


def test_a_key_that_is_dropped_is_noticed_although_connections_stay_open(
    database: Database, new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RECYCLE_SECONDS", 0)
    guarded = GuardedDatabase(url_of(database), lambda _: None)
    connect(guarded)
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE student_courses RENAME TO aside"))
    time.sleep(0.01)
    with pytest.raises(DBAPIError, match="the table student_courses is missing"):
        connect(guarded)
    guarded.close()


def test_connections_through_a_pooler_are_checked(
    new_database: Callable[[str], str], seen: list[DatabaseIdentity]
) -> None:
    with running_pgbouncer(new_database("postgresql")) as pooled:
        made = GuardedDatabase(f"{pooled}?pool_mode=transaction", seen.append)
        for _ in range(20):
            store_roster(made, ["S"], ["C"])
            connect(made)
        made.close()
    assert len(seen) == 1


def test_a_forked_process_checks_its_own_connections(
    guarded: Database, seen: list[DatabaseIdentity]
) -> None:
    connect(guarded)
    guarded.close()
    child = os.fork()
    if child == 0:
        try:
            seen.clear()
            connect(guarded)
            os._exit(len(seen))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
