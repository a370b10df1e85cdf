"""Mark connections on which a plan is made, and reach the real tables from there.

On such a connection, temporary tables hide the real ones (`worker.database.temporary_tables`), and
ordinary code runs on them. It needs no locks, because no other transaction sees what it writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Connection, MetaData, Table

from worker.database.refusal import Refusal
from worker.model_base import Base


class PlanRefused(Exception):
    """A plan cannot be made, whenever it is tried. The refusal says why, and what to do."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Planning(NamedTuple):
    """How a plan is made on a connection."""

    schema: str
    """The schema of the real tables."""
    stores_results: bool
    """False if nothing reads the results of requests without ids of their own."""


_OPTION: Final = "planning"


def begin_planning(connection: Connection, planning: Planning) -> None:
    """Mark a connection on which a plan is made."""
    connection.execution_options(**{_OPTION: planning})


def planning_on(connection: Connection) -> Planning | None:
    """Return how a plan is made on a connection; None on an ordinary one."""
    planning: Planning | None = connection.get_execution_options().get(_OPTION)
    return planning


@contextmanager
def real_tables(connection: Connection) -> Iterator[None]:
    """Let ordinary code read the real tables for a while, although temporary ones hide them.

    The database refuses to write into them.
    """
    planning = planning_on(connection)
    assert planning is not None  # noqa: S101 - for the connection of a plan
    connection.execution_options(schema_translate_map={None: planning.schema})
    try:
        yield
    finally:
        connection.execution_options(schema_translate_map=None)


def stores_all_results(connection: Connection) -> bool:
    """Return whether the results of all requests must be stored on a connection."""
    planning = planning_on(connection)
    return planning is None or planning.stores_results


def real_table(connection: Connection, model: type[Base]) -> Table:
    """Return the real table of a model, even where a temporary one hides it."""
    planning = planning_on(connection)
    return _in_schema(model, planning.schema) if planning else _table_of(model)


def _table_of(model: type[Base]) -> Any:
    return model.__table__


@cache
def _in_schema(model: type[Base], schema: str) -> Table:
    columns = [Column(column.name, column.type) for column in _table_of(model).columns]
    return Table(model.__tablename__, MetaData(), *columns, schema=schema)
