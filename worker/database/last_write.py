"""Send the last statement of a transaction together with its COMMIT, in one round trip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from sqlalchemy import Connection

from worker.database.driver_errors import converted
from worker.database.replies import closed_on_error, replies_in_pipeline

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

    def with_commit(self, connection: Connection, value: T) -> LastStatement | None:
        """Return the statement that can be sent together with the COMMIT, or None."""
        # Where psycopg uses the libpq of the system, that may be older than version 14.
        can_be_sent = psycopg.capabilities.has_pipeline()
        return self.statement(connection, value) if can_be_sent else None


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
        with closed_on_error(server):
            # psycopg's own pipeline would need more system calls, and replies only come at its end.
            server.enter_pipeline_mode()
            server.send_query_params(statement.sql, statement.parameters)
            server.send_query_params(b"COMMIT", None)
            server.pipeline_sync()
        try:
            meanwhile()
        finally:
            with closed_on_error(server):
                failed = _first_error(server)
                server.exit_pipeline_mode()
        _raise_if(failed)
    except psycopg.Error as error:
        raise converted(connection, statement.sql.decode(), error) from error
    except BaseException:
        if driver.closed:  # A rollback would raise another error.
            connection.invalidate()
        raise


def _first_error(server: Any) -> Any:
    """Wait for all replies; return the first one that reports an error."""
    replies = replies_in_pipeline(server)
    return next((reply for reply in replies if reply.status != ExecStatus.COMMAND_OK), None)


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
