"""How long PostgreSQL lets a transaction or a reader wait for locks of other sessions."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from support.databases import opened_database
from worker.database import lock_waits
from worker.database.engine import Database
from worker.database.errors import is_lock
from worker.database.guard import GuardedDatabase
from worker.database.lock_waits import HURRY_WAIT, LATE_WAIT

USUAL = "2s"


@pytest.fixture(params=["pool_mode=session", "pool_mode=transaction"])
def database(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> Iterator[Database]:
    """A worker's database, in each mode in which a pooler may lend its connections."""
    url = new_database("postgresql")
    separator = "&" if "?" in url else "?"
    with closing(GuardedDatabase(url + separator + request.param, lambda _: None)) as made:
        yield made


def wait_of(connection: Connection) -> str:
    return str(connection.execute(text("SHOW lock_timeout")).scalar_one())


def meet_lock(database: Database) -> None:
    """Wait for a lock that another session holds, until PostgreSQL ends the wait."""
    with database.writing() as other:
        other.execute(text("LOCK TABLE courses IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(OperationalError) as error:
            read_with_little_patience(database)
    assert is_lock(error.value)


def read_with_little_patience(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '1ms'"))
        connection.execute(text("SELECT FROM courses"))


def test_a_transaction_that_has_waited_long_waits_less_for_each_further_lock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.writing() as connection:
        assert wait_of(connection) == USUAL
        monkeypatch.setattr(lock_waits, "LATE_SECONDS", 0)
        assert wait_of(connection) == f"{LATE_WAIT}s"
        monkeypatch.undo()
    with database.writing() as connection:
        assert wait_of(connection) == USUAL
    with database.reading() as connection:
        assert wait_of(connection) == USUAL


def test_a_command_of_an_operator_waits_for_each_lock_as_long_as_before(
    new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrations do so, too: no lookup waits for their process."""
    monkeypatch.setattr(lock_waits, "LATE_SECONDS", 0)
    with opened_database(new_database("postgresql")) as database, database.writing() as connection:
        assert wait_of(connection) == USUAL


def test_readers_wait_less_after_a_lock_was_held_for_too_long(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet_lock(database)
    with database.reading() as connection:
        assert wait_of(connection) == f"{HURRY_WAIT}ms"
    # The same session waits as usual for a transaction, and for readers once some time has passed.
    with database.writing() as connection:
        assert wait_of(connection) == USUAL
    monkeypatch.setattr(lock_waits, "HURRY_SECONDS", 0)
    with database.reading() as connection:
        assert wait_of(connection) == USUAL


def test_a_reader_that_fails_in_a_hurry_leaves_its_session_as_it_was(database: Database) -> None:
    meet_lock(database)
    with database.reading() as connection, pytest.raises(ProgrammingError):
        connection.execute(text("SELECT FROM nowhere"))
    with database.writing() as connection:
        assert wait_of(connection) == USUAL
    with pytest.raises(OperationalError), database.reading() as connection:
        # The session ends, so its setting cannot be undone.
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with database.writing() as connection:
        assert wait_of(connection) == USUAL
