"""Set up connections to PostgreSQL or SQLite, with one engine for each process."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from worker.database.early import forget_prepared
from worker.database.errors import is_conflict
from worker.database.last_write import LastWrite, commit_with
from worker.database.lock_waits import LockWaits
from worker.settings import SettingsError

BUSY_SECONDS = 30
"""Seconds that SQLite waits for another connection's lock."""


RECYCLE_SECONDS = 30
"""Seconds after which a connection is renewed before its next use.

Each new connection is checked, so running workers notice a key that was dropped.
"""

LOCK_SECONDS = 2
"""Seconds that a statement on PostgreSQL waits for a lock; see `SETTINGS`."""

SETTINGS = {
    # What the driver relies on to understand the server. A setting of the server changes sessions
    # that a pooler holds; then all text would come as bytes, and differ from what it should be.
    "client_encoding": "UTF8",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    # Everything we look for has an index. PostgreSQL caches plans, and a plan made for a small
    # table would still compare every row with every value after the table has grown.
    "enable_seqscan": "off",
    # PostgreSQL would otherwise plan a lone request again each time.
    "plan_cache_mode": "force_generic_plan",
    # A lock of another session must not keep all processes of a worker waiting in a statement: the
    # work is requeued and lookups get their turn.
    "lock_timeout": f"{LOCK_SECONDS}s",
    # Limits that an operator sets for other programs are too short for a chunk. Tasks have a time
    # limit of their own; these two end the sessions that a stopped or lost worker left open.
    "statement_timeout": "120s",
    "idle_in_transaction_session_timeout": "60s",
    # Off, for the same reason.
    "transaction_timeout": "0",
}
"""What each connection to PostgreSQL sets for itself, whatever the role or server has set."""

_NEEDS_VERSION = {"transaction_timeout": 17_00_00}
"""The first server version that has a setting, in the form in which libpq numbers versions."""


class PoolMode(StrEnum):
    """For how long a pooler such as PgBouncer lends a connection of the server to a client."""

    SESSION = "session"
    """As long as the client is connected."""
    TRANSACTION = "transaction"
    """For one transaction: nothing outlives it, neither settings nor prepared statements."""


def make_engine(url: str, connect_seconds: int = 10) -> Engine:
    """Make an engine, without connecting; `postgresql://` means psycopg 3.

    The URL's parameter `pool_mode`, one of `PoolMode`, says how a pooler lends connections. Without
    it, a connection that leads to a pooler is used as if it were lent for one transaction, which
    is right in both modes. Raises SettingsError for an unknown parameter.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(
            parsed,
            connect_args={"timeout": BUSY_SECONDS},
            pool_recycle=RECYCLE_SECONDS,
            hide_parameters=True,  # An error would quote them in the log.
        )
        _configure_sqlite(engine)
        return engine
    parsed, pool_mode = _split_pool_mode(parsed)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    options: dict[str, Any] = {"connect_timeout": connect_seconds, "client_encoding": "utf8"}
    if pool_mode is PoolMode.TRANSACTION:
        options["prepare_threshold"] = None
    # No ping before each use: if the server has closed a connection in the meantime, that is an
    # outage like any other, and tasks wait until it is over.
    engine = create_engine(
        parsed,
        connect_args=options,
        # Whatever the default of the role or server: a transaction that waited for the lock on
        # enrollments must see what was committed meanwhile.
        isolation_level="READ COMMITTED",
        pool_recycle=RECYCLE_SECONDS,
        hide_parameters=True,
    )
    if pool_mode is PoolMode.TRANSACTION:
        engine = engine.execution_options(settings_per_transaction=True)
    else:
        _set_in_each_session(engine, may_be_shared=pool_mode is None)
    _set_in_each_transaction(engine)
    return engine


def is_lent_for_a_transaction(connection: Connection) -> bool:
    """Return whether a pooler may lend a connection's session to others after each transaction."""
    options = connection.engine.get_execution_options()
    return bool(options.get("settings_per_transaction") or connection.info.get(_POOLED))


def _split_pool_mode(url: URL) -> tuple[URL, PoolMode | None]:
    """Return the URL without its parameter `pool_mode`, and the mode. Raises SettingsError."""
    mode = url.query.get("pool_mode")
    if mode is not None and mode not in list(PoolMode):
        raise SettingsError(
            f"ENROLL_DATABASE_URL: pool_mode must be one of {', '.join(PoolMode)}, not {mode!r}"
        )
    url = url.difference_update_query(["pool_mode"])
    for name in url.query:
        try:
            make_conninfo(**{name: ""})
        except psycopg.ProgrammingError:
            raise SettingsError(
                f"ENROLL_DATABASE_URL: PostgreSQL has no connection parameter {name!r}. For a"
                " pooler that lends connections for one transaction, such as PgBouncer with"
                " pool_mode = transaction, write pool_mode=transaction."
            ) from None
    return url, None if mode is None else PoolMode(str(mode))


