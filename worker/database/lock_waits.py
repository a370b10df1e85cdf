"""Wait less for locks of PostgreSQL where waiting has already taken long: lookups wait meanwhile.

PostgreSQL limits each wait by itself, but a transaction may wait again and again, and so may one
lookup after another.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from worker.database.errors import is_lock

LATE_SECONDS: Final = 1.0
"""The age of a transaction after which it waits for at most `LATE_WAIT` for each further lock."""
LATE_WAIT: Final = 1
"""Seconds."""

HURRY_SECONDS: Final = 10.0
"""For how long the readers of this process wait for at most `HURRY_WAIT` for a lock, after it met
one that was held for too long."""
HURRY_WAIT: Final = 500
"""Milliseconds."""

_BEGAN: Final = "transaction began"


def wait_less_when_late(engine: Engine) -> None:
    """Let the transactions of an engine for PostgreSQL wait less for locks after `LATE_SECONDS`."""
    if engine.dialect.name != "postgresql":
        return

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.info[_BEGAN] = time.monotonic()

    @event.listens_for(engine, "before_cursor_execute")
    def before_statement(connection: Connection, *_: Any) -> None:
        began = connection.info.get(_BEGAN)
        if began is None or time.monotonic() - began < LATE_SECONDS:
            return
        driver: Any = connection.connection.driver_connection
        if driver.info.transaction_status == TransactionStatus.INTRANS:
            del connection.info[_BEGAN]
            driver.execute(f"SET LOCAL lock_timeout = '{LATE_WAIT}s'")


class LockWaits:
    """Whether this process has just met a lock that another session held for too long."""

    def __init__(self) -> None:
        self._met_at = float("-inf")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Remember it if the block fails because of a lock."""
        try:
            yield
        except DBAPIError as error:
            if is_lock(error):
                self._met_at = time.monotonic()
            raise

    @contextmanager
    def hurried(self, connection: Connection, *, usual: str | None) -> Iterator[None]:
        """Let a reader wait less for locks if this process has just met one.

        `usual` is the wait that is set again for the session; None if the setting ends with the
        transaction. Raises DBAPIError.
        """
        if time.monotonic() - self._met_at >= HURRY_SECONDS:
            yield
            return
        scope = "SESSION" if usual else "LOCAL"
        connection.exec_driver_sql(f"SET {scope} lock_timeout = '{HURRY_WAIT}ms'")
        try:
            yield
        finally:
            if usual and not connection.closed and not connection.invalidated:
                _set_again(connection, usual)


def _set_again(connection: Connection, usual: str) -> None:
    """Set the usual wait for a session, or close the connection."""
    try:
        connection.exec_driver_sql(f"SET SESSION lock_timeout = '{usual}'")
    except DBAPIError:
        connection.invalidate()
