"""Real worker processes."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from producer.client import EnrollmentClient
from producer.errors import NoWorkerAnswered
from support.commands import GOOD, clean_environment, run_enroll, start_enroll
from support.paths import ROOT, TESTS
from support.prepared import Prepared
from support.waiting import slowness

WITHOUT_GOSSIP = ("--without-gossip", "--without-mingle", "--without-heartbeat")
"""Options that switch off contact with other workers, so that a worker is ready sooner."""


@dataclass(frozen=True)
class Deployment:
    """A running worker with its broker and its database."""

    broker_url: str
    database_url: str
    process: "subprocess.Popen[bytes]"
    log: Path
    key_prefix: str = ""

    @property
    def environment(self) -> dict[str, str]:
        environment = worker_environment(self.broker_url, self.database_url)
        own = {"XDG_STATE_HOME": str(self.log.parent / "state")}
        return environment | own | {"ENROLL_KEY_PREFIX": self.key_prefix}

    def enroll(
        self, *arguments: str | Path, expect: int = GOOD, given: str | bytes | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on this deployment, as `run_enroll` does."""
        return run_enroll(self.environment, *arguments, expect=expect, given=given)

    def start_enroll(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Start a command on this deployment, as `start_enroll` does."""
        return start_enroll(self.environment, *arguments)


def worker_environment(
    broker_url: str, database_url: str, *, measured: bool = False
) -> dict[str, str]:
    """Return the environment of this process, with only these two of our own variables.

    Coverage takes half as much time again, so only what runs the most is `measured`: the worker of
    the shared deployment on PostgreSQL.
    """
    urls = {"ENROLL_BROKER_URL": broker_url, "ENROLL_DATABASE_URL": database_url}
    environment = clean_environment() | urls
    if not measured:
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
    return environment


def start_worker(
    environment: Mapping[str, str],
    log: Path,
    *arguments: str,
    app: str = "worker",
    fresh: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a worker in a process group of its own.

    `app` may also be one of the tests' own, such as `support.apps.skewed`. A `fresh` one has a
    command line of its own in the list of processes.
    """
    own_path = {} if app == "worker" else {"PYTHONPATH": str(TESTS)}
    with log.open("ab") as output:
        return Prepared(
            ["-m", "celery", "-A", app, "worker", *arguments],
            fresh=fresh,
            env={**environment, **own_path},
            cwd=ROOT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


@contextlib.contextmanager
def ended_after(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """End a worker with all its children: in order, and by force after 20 seconds."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def running_worker(
    broker_url: str,
    database_url: str,
    log: Path,
    *arguments: str,
    client_url: str | None = None,
    app: str = "worker",
    settings: Mapping[str, str] | None = None,
    measured: bool = False,
    fresh: bool = False,
) -> Iterator[Deployment]:
    """A real worker process, ready to answer; ended with all its children.

    `client_url` is for the client that asks whether it is ready, where that is not the worker's
    own; `settings` are more variables of its environment; `fresh` is explained at `start_worker`.
    """
    environment = worker_environment(broker_url, database_url, measured=measured)
    environment |= dict(settings or {})
    key_prefix = environment.get("ENROLL_KEY_PREFIX", "")
    with ended_after(start_worker(environment, log, *arguments, app=app, fresh=fresh)) as process:
        _wait_until_ready(client_url or broker_url, key_prefix, process, log)
        yield Deployment(broker_url, database_url, process, log, key_prefix)


def _wait_until_ready(
    broker_url: str, key_prefix: str, process: "subprocess.Popen[bytes]", log: Path
) -> None:
    started = time.monotonic()
    with EnrollmentClient(broker_url, timeout=1, key_prefix=key_prefix) as client:
        while time.monotonic() - started < 60 * slowness():
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(NoWorkerAnswered):
                client.status("ready?")
                return
    pytest.fail(f"The worker did not become ready:\n{log.read_text()}")
