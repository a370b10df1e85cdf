"""Take the one lock between transactions that enroll and transactions that drop, on PostgreSQL.

A request that finds its pair enrolled writes no row, so a drop that runs at the same time could
miss it. Therefore transactions that enroll share the lock, and a transaction that drops has it
alone. SQLite has a single writer and needs no lock; nor does a plan, which changes nothing real.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.errors import LockNotAvailable
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from worker.database.driver_errors import converted
from worker.database.early import EarlyQuery, Row, forget_prepared, send_early
from worker.database.errors import LOCK_NOT_AVAILABLE, EnrollmentsBusy, sqlstate_of
from worker.database.planning import planning_on
from worker.database.replies import closed_on_error, replies_in_pipeline

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

_KEY: Final = 7_231_950_461_238_145_013
"""Any number, the same in every version: no other program should lock it."""

# Given to the driver as they are: each request pays for the shared one.
_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
"""The driver would send its own `BEGIN`, which is the same, in a round trip before the lock."""
_SHARED = f"SELECT pg_advisory_xact_lock_shared({_KEY})"
_EXCLUSIVE = f"SELECT pg_advisory_xact_lock({_KEY})"

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 8.0
"""Seconds of the first and of the longest pause after a drop did not get the lock.

While a drop waits, no transaction that enrolls can begin. So a process does not try again at once,
and each pause without a success is twice as long as the one before.
"""


class _Pause:
    """The pause of this process before it tries again to lock out all others."""

    def __init__(self) -> None:
        self._until = float("-inf")
        self._seconds = FIRST_PAUSE
        self._error: BaseException = TimeoutError()

    def check(self) -> None:
        """Raise EnrollmentsBusy during the pause."""
        if time.monotonic() < self._until:
            raise EnrollmentsBusy(self._error)

    def begin(self, error: BaseException) -> None:
        """Begin a pause because of this error."""
        self._error = error
        self._until = time.monotonic() + self._seconds
        self._seconds = min(2 * self._seconds, LONGEST_PAUSE)

    def end(self) -> None:
        """Forget earlier failures: the lock was taken."""
        self._seconds = FIRST_PAUSE


_pause = _Pause()


def _send_begin_and_share(connection: Connection, query: EarlyQuery | None) -> "PGconn | None":
    """Send what begins the transaction and shares the lock; return where the replies will come.

    Nothing is sent if the transaction has begun already. A query comes after the lock, so it sees
    all that was committed before the lock was shared. Raises DBAPIError.
    """
    driver = connection.connection.driver_connection
    server: PGconn | None = getattr(driver, "pgconn", None)
    # Where psycopg uses the libpq of the system, that may be older than version 14.
    if server is None or not psycopg.capabilities.has_pipeline():
        return None
    if server.transaction_status != TransactionStatus.IDLE:
        return None
    with _sound(connection, server):
        server.enter_pipeline_mode()
        server.send_query_params(_BEGIN, None)
        server.send_query_params(_SHARED.encode(), None)
        if query is not None:
            send_early(connection, server, query)
        server.pipeline_sync()
    return server


@contextmanager
def _sound(connection: Connection, server: "PGconn") -> Iterator[None]:
    """Close the connection if the block fails. Raises errors of the driver as DBAPIError."""
    try:
        with closed_on_error(server):
            yield
    except psycopg.Error as error:
        raise converted(connection, _SHARED, error) from error
    except BaseException:
        connection.invalidate()
        raise


_GOOD: Final = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


def _is_shared(connection: Connection, server: "PGconn", replies: "Sequence[PGresult]") -> bool:
    """Return whether the lock is shared now; else the transaction has not begun.

    The usual way then takes the lock, or raises the error. Raises OperationalError if a drop holds
    the lock for too long.
    """
    failed = next((reply for reply in replies if reply.status not in _GOOD), None)
    if failed is None:
        return bool(replies)
    forget_prepared(connection)
    if server.transaction_status == TransactionStatus.INERROR:
        server.exec_(b"ROLLBACK")
    if failed.error_field(DiagnosticField.SQLSTATE) == LOCK_NOT_AVAILABLE.encode():
        reason = LockNotAvailable(failed.error_message.decode(errors="replace"))
        raise OperationalError(_SHARED, None, reason)
    return False


def _share(
    connection: Connection, meanwhile: Callable[[], object], query: EarlyQuery | None
) -> Row | None:
    server = _send_begin_and_share(connection, query)
    replies: Sequence[PGresult] = ()
    try:
        meanwhile()
    finally:
        if server is not None:
            with _sound(connection, server):
                replies = replies_in_pipeline(server)
                server.exit_pipeline_mode()
    if server is None or not _is_shared(connection, server, replies):
        connection.exec_driver_sql(_SHARED)
        return None
    row = replies[-1]
    return None if query is None else [row.get_value(0, i) for i in range(row.nfields)]


def lock_enrollments(
    connection: Connection,
    *,
    exclusive: bool,
    meanwhile: Callable[[], object] = lambda: None,
    query: EarlyQuery | None = None,
) -> Row | None:
    """Lock until the end of the transaction: alone if it may drop, else shared.

    Call this before anything about enrollments is read. `meanwhile` is called while PostgreSQL
    begins the transaction and shares the lock, or before the lock is taken. Returns the row of the
    query if that could be sent along, right after the lock was shared, and else None.

    Waits at most as long as the connection waits for any lock
    (`worker.database.engine.LOCK_SECONDS`); raises DBAPIError, EnrollmentsBusy if other
    transactions do not let a drop in, and what `meanwhile` raises.
    """
    if connection.dialect.name != "postgresql" or planning_on(connection):
        meanwhile()
        return None
    if not exclusive:
        return _share(connection, meanwhile, query)
    meanwhile()
    _pause.check()
    try:
        connection.exec_driver_sql(_EXCLUSIVE)
    except OperationalError as error:
        if sqlstate_of(error) != LOCK_NOT_AVAILABLE or error.orig is None:
            raise
        _pause.begin(error.orig)
        raise EnrollmentsBusy(error.orig) from None
    _pause.end()
    return None
