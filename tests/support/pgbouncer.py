"""Start a real PgBouncer before a PostgreSQL."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from support.folders import folder_for_all_users
from support.requirements import require_program
from support.valkey import free_port
from support.waiting import wait_for

NOBODY = 65534
"""The system user that owns nothing."""


class PgBouncer:
    """A PgBouncer in transaction mode, on a port that it keeps.

    `url` leads through it to the database. `options` are further lines of its configuration. The
    pool is small by default, so that clients share the connections from the first moment.
    """

    def __init__(self, folder: Path, database_url: str, **options: str | int) -> None:
        self.folder = folder
        self._user: int | None = None
        server, port = conninfo_to_dict(database_url), free_port()
        self.url = f"postgresql://{server['user']}@127.0.0.1:{port}/{server['dbname']}"
        target = " ".join(
            f"{key}={server[key]}" for key in ("host", "port", "user") if key in server
        )
        settings: dict[str, str | int] = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": 4,
            "max_client_conn": 200,
            "server_login_retry": 1,
            **options,
        }
        lines = ["[databases]", f"* = {target}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        if os.geteuid() == 0:  # PgBouncer refuses to run as root.
            host = str(server["host"])
            # Where the socket is, only its owner may enter.
            self._user = Path(host).stat().st_uid if host.startswith("/") else NOBODY
        self._process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        with (self.folder / "pgbouncer.log").open("ab") as log:
            self._process = subprocess.Popen(
                [require_program("pgbouncer"), str(self.folder / "pgbouncer.ini")],
                stdout=log,
                stderr=log,
                user=self._user,
            )
        try:
            wait_for(self._answers, 20)
        except AssertionError:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "pgbouncer.log").read_text()
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def running_pgbouncer(database_url: str, **options: str | int) -> Iterator[str]:
    """A PgBouncer in transaction mode on a free port; yields the URL of the database through it."""
    with folder_for_all_users() as folder:
        server = PgBouncer(folder, database_url, **options)
        try:
            yield server.url
        finally:
            server.kill()
