"""The time for which a process has to wait for a processor is not its own time."""

import multiprocessing
import os
import sys
import threading
import time
from multiprocessing.connection import Connection

import pytest

from support.stopwatch import Stopwatch

BUSY = 3
"""Processes that compete for one processor."""


def work(connection: Connection) -> None:
    """Compute for a tenth of a second of processor time, or sleep, when the test says so.

    A helper thread computes as well; it lives from one message to another.
    """
    over = threading.Event()
    helper = threading.Thread(target=help_until, args=(over, connection))
    while (kind := connection.recv()) is not None:
        if kind == "start a thread":
            helper.start()
            continue
        if kind == "compute":
            compute()
        elif kind == "sleep":
            time.sleep(0.5)
        elif kind == "end the thread":
            over.set()
            helper.join()
        connection.send("done")


def compute() -> None:
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass


def help_until(over: threading.Event, connection: Connection) -> None:
    compute()
    connection.send("done")
    over.wait()


def burn() -> None:
    while True:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux counts that time.")
def test_only_what_the_process_does_itself_is_counted() -> None:
    context = multiprocessing.get_context("fork")
    own, theirs = context.Pipe()
    worker = context.Process(target=work, args=(theirs,), daemon=True)
    others = [context.Process(target=burn, daemon=True) for _ in range(BUSY)]
    for process in (worker, *others):
        process.start()
        assert process.pid is not None
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
    try:
        kinds = ("sleep", "compute", "start a thread", "end the thread")
        measured = {kind: measure(Stopwatch(worker.pid or 0), own, kind) for kind in kinds}
        in_family = measure(Stopwatch(os.getpid(), families=True), own, "compute")
    finally:
        for process in (worker, *others):
            process.kill()
            process.join()
    elapsed, seconds = measured["compute"]
    assert elapsed > 0.2, "the others take most of the processor"
    assert 0.05 < seconds < 0.2
    assert in_family[1] < 0.2 < in_family[0], "the worker is a child of this process"
    assert measured["sleep"][1] > 0.4
    # What a thread had to wait for earlier is not added when it ends.
    assert all(seconds <= elapsed for elapsed, seconds in measured.values())


def measure(watch: Stopwatch, connection: "Connection", kind: str) -> tuple[float, float]:
    """Let the worker do something; return all seconds, and those that count."""
    connection.send(kind)
    connection.recv()
    seconds = watch.seconds()
    return time.monotonic() - watch.started, seconds
