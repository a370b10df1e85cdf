"""Run the embedded stack for a program's own tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from producer.client import EnrollmentClient
from producer.contract.stack_folder import database_url
from producer.embedded import stack

TIMEOUT = 30.0
"""How long the client waits for the worker, in seconds."""


@dataclass(frozen=True)
class EnrollmentStack:
    """A broker, a database and a worker that run, and a client of them."""

    client: EnrollmentClient
    broker_url: str
    database_url: str


@contextmanager
def running_stack(folder: Path) -> Iterator[EnrollmentStack]:
    """Start a stack in an empty folder and yield it; stop it in any case. Raises StackError."""
    with (
        stack.running(folder) as running,
        EnrollmentClient(running.broker_url, timeout=TIMEOUT) as client,
    ):
        yield EnrollmentStack(client, running.broker_url, database_url(running.folder))
