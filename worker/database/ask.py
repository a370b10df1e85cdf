"""Run fixed SQL in the same way through SQLAlchemy and through the driver itself."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

Ask = Callable[[str], Sequence[Any]]
"""Runs a statement of SQL without parameters and returns its rows."""


def through(connection: Connection) -> Ask:
    """Ask in the transaction of a connection; that raises DBAPIError."""
    return lambda sql: connection.exec_driver_sql(sql).fetchall()


def through_driver(connection: Any) -> Ask:
    """Ask through a connection of the driver, such as a new one; that raises its own errors."""

    def ask(sql: str) -> Sequence[Any]:
        cursor = connection.cursor()
        try:
            cursor.execute(sql)
            rows: Sequence[Any] = cursor.fetchall()
        finally:
            cursor.close()
        return rows

    return ask
