"""Single POSTs with 50 connections, as a ratio to publishing with `apply_async` in a loop."""

import asyncio
import json
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from celery import Celery

from benchmarks import rig
from producer.client import EnrollmentClient
from producer.contract.routing import TaskName
from support.http import serving
from support.workers import running_worker

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


async def post_seconds(port: int) -> tuple[float, list[str]]:
    """How long all POSTs take, and the ids that they gave; a client library would be the limit."""
    numbers = iter(range(POSTS))
    ids: list[str] = []

    async def post() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body = json.dumps(request(number)).encode()
            head = (
                "POST /students/enroll HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert answer.startswith("http/1.1 202"), answer
            length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
            ids.append(json.loads(await reader.readexactly(length))["request_id"])
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(post() for _ in range(CONNECTIONS)))
    return time.perf_counter() - started, ids


def main() -> None:
    with rig.running() as made, made.database() as database_url:
        folder = Path(tempfile.mkdtemp(dir=made.folder))
        bare = apply_async_seconds(made.broker_url)
        with (
            running_worker(made.broker_url, database_url, folder / "log", "--concurrency=2") as d,
            serving(d.environment, folder / "http.log") as (url, process),
            EnrollmentClient(made.broker_url, timeout=30) as client,
        ):
            seconds, ids = asyncio.run(post_seconds(int(url.rpartition(":")[2])))
            print(f"{POSTS / bare:,.0f} apply_async/s, {POSTS / seconds:,.0f} POSTs/s:", end=" ")
            print(f"ratio {bare / seconds:.2f}")
            while not all(one.state == "done" for one in client.statuses(ids)):
                time.sleep(0.2)
            results = [one.result for one in client.statuses(ids)]
            print(f"{sum(r is not None and r.status == 'enrolled' for r in results):,} enrolled")
            server = psutil.Process(process.pid)
            before = server.memory_info().rss
            path = rig.write_long(folder / "long.csv", ROWS)
            started = time.perf_counter()
            with path.open("rb") as body:
                httpx.post(f"{url}/batches", content=body, timeout=600).raise_for_status()
            grown = server.memory_info().rss - before
            print(f"{ROWS:,} rows in {time.perf_counter() - started:.1f} s;", end=" ")
            print(f"server memory {before >> 20} MiB, grown by {grown / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
