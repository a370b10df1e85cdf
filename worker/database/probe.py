"""Test whether the database would accept our work, without changing anything."""

from functools import cache
from typing import Any

from sqlalchemy import false, insert, select

from worker.database.engine import Database
from worker.database.rights import ONLY_READ
from worker.models import Base


def probe(database: Database) -> None:
    """Insert no rows into each table that workers write. Raises DBAPIError if that is refused.

    If it succeeds, the rights, tables and columns are there, and no other session locks a table. It
    does not show that the disk has room: a transaction without rows writes nothing at its commit.
    """
    with database.writing() as connection:
        for statement in _statements():
            connection.execute(statement)


@cache
def _statements() -> list[Any]:
    return [
        insert(table).from_select(
            [column.name for column in table.columns], select(*table.columns).where(false())
        )
        for table in Base.metadata.sorted_tables
        if table not in ONLY_READ
    ]
