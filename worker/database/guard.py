"""Check that each new connection leads to a database that may be used.

The check comes before the connection's first transaction.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn

import psycopg
from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import OperationalError

from producer.contract.identity import DatabaseIdentity
from worker.database.ask import Ask, through_driver
from worker.database.engine import Database
from worker.database.fitness import unusable
from worker.database.identity import NoIdentity, read_identity
from worker.database.lock_waits import wait_less_when_late
from worker.database.refusal import Refusal

log = logging.getLogger(__name__)

Admit = Callable[[DatabaseIdentity], Refusal | None]
"""Returns why the workers must not use a database now, or None."""

WARNING_PAUSE = 30.0
"""Seconds between two log lines about the same refusal."""


class DatabaseRefused(psycopg.OperationalError):
    """The database must not be used. The message says why, in words that any client may read.

    It derives from psycopg's error even if the database is SQLite, so that it counts as an outage.
    """

    sqlstate = "ENR01"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.public or refusal.problem)
        self.refusal = refusal


class GuardedDatabase(Database):
    """A worker's database: it checks every new connection before its first transaction.

    Its transactions wait less for locks once they have taken long, because lookups wait for the
    process. A refused connection raises OperationalError, which wraps DatabaseRefused.
    """

    def __init__(self, url: str, admit: Admit) -> None:
        super().__init__(url)
        self._admit = admit

    def new_engine(self) -> Engine:
        """Return another engine for the same database, guarded like the first one."""
        engine = super().new_engine()
        guard(engine, self._admit)
        wait_less_when_late(engine)
        return engine


def guard(engine: Engine, admit: Admit) -> None:
    """Refuse connections of an engine to a database that must not be used."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        try:
            reason = _reason(through_driver(connection), engine.url, admit)
            connection.rollback()
            if reason is not None:
                _log(reason)
                refuse(reason)
        except BaseException:
            connection.close()
            raise


_logged_at: dict[str, float] = {}


def _log(refusal: Refusal) -> None:
    """Log the whole refusal, but each at most once in `WARNING_PAUSE`."""
    now = time.monotonic()
    if now - _logged_at.get(refusal.problem, float("-inf")) > WARNING_PAUSE:
        _logged_at[refusal.problem] = now
        log.error("This worker refused a new connection to the database: %s", refusal)


def _reason(ask: Ask, url: URL, admit: Admit) -> Refusal | None:
    try:
        return unusable(ask, url.get_backend_name()) or admit(read_identity(ask, url))
    except NoIdentity as error:
        return error.refusal


def refuse(reason: Refusal) -> NoReturn:
    """Raise OperationalError, which wraps DatabaseRefused."""
    raise OperationalError("the check of a connection", None, DatabaseRefused(reason))
