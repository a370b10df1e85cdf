"""Hide the real tables behind temporary ones, on a connection of its own, while a plan is made.

What ordinary code writes there goes into the temporary tables. The database itself refuses every
other write: on PostgreSQL the transaction becomes read-only, which temporary tables are exempt
from; on SQLite each statement is checked when it is prepared. All of it is rolled back at the end.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final, NoReturn

from sqlalchemy import (
    Column,
    Connection,
    Identity,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from worker.database.ask import through
from worker.database.engine import Database, is_lent_for_a_transaction
from worker.database.guard import refuse
from worker.database.planning import (
    Planning,
    PlanRefused,
    begin_planning,
    planning_on,
    real_table,
)
from worker.database.refusal import Refusal
from worker.database.rights import refused_plans
from worker.models import Base, Course, IdentityRow, RetentionLimit, Student
from worker.plan_models import DataSet, PlannedDropRow, PlannedRefusal, PlanRow, StagedChunk

NOT_HIDDEN: Final = frozenset(
    model.__tablename__
    for model in (RetentionLimit, PlanRow, StagedChunk, PlannedDropRow, PlannedRefusal)
)
"""The tables that ordinary code only reads, or that belong to plans."""

FILLED_STUDENTS: Final = "plan_filled_students"
"""The temporary table of the students whose rows were filled in."""

_NUMBERED_APART: Final = (Student.__tablename__, Course.__tablename__)
_LEAST_KEY: Final = -(2**31)
_FIRST_ON_SQLITE: Final = 2**31
"""Planned students and courses have keys that no real one can have: negative ones, or on SQLite
those that follow this number."""

_BUFFERS: Final = "SET LOCAL temp_buffers = '64MB'"
"""The default of 8 MB would write the pages of a large plan to disk again and again."""


class TablesRewritten(Exception):
    """Real tables were rewritten after the snapshot was taken: it sees them empty."""


def hidden_models() -> list[type[Base]]:
    """Return the models whose tables are hidden while a plan is made."""
    models = [mapper.class_ for mapper in Base.registry.mappers]
    hidden = [m for m in models if m.__tablename__ not in (*NOT_HIDDEN, IdentityRow.__tablename__)]
    return sorted(hidden, key=lambda model: str(model.__tablename__))


@contextmanager
def planning_connection(database: Database, *, stores_results: bool) -> Iterator[Connection]:
    """Open a connection on which temporary tables hide the real ones, all of them empty.

    It reads one snapshot of the database: that of the moment when it is opened. The caller creates
    tables of its own, if it needs any, and then calls `seal`. Nothing of it remains. Raises
    TablesRewritten instead of PlanRefused, if the caller raises that because of what it did not
    see; DBAPIError, also if the role may not create temporary tables.
    """
    engine = database.new_engine()
    try:
        with engine.connect() as connection:
            is_postgresql = connection.dialect.name == "postgresql"
            open_tables = _open_on_postgresql if is_postgresql else _open_on_sqlite
            with connection.execution_options(**_OPTIONS[is_postgresql]).begin() as transaction:
                schema = open_tables(connection)
                begin_planning(connection, Planning(schema, stores_results))
                connection.execute(
                    insert(DataSet).from_select(
                        [column.name for column in DataSet.__table__.columns],
                        select(real_table(connection, DataSet)),
                    )
                )
                try:
                    yield connection
                except PlanRefused:  # Perhaps only because a table seemed to be empty.
                    with suppress(DBAPIError):
                        check_not_rewritten(connection)
                    raise
                transaction.rollback()
    finally:
        engine.dispose()


_OPTIONS: Final[dict[bool, dict[str, Any]]] = {
    True: {"isolation_level": "REPEATABLE READ"},
    False: {"read_only": True},
}


def _open_on_postgresql(connection: Connection) -> str:
    driver: Any = connection.connection.driver_connection
    driver.prepare_threshold = None
    if (refusal := refused_plans(connection)) is not None:
        _refuse_for_now(refusal)
    rows = through(connection)(
        "SELECT n.nspname, quote_ident(n.nspname) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('students')"
    )
    if not rows:
        _refuse_for_now(
            Refusal(
                "the database has no table students that this role can see",
                "Run `enroll doctor`, which names the right or the migration that is missing.",
            )
        )
    schema, quoted = rows[0]
    if not is_lent_for_a_transaction(connection):
        # A session behind a pooler may have used temporary tables before, and then refuses this.
        connection.exec_driver_sql(_BUFFERS)
    connection.exec_driver_sql(f"SET LOCAL search_path = pg_temp, {quoted}")
    _create_tables(connection)
    return str(schema)


def _refuse_for_now(refusal: Refusal) -> NoReturn:
    """Refuse to make any plan until the database is repaired, which is not a plan's fault.

    The status of a plan shows why it waits, and what to do.
    """
    refuse(refusal._replace(public=str(refusal).rstrip(".")))


def _open_on_sqlite(connection: Connection) -> str:
    _create_tables(connection)
    for name in _NUMBERED_APART:
        connection.exec_driver_sql(
            "INSERT INTO temp.sqlite_sequence (name, seq) VALUES (?, ?)", (name, _FIRST_ON_SQLITE)
        )
    # Derived results are packed into entries that have no room for the keys of planned students.
    connection.exec_driver_sql(
        "CREATE TEMPORARY TABLE database_identity AS SELECT singleton, id, created_at,"
        " '9999-01-01 00:00:00.000000' AS results_stored_until FROM main.database_identity"
    )
    return "main"


def _create_tables(connection: Connection) -> None:
    for table in _temporary_tables(connection.dialect.name):
        connection.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(CreateIndex(index))


@cache
def _temporary_tables(dialect: str) -> list[Table]:
    metadata = MetaData(schema="pg_temp" if dialect == "postgresql" else "temp")
    key = Student.__table__.columns["id"]
    filled = Table(FILLED_STUDENTS, metadata, Column("id", key.type, primary_key=True))
    return [filled, *(_temporary(model, metadata, dialect) for model in hidden_models())]


def _temporary(model: type[Base], metadata: MetaData, dialect: str) -> Table:
    """Return the temporary table of a model: the same columns, keys and indexes, no foreign keys.

    Partial indexes are left out: they serve clients.
    """
    real: Any = model.__table__
    is_apart = model.__tablename__ in _NUMBERED_APART
    numbered = Identity(start=1)
    if is_apart:
        numbered = Identity(start=-1, increment=-1, minvalue=_LEAST_KEY, maxvalue=-1)
    columns = [
        Column(
            column.name,
            column.type,
            *([numbered] if column is real.autoincrement_column else []),
            primary_key=column.primary_key,
            nullable=column.nullable,
            server_default=column.server_default and column.server_default.arg,
        )
        for column in real.columns
    ]
    unique = [
        UniqueConstraint(*constraint.columns.keys())
        for constraint in real.constraints
        if isinstance(constraint, UniqueConstraint)
    ]
    numbers_apart = is_apart and dialect == "sqlite"
    table = Table(
        model.__tablename__, metadata, *columns, *unique, sqlite_autoincrement=numbers_apart
    )
    for index in real.indexes:
        if index.dialect_options[dialect].get("where") is None:
            Index(f"plan_{index.name}", *(table.columns[c.name] for c in index.columns))
    return table


def seal(connection: Connection) -> None:
    """Let the database refuse every write that does not go into a temporary table.

    Call this before ordinary code runs on a connection of `planning_connection`. Raises DBAPIError,
    also if one of the real tables is not hidden.
    """
    visible = _not_hidden(connection, [str(model.__tablename__) for model in hidden_models()])
    if visible:
        _refuse_for_now(
            Refusal(
                f"a plan would write into the real tables {', '.join(visible)}, because temporary"
                " ones do not hide them",
                "Nothing was written. Make sure that nothing in the database changes search_path.",
            )
        )
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    else:
        driver: Any = connection.connection.driver_connection
        driver.set_authorizer(_only_temporary)


def _not_hidden(connection: Connection, names: list[str]) -> list[str]:
    """Return those of these tables that a name without a schema would reach."""
    if connection.dialect.name == "postgresql":
        listed = ", ".join(f"('{name}')" for name in names)
        rows = through(connection)(
            f"SELECT name FROM (VALUES {listed}) AS hidden (name) WHERE NOT EXISTS"  # noqa: S608
            " (SELECT 1 FROM pg_class WHERE oid = to_regclass(name)"
            " AND relnamespace = pg_my_temp_schema())"
        )
        return [name for (name,) in rows]
    rows = through(connection)("SELECT name FROM temp.sqlite_master WHERE type = 'table'")
    return sorted(set(names) - {name for (name,) in rows})


def check_not_rewritten(connection: Connection) -> None:
    """Raise TablesRewritten unless the snapshot of a connection sees the rows of all real tables.

    On PostgreSQL, a snapshot that is older than a TRUNCATE, or than an ALTER TABLE that rewrites a
    table, finds no rows there. Call this before what was read is used. Raises DBAPIError.
    """
    planning = planning_on(connection)
    if planning is None or connection.dialect.name != "postgresql":
        return
    # The snapshot sees the old number of the file, and the function returns the present one.
    statement = text(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = :schema AND c.relname = ANY(:names)"
        " AND NULLIF(c.relfilenode, 0) IS DISTINCT FROM pg_relation_filenode(c.oid)"
    )
    values = {"schema": planning.schema, "names": list(Base.metadata.tables)}
    if rewritten := sorted(connection.scalars(statement, values)):
        raise TablesRewritten(f"rewritten meanwhile: {', '.join(rewritten)}")


_CHANGES: Final = (
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_ALTER_TABLE,
)


def _only_temporary(
    action: int, name: str | None, _part: str | None, schema: str | None, _source: str | None
) -> int:
    """Allow a statement to change rows only in what is temporary.

    SQLite's own tables do not count: it seems to change them whenever a query reads JSON as a
    table.
    """
    is_own = name is not None and name.startswith("sqlite_")
    is_allowed = action not in _CHANGES or schema == "temp" or is_own
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY
