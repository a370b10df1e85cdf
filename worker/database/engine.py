"""Set up connections to PostgreSQL or SQLite, with one engine for each process."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from worker.database.errors import is_conflict

BUSY_SECONDS = 30
"""Seconds that SQLite waits for another connection's lock."""


def make_engine(url: str, connect_seconds: int = 10) -> Engine:
    """Make an engine, without connecting; `postgresql://` means psycopg 3."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
        _configure_sqlite(engine)
        return engine
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    # No ping before each use: if the server has closed a connection in the meantime, that is an
    # outage like any other, and tasks wait until it is over.
    engine = create_engine(parsed, connect_args={"connect_timeout": connect_seconds})
    _configure_postgresql(engine)
    return engine


def _configure_postgresql(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        # Everything we look for has an index. PostgreSQL caches plans, and a plan made for a small
        # table would still compare every row with every value after the table has grown.
        connection.execute("SET enable_seqscan = off")
        # For a lone request, planning its statement again would take longer than running it.
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.commit()


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # The driver must not begin transactions itself.
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # A committed row survives a power cut.
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes the lock at the start: in SQLite, a reader cannot wait to become a writer.
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


class Database:
    """One engine for each process, made at first use: connections must not cross a fork."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: Engine | None = None
        self._pid = 0
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """Return this process's engine."""
        with self._lock:
            if self._engine is None or self._pid != os.getpid():
                self._engine, self._pid = make_engine(self.url), os.getpid()
            return self._engine

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes: commit it at the end, roll it back on an exception."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection that only reads; on SQLite, a transaction that no writer blocks."""
        if self.engine.dialect.name == "postgresql":
            # At PostgreSQL's default isolation, a transaction would see no more than separate
            # statements do, and the final ROLLBACK would drop the driver's prepared statements.
            with self.engine.connect() as connection:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")
            return
        with self.engine.connect().execution_options(read_only=True) as connection:
            yield connection

    def close(self) -> None:
        """Close this process's connections."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()


CONFLICT_ATTEMPTS = 8
"""How often a transaction is run again after conflicts."""

T = TypeVar("T")


def transaction(database: "Database | Connection", work: Callable[[Connection], T]) -> T:
    """Run work in its own transaction, or within the open transaction of a connection.

    Its own transaction is run again from the start after a conflict with another one.
    """
    if isinstance(database, Connection):
        return work(database)
    retrying = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, DBAPIError) and is_conflict(e)),
        stop=stop_after_attempt(CONFLICT_ATTEMPTS),
        wait=wait_random(0, 0.1),
        reraise=True,
    )

    def run() -> T:
        with database.writing() as connection:
            return work(connection)

    try:
        return run()
    except DBAPIError as error:
        if not is_conflict(error):
            raise
    return retrying(run)
