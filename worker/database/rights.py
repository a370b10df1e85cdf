"""Test whether the database would accept a worker's writes, without changing anything."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, delete, false, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError

from worker.database.ask import Ask, through
from worker.database.engine import RECYCLE_SECONDS
from worker.database.errors import LOCK_NOT_AVAILABLE, sentence_of, sqlstate_of
from worker.database.guard import refuse
from worker.database.refusal import Refusal
from worker.database.sequences import NUMBERED
from worker.models import (
    Base,
    EnrollmentResult,
    IdentityRow,
    PastEnrollment,
    RetentionLimit,
    StudentCourse,
)
from worker.plan_models import (
    AlsoEnrolledBy,
    PlannedDropRow,
    PlannedRefusal,
    StagedChunk,
)

APPLIES = (
    f"Workers renew their connections within {RECYCLE_SECONDS} s; behind PgBouncer, also run"
    " RECONNECT in its console."
)
"""What follows a remedy that changes a setting of new sessions."""

MOST = 5
"""The most refusals that are reported."""

ONLY_READ = (IdentityRow.__table__, RetentionLimit.__table__)
"""The tables that workers only read."""

DROPPED_FROM = (
    StudentCourse.__table__,
    PastEnrollment.__table__,
    EnrollmentResult.__table__,
    AlsoEnrolledBy.__table__,
    StagedChunk.__table__,
    PlannedDropRow.__table__,
    PlannedRefusal.__table__,
)
"""The tables from which workers remove rows: for drops, and when plans are made or end."""

_DENIED, _READ_ONLY, _UNKNOWN_COLUMN = "42501", "25006", "23502"


def refused_writes(connection: Connection) -> Refusal | None:
    """Return in the database's own sentences what it refuses to write, or None.

    Each statement writes nothing, into one of our tables; the caller rolls back. Raises DBAPIError
    if the connection fails.
    """
    refusals: dict[str, str | None] = {}
    if connection.dialect.name == "postgresql":
        through(connection)("SELECT set_config('lock_timeout', '500ms', true)")
    for statement in _statements():
        try:
            with connection.begin_nested():
                connection.execute(statement)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            refusals[sentence_of(error)] = sqlstate_of(error)
    refusals |= _refused_sequences(connection) | _unknown_columns(connection)
    if not refusals:
        return None
    more = f"; and {len(refusals) - MOST} more" if len(refusals) > MOST else ""
    problem = f"the database refuses to write: {'; '.join(list(refusals)[:MOST])}{more}"
    return Refusal(problem, _remedy(connection, next(iter(refusals.values()))))


def require_visible_tables(connection: Connection) -> None:
    """Raise OperationalError if the tables exist, but the role does not see their schema."""
    if connection.dialect.name != "postgresql":
        return
    hidden = through(connection)(
        "SELECT quote_ident(n.nspname), quote_ident(current_user), current_setting('search_path')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = 'alembic_version' AND c.relkind = 'r'"
        " AND NOT pg_table_is_visible(c.oid)"
    )
    if hidden:
        schema, role, path = hidden[0]
        problem = (
            f"the role {role} does not see the tables, which are in the schema {schema}: it lacks"
            f" the right to use the schema, or its search_path ({path}) leaves the schema out"
        )
        remedy = (
            f"Run as the owner of the schema: GRANT USAGE ON SCHEMA {schema} TO {role}; and if the"
            f" path is wrong: ALTER ROLE {role} SET search_path = {schema}; If those tables belong"
            " to another deployment, run python -m worker.migrate to make tables for this one."
        )
        refuse(Refusal(problem, remedy))


def no_temporary_tables(connection: Connection) -> Refusal:
    """Return the refusal of a plan for a role that may not create temporary tables."""
    ((role, name),) = through(connection)(_ROLE_AND_DATABASE)
    return Refusal(
        f"the role {role} may not create temporary tables in the database {name}, so no plan can be"
        " made: neither a dry run nor a snapshot",
        f"Run as the owner of the database: GRANT TEMPORARY ON DATABASE {name} TO {role};",
    )


def refused_plans(connection: Connection) -> Refusal | None:
    """Return why no plan can be made with this role, or None. Raises DBAPIError."""
    if connection.dialect.name != "postgresql":
        return None
    right = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
    ((may_create,),) = through(connection)(right)
    return None if may_create else no_temporary_tables(connection)


_ROLE_AND_DATABASE = "SELECT quote_ident(current_user), quote_ident(current_database())"


def _unknown_columns(connection: Connection) -> dict[str, str | None]:
    """Return a sentence for each column that we do not fill and that must not be empty."""
    found = inspect(connection)
    return {
        f"the table {table.name} has the column {column['name']}, which this version does not"
        " know and which has no default": _UNKNOWN_COLUMN
        for table in Base.metadata.sorted_tables
        if found.has_table(table.name)
        for column in found.get_columns(table.name)
        if column["name"] not in table.columns
        and not column["nullable"]
        and column["default"] is None
        and not column.get("identity")
    }


def _statements() -> Iterator[Any]:
    for table in Base.metadata.sorted_tables:
        nothing = select(*table.columns).where(false())
        yield nothing
        if table in DROPPED_FROM:
            yield delete(table).where(false())
        if table not in ONLY_READ:
            names = [column.name for column in table.columns]
            yield insert(table).from_select(names, nothing)
            yield update(table).where(false()).values({names[-1]: table.columns[names[-1]]})


def _refused_sequences(connection: Connection) -> dict[str, str | None]:
    if connection.dialect.name != "postgresql":
        return {}
    sequences = ", ".join(f"(pg_get_serial_sequence('{t}', '{c}'))" for t, c in NUMBERED)
    rows = through(connection)(
        f"SELECT sequence FROM (VALUES {sequences}) AS ours (sequence)"  # noqa: S608 - our own names
        " WHERE NOT has_sequence_privilege(sequence, 'USAGE')"
    )
    names = [name.rpartition(".")[2] for (name,) in rows]
    return {f"permission denied for sequence {name}": _DENIED for name in names}


def _remedy(connection: Connection, state: str | None) -> str:
    if connection.dialect.name != "postgresql":
        return "Give the user of the worker the right to write the file and its folder."
    ask = through(connection)
    if state == _DENIED:
        ((role, schema),) = ask("SELECT quote_ident(current_user), quote_ident(current_schema())")
        return (
            f"Run as the owner of the tables: GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT"
            f" SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}; GRANT"
            f" USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};"
        )
    if state == _READ_ONLY:
        return _make_writable(ask)
    if state == _UNKNOWN_COLUMN:
        return "Drop the column, give it a default, or let it be null. Workers wait until then."
    if state == LOCK_NOT_AVAILABLE:
        return (
            "End the session that locks the table. This lists candidates: SELECT a.pid, a.usename,"
            " l.relation::regclass, l.mode, a.query FROM pg_locks l JOIN pg_stat_activity a USING"
            " (pid) WHERE l.granted AND l.locktype = 'relation' AND a.datname = current_database()"
            " AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',"
            " 'AccessExclusiveLock'); Then run: SELECT pg_terminate_backend(PID);"
        )
    return "Fix what the database reports. Workers wait until then, and refuse nothing."


def _make_writable(ask: Ask) -> str:
    ((is_standby, role, database),) = ask(
        "SELECT pg_is_in_recovery(), quote_ident(current_user), quote_ident(current_database())"
    )
    if is_standby:
        return (
            "The server is a standby: point ENROLL_DATABASE_URL at the primary. Promote this server"
            " only if the primary is gone for good."
        )
    return (
        f"Run as a superuser: BEGIN READ WRITE; ALTER ROLE {role} IN DATABASE {database} SET"
        f" default_transaction_read_only = off; COMMIT; {APPLIES}"
    )
