"""Convert errors of psycopg, where a module uses it directly, to those of SQLAlchemy."""

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


def converted(connection: Connection, statement: str, error: psycopg.Error) -> DBAPIError:
    """Return the error that SQLAlchemy would raise for a statement, without its parameters.

    A connection that was lost is marked as invalid.
    """
    is_lost = bool(connection.connection.driver_connection.closed)  # type: ignore[union-attr]
    if is_lost:
        connection.invalidate(error)
    found = DBAPIError.instance(
        statement,
        None,
        error,
        psycopg.Error,
        hide_parameters=True,
        connection_invalidated=is_lost,
        dialect=connection.dialect,
    )
    assert isinstance(found, DBAPIError)  # noqa: S101 - it is one of psycopg's errors
    return found
