"""Read the identity of this database, in which a restored copy differs from its original.

A copy has the random id of its original. On PostgreSQL, the system identifier of the cluster and
the OID of the database tell the two apart. A restored dump, or a copy made from a template, has
another OID or is in another cluster; a promoted standby keeps both.

On SQLite, the inode of the file tells them apart. It stays the same when the file is renamed,
mounted at another path in a container, or overwritten by a backup; any other file has another
inode. The path would differ between containers, and the number of the device changes with a reboot.
"""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from sqlalchemy import URL, Connection, delete, insert, select

from producer.contract.identity import DatabaseIdentity
from worker.database.ask import Ask
from worker.database.refusal import Refusal
from worker.models import IdentityRow


class NoIdentity(Exception):
    """The database has lost its identity. The message says what to do."""

    refusal = Refusal(
        "the table database_identity is empty, as after a restore without its data",
        "If this is the right database, run: enroll database renew",
    )

    def __init__(self) -> None:
        super().__init__(str(self.refusal))


def read_identity(ask: Ask, url: URL) -> DatabaseIdentity:
    """Return the identity of the database at a URL. Raises NoIdentity, and what `ask` raises."""
    rows = ask("SELECT id FROM database_identity")
    if not rows:
        raise NoIdentity
    ((identity,),) = rows
    if url.get_backend_name() == "sqlite":
        ((path,),) = ask("SELECT file FROM pragma_database_list WHERE name = 'main'")
        return DatabaseIdentity(id=identity, number=Path(path).stat().st_ino, place=path)
    ((number, name, may_read_cluster),) = ask(
        "SELECT oid::bigint, datname, has_function_privilege('pg_control_system()', 'EXECUTE')"
        " FROM pg_database WHERE datname = current_database()"
    )
    cluster = None
    if may_read_cluster:
        ((cluster,),) = ask("SELECT system_identifier::text FROM pg_control_system()")
    place = f"{name} at {_server(url)}"
    return DatabaseIdentity(id=identity, cluster=cluster, number=number, place=place)


def _server(url: URL) -> str:
    """Return the server in a URL of PostgreSQL, which may name several, or a socket's folder."""
    host = url.host or url.query.get("host") or "the local socket"
    hosts = host if isinstance(host, str) else ", ".join(host)
    return hosts if url.port is None else f"{hosts}:{url.port}"


def renew_identity(connection: Connection) -> None:
    """Give the database a new random id. Raises DBAPIError."""
    stored_until = connection.scalar(select(IdentityRow.results_stored_until))
    connection.execute(delete(IdentityRow))
    row = {"singleton": 1, "id": uuid4().hex, "created_at": datetime.now(UTC)}
    row["results_stored_until"] = stored_until
    connection.execute(insert(IdentityRow).values(row))
