"""Read the database's clock, so that stored times do not depend on the clocks of workers.

SQLite has none: it takes the time of the process that uses it.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, DateTime, func, literal, select


def time_of(dialect: str) -> Any:
    """Return the expression of the present time on the database's clock; null on SQLite."""
    if dialect == "postgresql":
        return func.clock_timestamp(type_=DateTime(timezone=True))
    return literal(None)


def database_time(connection: Connection) -> datetime | None:
    """Return the present time on the database's clock; None on SQLite."""
    if connection.dialect.name != "postgresql":
        return None
    now: datetime = connection.execute(_TIME).scalar_one()
    return now


_TIME = select(time_of("postgresql"))
