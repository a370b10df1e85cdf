"""Hold the lock and the time limits of migrations, and explain why a migration gave up.

`worker.migrate` and Alembic find the migrations and run them; nothing here knows what they change.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import DBAPIError

from worker.database.ask import through
from worker.database.encoding import wrong_encoding
from worker.database.engine import BUSY_SECONDS
from worker.database.errors import LOCK_NOT_AVAILABLE, sqlstate_of

log = logging.getLogger(__name__)

ADVISORY_LOCK = 0x656E726F6C6C
"""The key of PostgreSQL's advisory lock for migrations: "enroll" in ASCII.

Any number would do, as long as every version uses the same one and no other application in the same
database does. PostgreSQL keeps advisory locks apart by database.
"""

_POLL_SECONDS = 0.2
_QUERY_CANCELED = "57014"


@dataclass(frozen=True)
class Limits:
    """How long a migration of PostgreSQL may wait or run, in seconds.

    `turn` limits the wait for another migration of the same database. `lock` limits the wait for a
    lock on a table or row: later queries queue behind the waiting migration, so this is how long
    workers may be delayed. `statement` limits one statement, which may hold such a lock.
    """

    turn: float = 60
    lock: float = 5
    statement: float = 60


DEFAULT_LIMITS = Limits()


class MigrationBlocked(Exception):
    """A migration was not begun, or was stopped and rolled back; the text says what to do."""


@contextmanager
def migrating(engine: Engine, limits: Limits = DEFAULT_LIMITS) -> Iterator[Connection]:
    """Yield a connection for a migration, while no other migration of this database runs.

    On SQLite the connection is in a transaction, which holds the only lock for writing. On
    PostgreSQL it is not: Alembic begins the transaction, so that a migration can leave it with
    `autocommit_block`. The advisory lock is therefore held by a second connection.

    Raises MigrationBlocked, DBAPIError.
    """
    try:
        if engine.dialect.name == "sqlite":
            with engine.begin() as connection:
                yield connection
        else:
            with engine.connect() as guard, engine.connect() as connection:
                _require_utf8(guard)
                # A statement outside a transaction, such as CREATE INDEX CONCURRENTLY, takes as
                # long as it takes.
                connection.execute(_NO_LIMITS)
                connection.commit()
                _take_turn(guard, limits)
                try:
                    yield connection
                finally:
                    connection.invalidate()  # No later user inherits its settings.
    except DBAPIError as error:
        reason = _reason(engine, error)
        if reason is None:
            raise
        raise MigrationBlocked(reason) from error


def limit_statements(dialect: str, limits: Limits) -> tuple[str, ...]:
    """Return the statements that set the limits until the transaction ends."""
    if dialect != "postgresql":
        return ()
    return (
        f"SET LOCAL lock_timeout = {limits.lock * 1000:.0f}",
        f"SET LOCAL statement_timeout = {limits.statement * 1000:.0f}",
    )


def _require_utf8(connection: Connection) -> None:
    refusal = wrong_encoding(through(connection), connection.dialect.name)
    connection.rollback()
    if refusal is not None:
        raise MigrationBlocked(str(refusal))


def _take_turn(guard: Connection, limits: Limits) -> None:
    """Take the advisory lock; the transaction of `guard` then holds it.

    The lock is polled, because a waiting statement would keep a snapshot, and a `CREATE INDEX
    CONCURRENTLY` in the migration that has the lock would wait forever for that snapshot. Each
    attempt is its own transaction, so that a waiting migration occupies no connection behind a
    pooler, and the driver prepares no statement.
    """
    end = time.monotonic() + limits.turn
    warned = False
    while not guard.execute(_TRY_LOCK, {"key": ADVISORY_LOCK}).scalar_one():
        holders = _sessions(guard, _LOCK_HOLDERS, key=ADVISORY_LOCK)
        guard.rollback()
        if time.monotonic() >= end:
            raise MigrationBlocked(
                f"Another migration of this database did not end within {limits.turn:g} s"
                f"{holders}. Nothing was changed. Wait until it ends, then migrate again; if its"
                " process no longer exists, end its session first:"
                " SELECT pg_terminate_backend(PID)."
            )
        if not warned:
            log.warning("Another migration is running%s; waiting for it to end.", holders)
            warned = True
        time.sleep(_POLL_SECONDS)
    guard.execute(_STAY_IDLE)


def _reason(engine: Engine, error: DBAPIError) -> str | None:
    """Return the explanation of an error about a lock or a time limit, else None."""
    statement = " ".join((error.statement or "").split())[:120]
    state = sqlstate_of(error)
    if state == LOCK_NOT_AVAILABLE:
        with engine.connect() as connection:
            holders = _sessions(connection, _TABLE_HOLDERS, statement=statement)
        return (
            f"The migration gave up waiting for a lock (lock_timeout) at: {statement}. It was"
            f" rolled back. Sessions that use its tables{holders or ': none now'}. Wait until"
            " their transactions end, or end them: SELECT pg_terminate_backend(PID). Then"
            " migrate again."
        )
    if state == _QUERY_CANCELED:
        return (
            f"The migration ran into a time limit or was cancelled ({error.orig}) at: {statement}."
            " It was rolled back. Migrate again when the database is less busy. If it fails again,"
            " report it to the developers: the migration must raise its own limit."
        )
    if engine.dialect.name == "sqlite" and "database is locked" in str(error.orig):
        return (
            f"Another process held the SQLite database's write lock for {BUSY_SECONDS} s."
            " Nothing was changed. Stop that process or wait until it has finished, then migrate"
            " again."
        )
    return None


def _sessions(connection: Connection, query: TextClause, **values: object) -> str:
    """Return the sessions that a query finds, as part of a sentence; empty if there are none."""
    sessions = [
        f"pid {row.pid}, user {row.usename}"
        + (f", {row.application_name}" if row.application_name else "")
        + (f", {row.state} for {row.seconds:.0f} s" if row.state else "")
        + (f", on {row.tables}" if row.tables else "")
        for row in connection.execute(query, values)
    ]
    return ": " + "; ".join(sessions) if sessions else ""


_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(CAST(:key AS bigint))")

# The guard is idle while the migration runs, and no time limit may end it for that. Not every
# version of PostgreSQL has both settings.
_STAY_IDLE = text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)

_NO_LIMITS = text(
    "SELECT set_config(name, '0', false) FROM pg_settings"
    " WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')"
)

_LOCK_HOLDERS = text(
    "SELECT a.pid, a.usename, a.application_name, a.state,"
    " extract(epoch FROM now() - a.state_change) AS seconds, NULL AS tables"
    " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()"
    " AND l.objsubid = 1 AND l.classid::bigint << 32 | l.objid::bigint = CAST(:key AS bigint)"
)

# Only tables that the statement names, the oldest transaction first: most likely the culprit.
_TABLE_HOLDERS = text(
    r"""
    SELECT a.pid, a.usename, a.application_name, a.state,
           extract(epoch FROM now() - a.state_change) AS seconds,
           string_agg(DISTINCT c.relname, ', ') AS tables
    FROM pg_locks l
    JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p')
    JOIN pg_stat_activity a USING (pid)
    WHERE l.granted AND a.datname = current_database() AND a.pid <> pg_backend_pid()
      AND :statement ~ ('\m' || c.relname || '\M')
    GROUP BY a.pid, a.usename, a.application_name, a.state, a.state_change, a.xact_start
    ORDER BY a.xact_start
    LIMIT 3
    """
)
