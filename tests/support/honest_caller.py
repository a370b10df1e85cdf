"""The caller whom a storm of others must not hold up, and the one that asks whether a front lives.

They run in a process of their own, because the event loop of the storm would hold them up. This
module imports little, so that the process starts quickly.
"""

import contextlib
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from http import HTTPStatus
from http.client import HTTPConnection
from typing import NamedTuple
from urllib.parse import urlsplit

from support.stopwatch import Stopwatch

PAUSE = 0.05
"""Seconds between two calls: at most 20 calls a second."""


class Front(NamedTuple):
    """The front that is called, and whose time counts."""

    url: str
    token: str
    processes: tuple[int, ...]
    """The ids of the processes that take part in a response: the front's and its broker's."""


class Call(NamedTuple):
    """A call, and its response."""

    started: float
    ended: float
    seconds: float
    """How long it took, without the time in which no processor was free for it."""
    status: int
    request_id: str | None
    """The id of the request, if it was accepted."""


class Calls(NamedTuple):
    """All calls of both, in order."""

    health: list[Call]
    honest: list[Call]


@contextlib.contextmanager
def waiting_process() -> Iterator[ProcessPoolExecutor]:
    """Start a process that is ready to call."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(time.monotonic).result()
        yield pool


def start(pool: ProcessPoolExecutor, front: Front, end: float) -> "Future[Calls]":
    """Let both callers call one call after the other until `end`, a time of the monotonic clock."""
    return pool.submit(_call, front, end)


def _call(front: Front, end: float) -> Calls:
    calls = Calls([], [])
    enroll = threading.Thread(target=_enroll, args=(front, end, calls.honest))
    enroll.start()
    _repeat(front, ("GET", "/health/live"), end, calls.health)
    enroll.join()
    return calls


def _enroll(front: Front, end: float, calls: list[Call]) -> None:
    """Enroll a student again and again.

    The requests have no ids of their own: with one, a worker would be asked for an earlier result.
    """
    body = json.dumps({"student_id": "L1", "course_ids": ["LC1"]})
    headers = {"Authorization": f"Bearer {front.token}", "Content-Type": "application/json"}
    _repeat(front, ("POST", "/students/enroll", body, headers), end, calls)


def _repeat(
    front: Front,
    call: tuple[str, str] | tuple[str, str, str, dict[str, str]],
    end: float,
    calls: list[Call],
) -> None:
    address = urlsplit(front.url)
    assert address.hostname is not None
    connection = HTTPConnection(address.hostname, address.port, timeout=60)
    with contextlib.closing(connection):
        while time.monotonic() < end:
            watch = Stopwatch(*front.processes)
            connection.request(*call)
            response = connection.getresponse()
            content = response.read()
            seconds = watch.seconds()
            is_accepted = response.status == HTTPStatus.ACCEPTED
            request_id = json.loads(content)["request_id"] if is_accepted else None
            ended = time.monotonic()
            calls.append(Call(watch.started, ended, seconds, response.status, request_id))
            time.sleep(PAUSE)
