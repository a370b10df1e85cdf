"""Try whether the database would accept our work, without changing anything."""

from functools import cache
from typing import Any

from sqlalchemy import false, insert, select

from worker.database.engine import Database
from worker.models import Base


def probe(database: Database) -> None:
    """Write nothing into each of our tables. Raises DBAPIError if the database refuses that.

    Then rights, tables and columns are there, nobody locks the tables, and the disk takes a commit.
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
    ]
