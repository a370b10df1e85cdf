"""What polls and lookups cost, as ratios to Celery's own `AsyncResult.state`, measured by turns."""

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from celery import Celery
from celery.result import AsyncResult

from producer.client import EnrollmentClient
from producer.contract.routing import TaskName
from producer.schemas import Kind
from support.paths import TESTS
from support.rosters import submit_and_finish
from support.waiting import wait_for

TURNS, A_TURN = 10, 200
THREADS, LOOKUPS = 8, 150

POLLER = """
import os, sys
from pathlib import Path
from producer.client import EnrollmentClient
os.nice(19)
# Linux gives each session an equal share of the processor, whatever the priorities within it.
if (group := Path("/proc/self/autogroup")).exists():
    group.write_text("19")
with EnrollmentClient(sys.argv[1], timeout=60) as client:
    print("ready", flush=True)
    polls = 0
    while os.getppid() == int(sys.argv[3]):
        client.batch(sys.argv[2], refusals=False)
"""


def seconds_of(broker_url: str, client: EnrollmentClient) -> dict[str, float]:
    """Return the median seconds of a poll of each kind."""
    request = {"student_id": "S1", "course_ids": ["C1", "C2", "C3", "C4", "C5"]}
    ids = [client.submit({**request, "student_id": f"S{n}"}) for n in range(1, A_TURN + 1)]
    wait_for(lambda: all(status.state == "done" for status in client.statuses(ids)))
    task_id = client._connection.send(TaskName.ENROLL, [request])  # noqa: SLF001 - with a result
    records = [{"student_id": f"S{n}", "course_ids": ["C9"]} for n in range(1, 1001)]
    finished = submit_and_finish(client, Kind.ENROLLMENTS, records).batch_id
    with Celery(broker=broker_url, backend=broker_url, set_as_current=False) as app:
        wait_for(lambda: bool(AsyncResult(task_id, app=app).state == "SUCCESS"))

        def state(number: str) -> object:
            return AsyncResult(number, app=app).state

        def queue(names: Sequence[str]) -> None:
            client._connection.mark_requests(names)  # noqa: SLF001 - as `submit` does

        ways: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
            "asyncresult": (state, lambda _: task_id),
            "finished": (client.status, lambda n: ids[n]),
            "queued": (client.status, lambda n: f"queued-{n}"),
            "unknown": (client.status, lambda n: f"unknown-{n}"),
            "batch": (client.batch, lambda _: finished),
        }
        queue([f"queued-{n}" for n in range(A_TURN)])
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(TURNS + 1):  # The first one warms up.
            queue([f"{turn}-queued-{n}" for n in range(A_TURN)])
            ways["queued"] = (client.status, lambda n, turn=turn: f"{turn}-queued-{n}")  # type: ignore[misc]
            for name, (poll, name_of) in ways.items():
                for number in range(A_TURN if name != "unknown" else A_TURN // 10):
                    asked = name_of(number)
                    started = time.perf_counter()
                    poll(asked)
                    if turn:
                        taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(of_way) for name, of_way in taken.items()}


def lookups_per_second(client: EnrollmentClient, threads: int) -> float:
    """Return how many lookups of a student several threads of one client make in a second."""

    def look_up(first: int) -> None:
        for number in range(LOOKUPS):
            assert client.student(f"S{1 + first * LOOKUPS + number}") is not None

    started = time.perf_counter()
    running = [threading.Thread(target=look_up, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return threads * LOOKUPS / (time.perf_counter() - started)


@contextlib.contextmanager
def polled(broker_url: str, batch_id: str) -> Iterator[None]:
    """Poll a batch as fast as a process with the lowest priority can."""
    command = [sys.executable, "-c", POLLER, broker_url, batch_id, str(os.getpid())]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=TESTS.parent, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.terminate()


def measure(bench: Any) -> None:
    """Measure polls and lookups, and a batch with and without polls."""
    url = bench.rig.broker_url
    with bench.rig.database() as database, bench.deployment(database), bench.client() as client:
        seconds = seconds_of(url, client)
        for name, value in seconds.items():
            bench.note(f"poll_{name}_us", value * 1e6)
        worse = max(seconds["finished"], seconds["queued"])
        bench.ratios["status_vs_asyncresult"] = worse / seconds["asyncresult"]
        bench.ratios["batch_poll_vs_asyncresult"] = seconds["batch"] / seconds["asyncresult"]
        rates: dict[int, list[float]] = {1: [], THREADS: []}
        for _ in range(3):
            for threads, of_threads in rates.items():
                of_threads.append(lookups_per_second(client, threads))
        one, many = (statistics.median(rates[n]) for n in (1, THREADS))
        bench.note("lookups_per_s_one_thread", one)
        bench.note("lookups_per_s_eight_threads", many)
        bench.ratios["lookups_of_eight_threads"] = many / one
        bench.ratios["batch_while_polled"] = _while_polled(url, client)


def _while_polled(broker_url: str, client: EnrollmentClient) -> float:
    """Return the speed of a batch that is polled all the time, divided by one that is not."""

    def seconds(batch_id: str, course: int) -> float:
        records = ({"student_id": f"S{n}", "course_ids": [f"C{course}"]} for n in range(1, 100_001))
        started = time.perf_counter()
        client.submit_batch(Kind.ENROLLMENTS, records, batch_id=batch_id, resume=False)
        while client.batch(batch_id, refusals=False).state != "done":
            time.sleep(0.02)
        return time.perf_counter() - started

    alone = with_polls = 0.0
    for turn in range(3):
        alone += seconds(uuid.uuid4().hex, 100 + turn)
        name = uuid.uuid4().hex
        with polled(broker_url, name):
            with_polls += seconds(name, 200 + turn)
    return alone / with_polls
