"""Real worker processes for the tests."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from producer.client import EnrollmentClient
from producer.contract.batches import BatchStatus
from producer.errors import NoWorkerAnswered
from producer.schemas import Kind

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until it is true; fails when the time is up."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def submit_and_finish(client: EnrollmentClient, kind: Kind, records: Iterable[Any]) -> BatchStatus:
    """Submit a batch and wait until it is done."""
    batch_id = client.submit_batch(kind, records).batch_id
    wait_for(lambda: client.batch(batch_id).state == "done")
    return client.batch(batch_id)


def copy_of_repository(folder: Path) -> Path:
    """The files that git tracks or would track; what is built in the copy leaves no trace."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    return folder


@dataclass(frozen=True)
class Deployment:
    """A running worker with its broker and its database."""

    broker_url: str
    database_url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        environment = worker_environment(self.broker_url, self.database_url)
        return environment | {"XDG_STATE_HOME": str(self.log.parent / "state")}


def worker_environment(broker_url: str, database_url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ENROLL_")}
    return clean | {"ENROLL_BROKER_URL": broker_url, "ENROLL_DATABASE_URL": database_url}


@contextlib.contextmanager
def running_worker(
    broker_url: str,
    database_url: str,
    log: Path,
    *arguments: str,
    client_url: str | None = None,
    app: str = "worker",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Deployment]:
    """A real worker process, ready to answer; ended with all its children.

    `client_url` is for whoever asks it, where that is another than the worker's own; `settings`
    are more variables of its environment.
    """
    command = [sys.executable, "-m", "celery", "-A", app, "worker", *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=worker_environment(broker_url, database_url) | dict(settings or {}),
            cwd=ROOT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_ready(client_url or broker_url, process, log)
        yield Deployment(broker_url, database_url, process, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(broker_url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 60
    with EnrollmentClient(broker_url, timeout=1) as client:
        while time.monotonic() < end:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(NoWorkerAnswered):
                client.status("ready?")
                return
    pytest.fail(f"The worker did not become ready:\n{log.read_text()}")


@contextlib.contextmanager
def serving(environment: dict[str, str], log: Path, *arguments: str) -> Iterator[Any]:
    """`enroll serve`, ready to answer; gives its address and process."""
    port = free_port()
    command = [sys.executable, "-m", "producer", "serve", "--port", str(port), *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=log.parent, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(url, process, log))
        yield url, process
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/health/live").status_code == 200
    return False
