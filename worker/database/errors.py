"""Decide what a database error means for the message whose work failed.

An error about the records of a message counts as a failed attempt of that message. Every other
error comes from the environment: the message is tried again, however long that takes. Other modules
read an error's code only through `sqlstate_of`.
"""

import re
import sqlite3
from enum import StrEnum

import psycopg
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError  # noqa: A004

from worker.models import Base


class EnrollmentsBusy(OperationalError):
    """Other transactions that enroll did not end in time, so a drop could not begin.

    Only this work is to be tried again later; everything else can go on.
    """

    def __init__(self, orig: BaseException) -> None:
        super().__init__(None, None, orig)


class Meaning(StrEnum):
    """What an error says about the message whose work failed."""

    RECORD = "record"
    """The records, or our own code: the attempt counts."""
    STALE = "stale"
    """The connection is broken, or leads to the wrong server: connect again."""
    REFUSED = "refused"
    """The database answers and refuses, for example for lack of a right: wait."""


RETRYABLE_STATES = ("40001", "40P01")
"""Serialization failure and deadlock: the whole transaction can simply be run again."""

_RECORD_CLASSES = ("22", "23")
"""The SQLSTATE classes of bad data and of broken constraints."""

_STALE_CLASSES = ("08", "57P")
"""The beginnings of the SQLSTATEs of broken connections and of servers that stop or start."""

_STALE_STATES = (
    "25006",  # The server is read-only: a standby, or a primary that became one.
    "25P02",  # A statement failed earlier in a transaction that is not ours: a pooler's.
    "25P03",  # The server ended the connection: idle in a transaction for too long.
    "25P04",  # The server ended the connection: the transaction took too long.
    "26000",  # The prepared statement does not exist: the session behind the pooler changed.
    "42P05",  # The prepared statement exists already, for the same reason.
)

_POOLED_STATES = ("26000", "42P05")
"""The errors of prepared statements behind a pooler that lends connections for one transaction."""

_POOLER = (
    "If a pooler lends connections for one transaction, such as PgBouncer with pool_mode ="
    " transaction, add pool_mode=transaction to ENROLL_DATABASE_URL (docs/operations/postgresql.md)"
)
"""What to do about these errors, which the database's own sentence does not say."""

LOCK_NOT_AVAILABLE = "55P03"
"""Another session held a lock for longer than `lock_timeout`."""

_OWN_LIMIT = "53400"
"""This session reached a limit that is set for each, such as `temp_file_limit`; others may work."""

_NO_ROOM = ("53100", "53200")
"""A disk is full, or memory: that of what this work needs, while others may work."""

_CACHED_PLAN = "0A000"
"""The error after a column of a prepared statement changed its type; others have it, too."""

