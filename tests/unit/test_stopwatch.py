"""The time for which a process has to wait for a processor is not its own time."""

import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection

import pytest

from support.stopwatch import Stopwatch

BUSY = 3
"""Processes that compete for one processor."""


def work(connection: Connection) -> None:
    """Compute for a tenth of a second of processor time, or sleep, whenever that is asked for."""
    while (kind := connection.recv()) is not None:
        end = time.process_time() + 0.1
        while kind == "compute" and time.process_time() < end:
            pass
        if kind == "sleep":
            time.sleep(0.5)
        connection.send("done")


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
        measured = {kind: measure(worker.pid or 0, own, kind) for kind in ("sleep", "compute")}
    finally:
        for process in (worker, *others):
            process.kill()
            process.join()
    elapsed, seconds = measured["compute"]
    assert elapsed > 0.2, "the others take most of the processor"
    assert 0.05 < seconds < 0.2
    assert measured["sleep"][1] > 0.4


def measure(pid: int, connection: "Connection", kind: str) -> tuple[float, float]:
    """Let the worker do something; return all seconds, and those that count."""
    watch = Stopwatch(pid)
    connection.send(kind)
    connection.recv()
    return time.monotonic() - watch.started, watch.seconds()