_POOLED = "a pooler may share the session"


def _set_in_each_session(engine: Engine, *, may_be_shared: bool) -> None:
    """Set the settings when a session begins.

    Where it `may_be_shared`, a connection that does not lead to the server itself prepares no
    statement: another client of the pooler could have prepared a different one under the name.
    """
    event.listen(engine, "rollback", forget_prepared)

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        # This comes before SQLAlchemy's own questions to the server, and outside a transaction,
        # because a limit that the role has may be too short for them.
        with ExitStack() as stack:
            connection = dialect.connect(*arguments, **options)
            stack.callback(connection.close)
            connection.autocommit = True
            reply = connection.execute(_set_all(connection, is_local=False)).fetchone()
            if may_be_shared and reply[-1] != connection.info.backend_pid:
                connection.prepare_threshold = None
            connection.autocommit = False
            stack.pop_all()
        return connection

    @event.listens_for(engine, "connect")
    def note(connection: Any, record: Any) -> None:
        record.info[_POOLED] = connection.prepare_threshold is None


def _set_in_each_transaction(engine: Engine) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if is_lent_for_a_transaction(connection):
            driver = connection.connection.driver_connection
            connection.exec_driver_sql(_set_all(driver, is_local=True))


def _set_all(connection: Any, *, is_local: bool) -> str:
    """Return the statement that sets everything, and returns the server process last.

    A pooler names another process to its clients than the one that serves them.
    """
    version = connection.info.server_version
    calls = [
        f"set_config('{name}', '{value}', {is_local})"
        for name, value in SETTINGS.items()
        if version >= _NEEDS_VERSION.get(name, 0)
    ]
    return f"SELECT {', '.join(calls)}, pg_backend_pid()"


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
        """Raises SettingsError, as `make_engine` does."""
        make_engine(url).dispose()
        self.url = url
        self._engine: Engine | None = None
        self._pid = 0
        self._lock = threading.Lock()
        self._lock_waits = LockWaits()

    @property
    def engine(self) -> Engine:
        """Return this process's engine."""
        with self._lock:
            if self._engine is None or self._pid != os.getpid():
                self._engine, self._pid = self.new_engine(), os.getpid()
            return self._engine

    def new_engine(self) -> Engine:
        """Return another engine for the same database; the caller disposes of it."""
        return make_engine(self.url)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes: commit it at the end, roll it back on an exception."""
        with self._lock_waits.watched(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection that only reads; on SQLite, a transaction that no writer blocks."""
        if self.engine.dialect.name != "postgresql":
            with self.engine.connect().execution_options(read_only=True) as connection:
                yield connection
            return
        with self._lock_waits.watched(), self.engine.connect() as connected:
            per_transaction = is_lent_for_a_transaction(connected)
            # At PostgreSQL's default isolation, a transaction would see no more than separate
            # statements do, and the final ROLLBACK would drop the driver's prepared statements.
            options: dict[str, Any] = {} if per_transaction else {"isolation_level": "AUTOCOMMIT"}
            usual = None if per_transaction else SETTINGS["lock_timeout"]
            connection = connected.execution_options(**options)
            with self._lock_waits.hurried(connection, usual=usual):
                yield connection

    def close(self) -> None:
        """Close this process's connections."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()


CONFLICT_ATTEMPTS = 8
"""How many times a transaction is run again after conflicts."""

T = TypeVar("T")


def nothing(*_: object) -> None:
    """Do nothing."""


def transaction(
    database: "Database | Connection",
    work: Callable[[Connection], T],
    last_write: LastWrite[T] | None = None,
    while_committing: Callable[[T], object] = nothing,
) -> T:
    """Run work in its own transaction, or within the open transaction of a connection.

    Its own transaction is run again from the start after a conflict with another one. `last_write`
    follows the work, and `while_committing` is called with the value of the work, once nothing is
    left but to commit it.
    """
    if isinstance(database, Connection):
        value = work(database)
        if last_write is not None:
            last_write.write(database, value)
        while_committing(value)
        return value
    retrying = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, DBAPIError) and is_conflict(e)),
        stop=stop_after_attempt(CONFLICT_ATTEMPTS),
        wait=wait_random(0, 0.1),
        reraise=True,
    )

    def run() -> T:
        with database.writing() as connection:
            value = work(connection)
            statement = last_write.with_commit(connection, value) if last_write else None
            if statement is not None:
                commit_with(connection, statement, partial(while_committing, value))
                return value
            if last_write is not None:
                last_write.write(connection, value)
            while_committing(value)
            return value

    try:
        return run()
    except DBAPIError as error:
        if not is_conflict(error):
            raise
    return retrying(run)
