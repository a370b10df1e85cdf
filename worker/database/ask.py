"""Run fixed SQL in the same way through SQLAlchemy and through the driver itself."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

Ask = Callable[[str], Sequence[Any]]
"""Runs a statement of SQL without parameters and returns its rows."""


def through(connection: Connection) -> Ask:
    """Return an `Ask` that uses a connection's transaction; calling it may raise DBAPIError."""
    return lambda sql: connection.exec_driver_sql(sql).fetchall()


def through_driver(connection: Any) -> Ask:
    """Return an `Ask` that uses a driver's connection; calling it may raise the driver's errors."""

    def ask(sql: str) -> Sequence[Any]:
        cursor = connection.cursor()
        try:
            cursor.execute(sql)
            rows: Sequence[Any] = cursor.fetchall()
        finally:
            cursor.close()
        return rows

    return ask
