"""Try whether the database would accept a worker's writes, without changing anything."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, false, insert, select, update
from sqlalchemy.exc import DBAPIError

from worker.database.ask import Ask, through
from worker.database.errors import LOCK_NOT_AVAILABLE, sentence_of, sqlstate_of
from worker.database.refusal import Refusal
from worker.database.sequences import NUMBERED
from worker.models import Base, IdentityRow

MOST = 5
"""The most refusals that are reported."""

_DENIED, _READ_ONLY = "42501", "25006"


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
    refusals |= _refused_sequences(connection)
    if not refusals:
        return None
    more = f"; and {len(refusals) - MOST} more" if len(refusals) > MOST else ""
    problem = f"the database refuses to write: {'; '.join(list(refusals)[:MOST])}{more}"
    return Refusal(problem, _remedy(connection, next(iter(refusals.values()))))


def _statements() -> Iterator[Any]:
    for table in Base.metadata.sorted_tables:
        nothing = select(*table.columns).where(false())
        yield nothing
        if table is not IdentityRow.__table__:  # Workers only read it.
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
            "Run as the owner of the tables: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN"
            f" SCHEMA {schema} TO {role}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO"
            f" {role};"
        )
    if state == _READ_ONLY:
        return _make_writable(ask)
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
        f"Run: ALTER ROLE {role} IN DATABASE {database} SET default_transaction_read_only = off;"
        " then restart the workers."
    )
