"""Let a worker start and continue only with the database of its deployment."""

import logging
import threading
from pathlib import Path

from celery.worker import state
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from producer.contract.identity import DatabaseIdentity
from worker import migrate
from worker.database.ask import through
from worker.database.encoding import wrong_encoding
from worker.database.engine import make_engine
from worker.database.errors import sentence_of
from worker.database.fitness import unusable_for_long
from worker.database.identity import NoIdentity, read_identity
from worker.database.refusal import Refusal
from worker.messaging.registration import DatabaseRegister

log = logging.getLogger(__name__)

WATCH_SECONDS = 5.0
"""Seconds between two checks of the register, which Redis may lose and an operator may change."""


class NotAdmitted(SystemExit):
    """The worker must not work with its database, and ends. The message says what to do."""


class Admission:
    """Checks the worker's database, registers it, and watches the register."""

    def __init__(self, database_url: str, register: DatabaseRegister) -> None:
        self._url = database_url
        self._register = register
        self._own: DatabaseIdentity | None = None

    def check(self) -> None:
        """Check and register the database before anything is taken from a queue.

        The worker starts even if the database or Redis is unavailable, because each new connection
        to the database is checked as well. Raises NotAdmitted.
        """
        try:
            self._check()
        except DBAPIError as error:
            log.warning(
                "The database is not available yet; tasks wait for it: %s", sentence_of(error)
            )
        except RedisError as error:
            log.warning("Redis is not available yet, so the database is not registered: %s", error)

    def _check(self) -> None:
        """Raises NotAdmitted, DBAPIError, RedisError."""
        if self._own is None:
            # A separate engine: the pool forks after this and must not inherit a connection.
            engine = make_engine(self._url)
            try:
                self._own = _examine(engine)
            finally:
                engine.dispose()
        _require(self._register.refusal(self._own) or _replaced(self._own))

    def watch(self) -> None:
        """Check again and again, in a thread; stop the worker when its database is refused."""
        threading.Thread(target=self._watch, name="database-admission", daemon=True).start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(WATCH_SECONDS):
            try:
                self._check()
            except NotAdmitted as error:
                log.critical("The worker stops: %s", error)
                state.should_stop = 1  # The exit code, which Celery's loop raises.
                return
            except (DBAPIError, RedisError) as error:
                log.debug("The database could not be checked: %s", error)


_MIGRATE = (
    "The database at ENROLL_DATABASE_URL and this version have different migrations. If the"
    " database is older, run `python -m worker.migrate` (or `alembic upgrade head`); if it is"
    " newer, install the newer version."
)


def _replaced(own: DatabaseIdentity) -> Refusal | None:
    """Return a refusal if an SQLite file was replaced: the worker still writes into the old one.

    The file is not opened, because the worker may be forking at this moment.
    """
    path = Path(own.place)
    if not path.is_absolute() or not path.is_file() or path.stat().st_ino == own.number:
        return None
    return Refusal(
        f"the file {path} was replaced by another one while the worker used it",
        "Stop the workers before you replace the file. If the new one is right, run: enroll"
        " database accept",
    )


def _require(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise NotAdmitted(str(refusal))


def _examine(engine: Engine) -> DatabaseIdentity:
    """Return the identity of a database that may be used. Raises NotAdmitted, DBAPIError."""
    dialect = engine.dialect.name
    with engine.connect().execution_options(read_only=True) as connection:
        ask = through(connection)
        _require(wrong_encoding(ask, dialect))
        connection.rollback()
        if not migrate.is_current(engine):
            raise NotAdmitted(_MIGRATE)
        _require(unusable_for_long(ask, dialect))
        try:
            return read_identity(ask, engine.url)
        except NoIdentity as error:
            raise NotAdmitted(str(error)) from error
