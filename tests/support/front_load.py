"""Load that an HTTP front must stand: callers that are slow, many and greedy, all at once.

A caller of its own, the honest one, goes on meanwhile; what it sees is what is judged.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx
from redis import Redis

from producer.web.connections import HEAD_SECONDS
from support.honest_caller import Call, Front, start, waiting_process
from support.stopwatch import Stopwatch
from support.workers import Deployment

PIECES = 20
"""Pieces in which an upload arrives, and a slow body."""

ROWS = 200
"""Rows of an upload."""

ANSWER_SECONDS = 60
"""Seconds for which a caller waits for a refusal that must come."""


@dataclass
class Load:
    """How much arrives at once, and for how long."""

    uploads: int = 40
    slow_bodies: int = 200
    streams: int = 200
    waiters: int = 100
    slow_heads: int = 50
    seconds: float = 12.0
    worker_stopped: float = 6.0
    """Seconds for which the worker is stopped."""
    broker_frozen: float = 2.0
    """Seconds for which the broker does not answer, while the worker is stopped."""


@dataclass
class Seen:
    """What callers saw."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    """By sort of call; 0 is a connection that was closed without a response."""
    health: list[Call] = field(default_factory=list)
    honest: list[Call] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)
    frozen: tuple[float, float] = (0.0, 0.0)
    """When the broker was frozen, and when it was not any more."""

    def count(self, sort: str, status: int) -> None:
        self.statuses.setdefault(sort, Counter())[status] += 1


@contextlib.contextmanager
def stopped(process_group: int) -> Iterator[None]:
    """Stop all processes of a group for a while."""
    os.killpg(process_group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(process_group, signal.SIGCONT)


@contextlib.contextmanager
def frozen(broker_url: str) -> Iterator[None]:
    """Freeze the broker for a while: it neither answers nor refuses."""
    with Redis.from_url(broker_url) as redis:
        pid = int(redis.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Storm:
    """The callers of one front; `greedy` and `honest` are tokens, which may do everything.

    `process` is the process id of the front.
    """

    def __init__(self, url: str, process: int, greedy: str, honest: str, load: Load) -> None:
        self.url = url
        self._process = process
        self.load = load
        self.seen = Seen()
        self._address = urlsplit(url)
        self._greedy = {"Authorization": f"Bearer {greedy}"}
        self._honest = honest
        self._end = 0.0

    async def run(self, deployment: Deployment) -> Seen:
        """Let all callers loose, stop the worker and freeze the broker; return what was seen."""
        with waiting_process() as pool, Redis.from_url(deployment.broker_url) as redis:
            processes = (self._process, int(redis.info("server")["process_id"]))
            front = Front(self.url, self._honest, processes)
            self._end = time.monotonic() + self.load.seconds
            calls = asyncio.wrap_future(start(pool, front, self._end))
            await self._storm(deployment)
            self.seen.health, self.seen.honest = await calls
        return self.seen

    async def _storm(self, deployment: Deployment) -> None:
        load = self.load
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        timeout = httpx.Timeout(load.seconds + 60)
        async with (
            httpx.AsyncClient(base_url=self.url, limits=limits, timeout=timeout) as client,
            asyncio.TaskGroup() as group,
        ):
            call = group.create_task
            call(self._break(deployment))
            for number in range(load.uploads):
                call(self._upload(client, number))
            for number in range(load.slow_bodies):
                call(self._send_slowly(with_token=number % 2 == 0))
            for _ in range(load.slow_heads):
                call(self._hang())
            for _ in range(load.streams):
                call(self._follow(client))
            for _ in range(load.waiters):
                call(self._wait(client))

    async def _break(self, deployment: Deployment) -> None:
        await asyncio.sleep(1)
        with stopped(deployment.process.pid):
            await asyncio.sleep((self.load.worker_stopped - self.load.broker_frozen) / 2)
            began = time.monotonic()
            with frozen(deployment.broker_url):
                await asyncio.sleep(self.load.broker_frozen)
            self.seen.frozen = (began, time.monotonic())
            await asyncio.sleep((self.load.worker_stopped - self.load.broker_frozen) / 2)

    async def _upload(self, client: httpx.AsyncClient, number: int) -> None:
        batch_id = f"load-{number}-{uuid.uuid4().hex}"

        async def pieces() -> AsyncIterator[bytes]:
            yield b"student_id,course_id\n"
            for _ in range(PIECES):
                yield b"L1,LC1\n" * (ROWS // PIECES)
                await asyncio.sleep(self.load.seconds / 3 / PIECES)

        headers = {**self._greedy, "Content-Type": "text/csv"}
        status = 0
        # A refused upload may see its connection closed before it reads the response.
        with contextlib.suppress(httpx.TransportError):
            response = await client.post(
                f"/batches?batch_id={batch_id}", content=pieces(), headers=headers
            )
            status = response.status_code
        self.seen.count("upload", status)
        if status == httpx.codes.ACCEPTED:
            self.seen.batches.append(batch_id)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._address.hostname, self._address.port)

    async def _send_slowly(self, *, with_token: bool) -> None:
        """Send a body a byte at a time, for as long as the front listens.

        A busy machine may keep the head from arriving before its deadline: that counts as `late`.
        """
        watch = Stopwatch(self._process)
        reader, writer = await self._connect()
        head = "POST /students/enroll HTTP/1.1\r\nHost: localhost\r\n"
        if with_token:
            head += f"Authorization: {self._greedy['Authorization']}\r\n"
        writer.write(
            f"{head}Content-Type: application/json\r\nContent-Length: 500\r\n\r\n".encode()
        )
        answer = asyncio.ensure_future(reader.read(1_000))
        with contextlib.suppress(ConnectionError):
            while not answer.done() and time.monotonic() < self._end:
                writer.write(b" ")
                await writer.drain()
                await asyncio.wait([answer], timeout=0.5)
        if not with_token:
            await asyncio.wait([answer], timeout=ANSWER_SECONDS)
        starved = time.monotonic() - watch.started - watch.seconds()
        is_late = _status(answer) == HTTPStatus.REQUEST_TIMEOUT and starved > HEAD_SECONDS / 2
        sort = "late" if is_late else f"slow body {'with' if with_token else 'without'} token"
        self.seen.count(sort, _status(answer))
        answer.cancel()
        writer.close()

    async def _hang(self) -> None:
        """Send the beginning of a head, and nothing more."""
        reader, writer = await self._connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: local")
        answer = asyncio.ensure_future(reader.read(1_000))
        await asyncio.wait([answer], timeout=self.load.seconds + ANSWER_SECONDS)
        self.seen.count("slow head", _status(answer))
        answer.cancel()
        writer.close()

    async def _follow(self, client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/batches/load/events", headers=self._greedy) as response:
            self.seen.count("stream", response.status_code)
            events = response.aiter_lines()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._end - time.monotonic())):
                    async for _ in events:
                        pass

    async def _wait(self, client: httpx.AsyncClient) -> None:
        body = json.dumps({"student_id": "L1", "course_ids": ["LC1"]})
        headers = {
            **self._greedy,
            "Content-Type": "application/json",
            "Prefer": f"wait={self.load.seconds:.0f}",
        }
        response = await client.post("/students/enroll", content=body, headers=headers)
        self.seen.count("waiter", response.status_code)


def _status(answer: "asyncio.Future[Any]") -> int:
    """Return the status of a raw response; 0 if there was none."""
    if not answer.done() or answer.exception() is not None:
        return 0
    words = answer.result().split(b" ", 2)
    return int(words[1]) if len(words) > 1 else 0
