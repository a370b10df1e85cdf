"""Send the last statement of a transaction together with its COMMIT, in one round trip."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from sqlalchemy import Connection

from worker.database.driver_errors import converted
from worker.database.replies import next_reply

T = TypeVar("T")


class LastStatement(NamedTuple):
    """A statement of PostgreSQL that returns nothing, with its parameters as text."""

    sql: bytes
    """The first parameter is `$1`."""
    parameters: Sequence[bytes | None]


@dataclass(frozen=True)
class LastWrite(Generic[T]):
    """What a transaction writes last, depending on the value of its work."""

    statement: Callable[[Connection, T], LastStatement | None]
    """Return the statement that does it; None if that is not possible."""
    write: Callable[[Connection, T], object]
    """Do it in the usual way."""


def commit_with(
    connection: Connection, statement: LastStatement, meanwhile: Callable[[], object]
) -> None:
    """Run a statement on PostgreSQL and commit; do something else while PostgreSQL does that.

    What is done `meanwhile` must be of no effect until this function returns, because the commit
    may fail. Raises DBAPIError, as a statement or a commit alone would, and what `meanwhile`
    raises.
    """
    driver: Any = connection.connection.driver_connection
    server = driver.pgconn
    try:
        with _closed_on_error(server):
            # psycopg's own pipeline would need more system calls, and replies only come at its end.
            server.enter_pipeline_mode()
            server.send_query_params(statement.sql, statement.parameters)
            server.send_query_params(b"COMMIT", None)
            server.pipeline_sync()
        try:
            meanwhile()
        finally:
            with _closed_on_error(server):
                failed = _first_error(server)
                server.exit_pipeline_mode()
        _raise_if(failed)
    except psycopg.Error as error:
        raise converted(connection, statement.sql.decode(), error) from error
    except BaseException:
        if driver.closed:  # A rollback would raise another error.
            connection.invalidate()
        raise


@contextmanager
def _closed_on_error(server: Any) -> Iterator[None]:
    """Close the connection if the block fails: replies may be missing, or be left to read."""
    try:
        yield
    except BaseException:
        server.finish()
        raise


def _first_error(server: Any) -> Any:
    """Wait for all replies; return the first one that reports an error."""
    first = None
    while True:
        # After the reply to each statement comes None.
        result = next_reply(server) or next_reply(server)
        if result is None or result.status == ExecStatus.PIPELINE_SYNC:
            return first
        if result.status != ExecStatus.COMMAND_OK and first is None:
            first = result


def _raise_if(result: Any) -> None:
    """Raise the error in a reply, if there is one, as psycopg itself would."""
    if result is None:
        return
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    message = psycopg.pq.error_message(result)
    try:
        kind: type[psycopg.Error] = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.OperationalError
    raise kind(message, info=result)
