"""What an error means: about the records, a stale connection, or a database that refuses."""

import sqlite3
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.errors import lookup
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, TimeoutError  # noqa: A004

from worker.database.errors import (
    Meaning,
    is_answer,
    is_conflict,
    is_outage,
    meaning_of,
    outage_of,
    refusal_of,
    sentence_of,
    sqlstate_of,
)

STATES = sorted(
    {
        error.sqlstate
        for error in vars(psycopg.errors).values()
        if isinstance(error, type) and issubclass(error, psycopg.Error) and error.sqlstate
    }
)
"""Every SQLSTATE of PostgreSQL that the driver knows, about 260."""


def wrapped(error: Exception, base: type[Exception] = psycopg.Error) -> DBAPIError:
    """Return what SQLAlchemy raises for an error of the driver."""
    made = DBAPIError.instance("INSERT", None, error, base)
    assert isinstance(made, DBAPIError)
    return made


def from_server(state: str, message: str = "no") -> DBAPIError:
    return wrapped(lookup(state)(message))


def full_sqlite() -> DBAPIError:
    """Return the error of an SQLite database that has no room for another page."""
    with create_engine("sqlite://").connect() as connection:
        connection.execute(text("PRAGMA max_page_count = 1"))
        try:
            connection.execute(text("CREATE TABLE t (x)"))
        except DBAPIError as error:
            return error
    raise AssertionError("the table was created")


@pytest.mark.parametrize("state", STATES)
def test_only_bad_data_and_broken_constraints_are_the_fault_of_the_records(state: str) -> None:
    is_about_records = meaning_of(from_server(state)) is Meaning.RECORD
    assert is_about_records == state.startswith(("22", "23"))
    assert is_outage(from_server(state)) == (not is_about_records)


@pytest.mark.parametrize(
    "state",
    [
        *("08000", "08003", "08006", "08P01", "25006", "25P03", "25P04", "26000", "42P05"),
        *("57P01", "57P02", "57P03", "57P04", "57P05"),
    ],
)
def test_a_wrong_server_or_a_lost_session_needs_a_new_connection(state: str) -> None:
    assert meaning_of(from_server(state)) is Meaning.STALE


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("cached plan must not change result type", Meaning.STALE),
        ("SET ROLE is not supported", Meaning.REFUSED),
    ],
)
def test_a_changed_column_makes_prepared_statements_stale(message: str, meaning: Meaning) -> None:
    assert meaning_of(from_server("0A000", message)) is meaning


@pytest.mark.parametrize("state", ["42501", "42P01", "42703", "3F000", "55P03", "57014", "53100"])
def test_what_an_operator_took_away_or_locked_is_waited_for(state: str) -> None:
    assert meaning_of(from_server(state)) is Meaning.REFUSED


@pytest.mark.parametrize("state", ["08006", "57P01", "57P03", "53300"])
def test_without_a_database_to_ask_lookups_fail_too(state: str) -> None:
    assert not is_answer(from_server(state))
    assert is_answer(from_server("42501"))
    assert outage_of(from_server("42501")) == "The database refuses to work"
    unreachable = wrapped(psycopg.OperationalError("connection refused"))
    assert not is_answer(unreachable)
    assert outage_of(unreachable) == "The database is unavailable"


@pytest.mark.parametrize(
    "error",
    [
        from_server("53100", "could not extend file: No space left on device"),
        from_server("53200", "out of memory"),
        full_sqlite(),
    ],
)
def test_clients_see_that_the_database_has_no_room(error: Exception) -> None:
    assert refusal_of(error) == f"The database is unavailable: {sentence_of(error)}"
    assert refusal_of(from_server("53300", "too many connections for role secret")) is None


def test_a_limit_of_one_session_does_not_make_the_database_unavailable() -> None:
    too_large = from_server("53400", "temporary file size exceeds the limit")
    assert meaning_of(too_large) is Meaning.REFUSED
    assert is_answer(too_large)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (psycopg.OperationalError("the connection is lost"), Meaning.STALE),
        (psycopg.InterfaceError("the connection is closed"), Meaning.STALE),
        (psycopg.InternalError("lost synchronization with server"), Meaning.STALE),
        (psycopg.DatabaseError("server closed the connection"), Meaning.STALE),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL"), Meaning.RECORD),
        (psycopg.ProgrammingError("cannot adapt type 'object'"), Meaning.RECORD),
    ],
)
def test_what_the_driver_finds_out_by_itself(error: psycopg.Error, meaning: Meaning) -> None:
    assert meaning_of(wrapped(error)) is meaning
    assert meaning_of(error) is meaning


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("x"), MemoryError(), SystemExit()])
def test_an_error_of_our_own_code_is_about_the_records(error: BaseException) -> None:
    assert meaning_of(error) is Meaning.RECORD


