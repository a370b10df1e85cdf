"""Make every call of a client while something is wrong with the broker."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import Any

import pytest

from producer.client import EnrollmentClient
from producer.errors import BrokerUnavailable, EnrollmentError, NoWorkerAnswered
from producer.schemas import Kind
from support.stopwatch import Stopwatch

REQUEST = {"student_id": "S", "course_ids": ["C"]}
CALLS: dict[str, Callable[[EnrollmentClient], Any]] = {
    "submit": lambda client: client.submit(REQUEST),
    "submit_all": lambda client: client.submit_all([REQUEST, REQUEST]),
    "enroll": lambda client: client.enroll(REQUEST),
    "submit_batch": lambda client: client.submit_batch(Kind.ENROLLMENTS, [REQUEST]),
    "submit_batch by name": lambda client: client.submit_batch(
        Kind.ENROLLMENTS, [REQUEST], batch_id="named"
    ),
    "status": lambda client: client.status("x"),
    "batch": lambda client: client.batch("x"),
}
Clients = dict[tuple[str, str], EnrollmentClient]


@contextmanager
def clients_of(new_url: str, used_url: str, *, answers: str | None = None) -> Iterator[Clients]:
    """Two clients for each call, a new one and one whose connections are open.

    The URLs must be two spellings of the same, because kombu shares connections of one URL within
    a process.
    """
    with ExitStack() as stack:
        clients: Clients = {}
        for name, state in product(CALLS, ("new", "used")):
            url = new_url if state == "new" else used_url
            made = EnrollmentClient(url, result_backend_url=answers)
            clients[name, state] = stack.enter_context(made)
        for client in [client for (_, state), client in clients.items() if state == "used"]:
            client.timeout = 0.05
            client.submit(REQUEST)
            client.submit_batch(Kind.ENROLLMENTS, [REQUEST])
            with pytest.raises(NoWorkerAnswered):
                client.status("x")
            client.timeout = 15
        yield clients


def check_that_all_fail(clients: Clients, remedy: str = "") -> None:
    """Make all calls at the same time; check how long each takes, and the remedy of its error."""

    def call(which: tuple[str, str]) -> tuple[EnrollmentError | str, float]:
        watch = Stopwatch(os.getpid())
        try:
            done: EnrollmentError | str = f"returned {CALLS[which[0]](clients[which])!r}"
        except EnrollmentError as error:
            done = error
        return done, watch.seconds()

    with ThreadPoolExecutor(len(clients)) as pool:
        found = dict(zip(clients, pool.map(call, clients), strict=True))
    for name, (error, seconds) in found.items():
        assert isinstance(error, BrokerUnavailable), (name, error)
        assert seconds < 10, name
        assert clients[name].shown_url in str(error)
        assert remedy in error.remedy, (name, error)
