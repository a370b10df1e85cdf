"""Let other connections read the snapshot of a plan, so that several look things up at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, event

from worker.database.ask import through
from worker.database.engine import Database, is_lent_for_a_transaction
from worker.database.planning import Planning, begin_planning, planning_on


class SharedSnapshot(NamedTuple):
    """The snapshot of a connection on which a plan is made; it ends with its transaction."""

    name: str
    planning: Planning


_MAY_SHARE: Final = "SELECT has_function_privilege('pg_export_snapshot()', 'EXECUTE')"
_SHARE: Final = "SELECT pg_export_snapshot()"


def share_snapshot(connection: Connection) -> SharedSnapshot | None:
    """Share the snapshot of a connection on which a plan is made; None if that is not possible.

    Only PostgreSQL can, and only with a right that every role has by default. Behind a pooler, a
    snapshot is not shared: each plan would take several of the few connections that it lends, and
    plans that are made at the same time could wait for each other. Raises DBAPIError.
    """
    planning = planning_on(connection)
    if planning is None or connection.dialect.name != "postgresql":
        return None
    if is_lent_for_a_transaction(connection):
        return None
    ask = through(connection)
    ((may_share,),) = ask(_MAY_SHARE)
    if not may_share:
        return None
    ((name,),) = ask(_SHARE)
    return SharedSnapshot(str(name), planning)


_OPTIONS: Final[dict[str, Any]] = {
    "isolation_level": "REPEATABLE READ",
    "postgresql_readonly": True,
}


@contextmanager
def shared_connection(database: Database, snapshot: SharedSnapshot) -> Iterator[Connection]:
    """Open a connection that sees a shared snapshot, and may not write.

    It has no temporary tables. Raises DBAPIError, also if the snapshot does not exist any more.
    """
    engine = database.new_engine()
    event.listen(engine, "begin", partial(_use, snapshot))
    try:
        with engine.connect() as connection:
            connection.execution_options(**_OPTIONS)
            begin_planning(connection, snapshot.planning)
            yield connection
    finally:
        engine.dispose()


def _use(snapshot: SharedSnapshot, connection: Connection) -> None:
    # This must be the first statement of the transaction.
    connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{snapshot.name}'")
