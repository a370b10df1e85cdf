"""How many batches of a few rows are submitted by four threads, and done, in a second."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from producer.client import EnrollmentClient
from producer.schemas import Kind
from support.waiting import wait_for

THREADS, EACH, ROWS = 4, 1_000, 3


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
    running = [threading.Thread(target=submit, args=(client, n, ids[n])) for n in range(THREADS)]
    started = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
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


def measure(bench: Any) -> None:
    """Measure batches of a few rows, with the deployment of the other batches."""
    with bench.rig.database() as database, bench.deployment(database), bench.client() as client:
        submitted, done = batches_per_second(client)
        bench.note("tiny_batches_submitted_per_s", submitted)
        bench.ratios["tiny_batches_per_s"] = done
