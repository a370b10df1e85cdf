"""How many batches of a few rows are submitted by four threads, and done, in a second.

The yardstick for a message is stock Celery: empty tasks that four threads publish and two
processes run.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from redis import Redis

from benchmarks import rig
from producer.client import EnrollmentClient
from producer.schemas import Kind
from support.waiting import wait_for

THREADS, EACH, ROWS = 4, 1_000, 3
EMPTY = "empty"
"""The queue of empty tasks, where our own workers do not listen."""


def submit(client: EnrollmentClient, thread: int, ids: list[str]) -> None:
    """Submit the batches of one thread; each has requests of its own."""
    for number in range(EACH):
        first = (thread * EACH + number) * ROWS
        records = [
            {"student_id": f"S{1 + (first + row)}", "course_ids": [f"C{1 + number % 1000}"]}
            for row in range(ROWS)
        ]
        ids.append(client.submit_batch(Kind.ENROLLMENTS, records).batch_id)


def batches_per_second(client: EnrollmentClient) -> tuple[float, float]:
    """Return how many batches a second were submitted, and how many were done."""
    ids: list[list[str]] = [[] for _ in range(THREADS)]
    started = time.perf_counter()
    in_threads(lambda thread: submit(client, thread, ids[thread]))
    submitted = time.perf_counter() - started
    # Chunks are applied in the order in which they were published.
    last = [of_thread[-1] for of_thread in ids]
    wait_for(lambda: all(s.state == "done" for s in client.batches(last, refusals=False)), 300)
    seconds = time.perf_counter() - started
    _check(client, ids)
    count = THREADS * EACH
    return count / submitted, count / seconds


def _check(client: EnrollmentClient, ids: Sequence[list[str]]) -> None:
    """Check that every batch is done, with all of its rows."""
    for of_thread in ids:
        statuses = client.batches(of_thread, refusals=False)
        assert all(status.state == "done" for status in statuses)
        assert {status.books.enrolled for status in statuses} == {ROWS}


def in_threads(work: Callable[[int], None]) -> None:
    """Do the work in all threads, each with its number."""
    running = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def empty_tasks_per_second(bench: Any, database_url: str) -> float:
    """Return how many empty tasks a second stock Celery publishes and runs."""
    broker_url, log = bench.rig.broker_url, bench.rig.folder / "empty.log"
    options = ("--concurrency=2", "--loglevel=WARNING", "-Q", EMPTY)
    with (
        rig.process(broker_url, database_url, log, "benchmarks.plain", *options),
        Celery(broker=broker_url, set_as_current=False) as app,
        Redis.from_url(broker_url) as redis,
    ):

        def publish(count: int) -> None:
            for _ in range(count):
                app.send_task(rig.NOOP, queue=EMPTY, ignore_result=True)

        publish(1)  # Once it has been taken, the worker is ready.
        wait_for(lambda: not redis.exists(EMPTY), 60)
        started = time.perf_counter()
        in_threads(lambda _: publish(EACH))
        wait_for(lambda: not redis.exists(EMPTY), 300)
        return THREADS * EACH / (time.perf_counter() - started)


def measure(bench: Any) -> None:
    """Measure batches of a few rows, with the deployment of the other batches."""
    with bench.rig.database() as database, bench.deployment(database), bench.client() as client:
        submitted, done = batches_per_second(client)
        bench.note("tiny_batches_submitted_per_s", submitted)
        bench.ratios["tiny_batches_per_s"] = done
    with bench.rig.database() as database:
        bench.note("empty_tasks_of_four_threads_per_s", empty_tasks_per_second(bench, database))
