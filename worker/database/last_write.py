"""Send the last statement of a transaction together with its COMMIT, in one round trip."""

from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


def commit_with(
    connection: Connection, write: Callable[[], object], meanwhile: Callable[[], object]
) -> None:
    """Write and commit; do something else while PostgreSQL does both.

    `write` runs statements that return nothing, if any, and no COPY (`is_pipelined`). What is done
    `meanwhile` must be of no effect until this function returns, because the commit may fail. On
    SQLite, which has no round trips, the caller commits. Raises DBAPIError, as a statement or a
    commit alone would.
    """
    if connection.dialect.name != "postgresql":
        write()
        meanwhile()
        return
    driver: Any = connection.connection.driver_connection
    try:
        with driver.pipeline():
            write()
            # The driver's own `commit` would wait for the statement, and then for the commit.
            driver.execute(b"COMMIT", prepare=False)
            meanwhile()
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise DBAPIError.instance(
            "COMMIT",
            None,
            error,
            psycopg.Error,
            hide_parameters=True,
            connection_invalidated=driver.closed,
            dialect=connection.dialect,
        ) from error


def is_pipelined(connection: Connection) -> bool:
    """Return whether statements are sent without waiting for replies, and so COPY is impossible."""
    driver = connection.connection.driver_connection
    return isinstance(driver, psycopg.Connection) and (
        driver.pgconn.pipeline_status != psycopg.pq.PipelineStatus.OFF
    )