_ABOUT_VALUES = (
    psycopg.DataError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""The errors without a SQLSTATE, from the driver or from SQLite, that are about the values."""


def meaning_of(error: BaseException) -> Meaning:
    """Return what an error means; an error that is not the database's is about the record."""
    cause = _cause(error)
    if isinstance(cause, TimeoutError):
        return Meaning.STALE  # No connection of our own pool became free.
    if not isinstance(cause, psycopg.Error | sqlite3.Error):
        return Meaning.RECORD
    state = sqlstate_of(error)
    if state is None:
        of_values = isinstance(cause, _ABOUT_VALUES)
        return _unless_foreign_rule(cause, Meaning.RECORD if of_values else Meaning.STALE)
    if state[:2] in _RECORD_CLASSES:
        return _unless_foreign_rule(cause, Meaning.RECORD)
    is_stale = state.startswith(_STALE_CLASSES) or state in _STALE_STATES
    if is_stale or (state == _CACHED_PLAN and "cached plan" in str(cause)):
        return Meaning.STALE
    return Meaning.REFUSED


_OUR_CONSTRAINTS = {
    str(name)
    for table in Base.metadata.tables.values()
    for name in (
        *(constraint.name for constraint in table.constraints),
        *(index.name for index in table.indexes),
    )
}
_OUR_REQUIRED_COLUMNS = {
    f"{table.name}.{column.name}"
    for table in Base.metadata.tables.values()
    for column in table.columns
    if not column.nullable
}
_OF_SQLITE = re.compile(r"(NOT NULL|CHECK) constraint failed: (\S+)")


def _unless_foreign_rule(cause: psycopg.Error | sqlite3.Error, meaning: Meaning) -> Meaning:
    return Meaning.REFUSED if _breaks_foreign_rule(cause) else meaning


def _breaks_foreign_rule(cause: psycopg.Error | sqlite3.Error) -> bool:
    """Return whether a row breaks a rule that was added to our tables from outside.

    The record is not at fault if every row breaks the rule, such as a required column that we do
    not know, or a condition.
    """
    if isinstance(cause, sqlite3.Error):
        found = _OF_SQLITE.match(str(cause))
        return found is not None and found[2] not in (*_OUR_REQUIRED_COLUMNS, *_OUR_CONSTRAINTS)
    if cause.sqlstate is None or not cause.sqlstate.startswith("23"):
        return False
    if cause.diag.constraint_name is not None:
        return cause.diag.constraint_name not in _OUR_CONSTRAINTS
    column = f"{cause.diag.table_name}.{cause.diag.column_name}"
    return cause.diag.column_name is not None and column not in _OUR_REQUIRED_COLUMNS


def is_outage(error: BaseException) -> bool:
    """Return whether the environment failed, and not the work: it may succeed later."""
    return meaning_of(error) is not Meaning.RECORD


def is_lock(error: BaseException) -> bool:
    """Return whether another session held a lock for longer than `lock_timeout`."""
    return sqlstate_of(error) == LOCK_NOT_AVAILABLE


def is_answer(error: BaseException) -> bool:
    """Return whether a database that is up gave this error: other work may succeed meanwhile.

    If not, no work can succeed now: the database is unreachable, starting, stopping, or out of
    connections, memory or disk space. SQLite sends no SQLSTATE, so none of its errors counts as an
    answer.
    """
    state = sqlstate_of(error)
    if state is None or state == _OWN_LIMIT:
        return state is not None
    return not state.startswith((*_STALE_CLASSES, "53"))


def is_conflict(error: DBAPIError) -> bool:
    """Return whether another transaction came first: the next run will see what it wrote."""
    return type(error).__name__ == "IntegrityError" or sqlstate_of(error) in RETRYABLE_STATES


def sqlstate_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error; None if the server did not send it."""
    state: str | None = getattr(_cause(error), "sqlstate", None)
    return state


def outage_of(error: BaseException) -> str:
    """Return what kind of outage an error is, as operators find it in the log and the runbook."""
    return "The database refuses to work" if is_answer(error) else "The database is unavailable"


def refusal_of(error: BaseException) -> str | None:
    """Return the sentence with which a database that is up refused to work, for any client.

    None if the database cannot be reached: the driver's sentence names hosts and users. A disk may
    be full that holds only what this work needs, such as temporary tables.
    """
    # SQLite's general error is that of a statement that does not fit the tables.
    code = getattr(_cause(error), "sqlite_errorcode", None)
    has_sentence = is_answer(error) or sqlstate_of(error) in _NO_ROOM
    if not has_sentence and code not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FULL):
        return None
    return f"{outage_of(error)}: {sentence_of(error).rstrip('.')}"


def sentence_of(error: BaseException) -> str:
    """Return an error in one line: the database's own sentence, or the error's type and text."""
    cause = _cause(error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    first = lines[0] if lines else type(cause).__name__
    if not isinstance(cause, psycopg.Error | sqlite3.Error):
        return f"{type(cause).__name__}: {first}"
    return f"{first}. {_POOLER}" if sqlstate_of(error) in _POOLED_STATES else first


def _cause(error: BaseException) -> BaseException:
    """Return the driver's error, which SQLAlchemy wraps; any other error is returned as it is."""
    driver_error: BaseException | None = getattr(error, "orig", None)
    return driver_error or error