def test_a_pool_without_a_free_connection_is_not_the_fault_of_the_records() -> None:
    assert is_outage(TimeoutError("QueuePool limit of size 5 overflow 10 reached"))


def run(*statements: str) -> Callable[[], None]:
    def work() -> None:
        engine = create_engine("sqlite://")
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    return work


@pytest.mark.parametrize(
    ("work", "meaning"),
    [
        (run("CREATE TABLE t (i INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1), (1)"), "record"),
        (
            run(
                "CREATE TABLE students (sis_id TEXT NOT NULL)",
                "INSERT INTO students VALUES (NULL)",
            ),
            "record",
        ),
        (run("CREATE TABLE t (i INTEGER NOT NULL)", "INSERT INTO t VALUES (NULL)"), "refused"),
        (run("SELECT * FROM nowhere"), "stale"),
        (run("CREATE TABLE t (i)", "PRAGMA query_only = 1", "INSERT INTO t VALUES (1)"), "stale"),
        (run("CREATE TABLE t (i)", "PRAGMA max_page_count = 1", "CREATE TABLE u (i)"), "stale"),
    ],
)
def test_sqlite_has_no_states_and_its_errors_are_told_by_their_type(
    work: Callable[[], None], meaning: str
) -> None:
    with pytest.raises(DBAPIError) as caught:
        work()
    assert meaning_of(caught.value) == meaning


def test_the_reason_is_the_databases_own_sentence_without_links() -> None:
    error = from_server("42P01", 'relation "t" does not exist\nLINE 1: SELECT * FROM t')
    assert "sqlalche.me" in str(error)
    assert sentence_of(error) == 'relation "t" does not exist'
    assert sqlstate_of(error) == "42P01"
    assert sentence_of(wrapped(sqlite3.OperationalError("disk I/O error"), sqlite3.Error)) == (
        "disk I/O error"
    )
    assert sentence_of(ValueError("a\nb")) == "ValueError: a"
    assert sentence_of(ValueError()) == "ValueError: ValueError"


@pytest.mark.parametrize("state", ["26000", "42P05"])
def test_an_error_that_a_pooler_causes_names_the_setting(state: str) -> None:
    error = from_server(state, 'prepared statement "_pg3_0" already exists')
    assert sentence_of(error).startswith('prepared statement "_pg3_0" already exists. ')
    assert "add pool_mode=transaction to ENROLL_DATABASE_URL" in sentence_of(error)


@pytest.mark.parametrize(
    ("state", "conflict"), [("40001", True), ("40P01", True), ("23505", True), ("42501", False)]
)
def test_conflicts_are_told_from_other_errors(state: str, *, conflict: bool) -> None:
    assert is_conflict(from_server(state)) is conflict


class Broken(psycopg.errors.IntegrityError):
    """A broken rule, as PostgreSQL describes it."""

    def __init__(self, state: str, **fields: str) -> None:
        super().__init__("a rule is broken")
        self.sqlstate = state
        self._fields = fields

    @property
    def diag(self) -> Any:
        names = ("table_name", "column_name", "constraint_name")
        return SimpleNamespace(**{name: self._fields.get(name) for name in names})


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (Broken("23502", table_name="student_courses", column_name="extra"), Meaning.REFUSED),
        (Broken("23502", table_name="student_courses", column_name="course_id"), Meaning.RECORD),
        (Broken("23502", table_name="students", column_name="name"), Meaning.REFUSED),
        (Broken("23514", constraint_name="no_rows"), Meaning.REFUSED),
        (Broken("23505", constraint_name="one_course_each"), Meaning.REFUSED),
        (Broken("23505", constraint_name="pk_student_courses"), Meaning.RECORD),
        (Broken("23505", constraint_name="uq_students_sis_id"), Meaning.RECORD),
        (
            Broken("23503", constraint_name="fk_student_courses_student_id_students"),
            Meaning.RECORD,
        ),
        (Broken("23000"), Meaning.RECORD),
        (sqlite3.IntegrityError("NOT NULL constraint failed: students.extra"), Meaning.REFUSED),
        (sqlite3.IntegrityError("NOT NULL constraint failed: students.sis_id"), Meaning.RECORD),
        (sqlite3.IntegrityError("CHECK constraint failed: no_rows"), Meaning.REFUSED),
        (sqlite3.IntegrityError("UNIQUE constraint failed: students.sis_id"), Meaning.RECORD),
    ],
)
def test_a_rule_that_is_not_ours_is_not_the_fault_of_the_records(
    error: Exception, meaning: Meaning
) -> None:
    assert meaning_of(error) is meaning
