"""The speed and the memory of the HTTP front, with two server processes and this one as the load.

Single POSTs with 50 connections, as a ratio to publishing with `apply_async` in a loop; lookups of
finished requests, as a ratio to `/health/live`; memory over many connections and a large upload.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from celery import Celery

from benchmarks import rig
from producer.client import EnrollmentClient
from producer.contract.routing import TaskName
from support.front_load import stopped
from support.http import serving
from support.workers import running_worker

PROCESSES = "2"
POSTS = 10_000
CONNECTIONS = 50
ROWS = 1_000_000


def apply_async_seconds(broker_url: str) -> float:
    """Return how long Celery itself takes to publish the same requests one after the other."""
    app = Celery("bare", broker=broker_url, set_as_current=False)
    app.conf.task_ignore_result = True

    @app.task(name=TaskName.ENROLL.value)
    def task(asked: object) -> object:
        return asked

    started = time.perf_counter()
    for number in range(POSTS):
        task.apply_async(args=[request(number)], queue="bare")
    seconds = time.perf_counter() - started
    with app.connection_or_acquire() as connection:
        connection.default_channel.queue_purge("bare")
    app.close()
    return seconds


def request(number: int) -> dict[str, object]:
    return {"student_id": f"S{number + 1}", "course_ids": ["C1", "C2"]}


Message = Callable[[int], bytes]
"""Makes the bytes of a call by its number."""


def post(number: int) -> bytes:
    body = json.dumps(request(number)).encode()
    head = (
        "POST /students/enroll HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def exchange(port: int, count: int, make: Message, status: int) -> tuple[float, list[bytes]]:
    """Return how long all calls take, and their bodies; a client library would be the limit."""
    numbers = iter(range(count))
    bodies: list[bytes] = []

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            writer.write(make(number))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.startswith(f"http/1.1 {status}"), head
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            bodies.append(await reader.readexactly(length))
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(CONNECTIONS)))
    return time.perf_counter() - started, bodies


async def connect_again_and_again(port: int) -> None:
    """Open a connection for each of many calls, one after the other."""
    for _ in range(POSTS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/health/live"))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()


def memory(process: psutil.Process) -> int:
    """Return the memory of the server processes, in bytes."""
    return sum(child.memory_info().rss for child in process.children(recursive=True))


def main() -> None:
    with rig.running() as made, made.database() as database_url:
        folder = Path(tempfile.mkdtemp(dir=made.folder))
        with (
            running_worker(made.broker_url, database_url, folder / "log", "--concurrency=2") as d,
            serving(d.environment, folder / "http.log", "--processes", PROCESSES) as (url, process),
            EnrollmentClient(made.broker_url, timeout=30) as client,
        ):
            port, server = int(url.rpartition(":")[2]), psutil.Process(process.pid)
            with stopped(d.process.pid):  # It would take turns on the same cores.
                bare = apply_async_seconds(made.broker_url)
                seconds, bodies = asyncio.run(exchange(port, POSTS, post, 202))
                bare = (bare + apply_async_seconds(made.broker_url)) / 2
            ids = [json.loads(body)["request_id"] for body in bodies]
            print(f"{POSTS / bare:,.0f} apply_async/s, {POSTS / seconds:,.0f} POSTs/s:", end=" ")
            print(f"ratio {bare / seconds:.2f}")
            while not all(one.state == "done" for one in client.statuses(ids)):
                time.sleep(0.2)
            results = [one.result for one in client.statuses(ids)]
            print(f"{sum(r is not None and r.status == 'enrolled' for r in results):,} enrolled")
            health, _ = asyncio.run(exchange(port, POSTS, lambda _: get("/health/live"), 200))
            # Recent results, which Redis has.
            recent = [client.enroll(request(n)).request_id for n in range(200)]
            polled, _ = asyncio.run(
                exchange(port, POSTS, lambda n: get(f"/requests/{recent[n % 200]}"), 200)
            )
            print(f"{POSTS / health:,.0f} GETs/s of /health/live, {POSTS / polled:,.0f}", end=" ")
            print(f"of a finished request: ratio {health / polled:.2f}")
            before = memory(server)
            asyncio.run(connect_again_and_again(port))
            after = memory(server)
            print(f"{POSTS:,} connections: memory {before >> 20} MiB, now {after >> 20} MiB")
            path = rig.write_long(folder / "long.csv", ROWS)
            started = time.perf_counter()
            with path.open("rb") as body:
                httpx.post(f"{url}/batches", content=body, timeout=600).raise_for_status()
            print(f"{ROWS:,} rows in {time.perf_counter() - started:.1f} s;", end=" ")
            print(f"memory {after >> 20} MiB, now {memory(server) >> 20} MiB")


if __name__ == "__main__":
    main()
