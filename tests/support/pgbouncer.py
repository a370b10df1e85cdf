"""Start a real PgBouncer before a PostgreSQL."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from support.postgres import folder_for_all_users
from support.requirements import require_program
from support.valkey import free_port
from support.waiting import wait_for


@contextmanager
def running_pgbouncer(database_url: str, **options: str | int) -> Iterator[str]:
    """A PgBouncer in transaction mode on a free port; yields the URL of the database through it.

    `options` are further lines of its configuration. The pool is small by default, so that
    clients share the connections to the server from the first moment.
    """
    server, port = conninfo_to_dict(database_url), free_port()
    url = f"postgresql://{server['user']}@127.0.0.1:{port}/{server['dbname']}"
    with folder_for_all_users() as folder:
        process = _start(folder, port, server, options)
        try:
            wait_for(lambda: _answers(url, process))
            yield url
        finally:
            process.kill()
            process.wait()


def _start(
    folder: Path, port: int, server: dict[str, Any], options: dict[str, str | int]
) -> subprocess.Popen[bytes]:
    target = " ".join(f"{key}={server[key]}" for key in ("host", "port", "user") if key in server)
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
    configuration = folder / "pgbouncer.ini"
    configuration.write_text("\n".join(lines) + "\n")
    # PgBouncer refuses to run as root.
    other_user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    with (folder / "pgbouncer.log").open("wb") as log:
        return subprocess.Popen(
            [require_program("pgbouncer"), str(configuration)],
            stdout=log,
            stderr=log,
            extra_groups=[] if other_user else None,
            **other_user,
        )


def _answers(url: str, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "PgBouncer ended"
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
