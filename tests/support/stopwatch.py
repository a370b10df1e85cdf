"""Measure how long other processes take, also on a machine that runs much else."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from support.memory import family


class Stopwatch:
    """Measures from its creation how long this thread waits for other processes.

    It does not count the time in which this thread or one of the processes was ready to run, but
    all processors were busy with others: that says nothing about the processes. Linux counts that
    time for each thread; elsewhere, all time is counted.

    With `families`, all processes that these have started take part, such as those of a pool.
    """

    def __init__(self, *processes: int, families: bool = False) -> None:
        self._own = _threads_of(os.getpid()) / str(threading.get_native_id())
        self._processes = processes
        self._families = families
        self._starved = self._nanoseconds_starved()
        self.started = time.monotonic()
        # This thread may have been ready without a processor while it read about the others.
        self._starved[self._own] = _nanoseconds(self._own)

    def seconds(self) -> float:
        """Return the seconds since the creation in which all had a processor or waited."""
        before = self._starved
        now = self._nanoseconds_starved()
        elapsed = time.monotonic() - self.started
        now[self._own] = _nanoseconds(self._own)
        # A thread that has ended since, takes its time with it.
        starved = sum(now[thread] - before.get(thread, 0) for thread in now)
        return max(0.0, elapsed - starved / 1e9)

    def _nanoseconds_starved(self) -> dict[Path, int]:
        threads = {self._own}
        for process in self._processes:
            for member in _family_of(process) if self._families else [process]:
                threads.update(_threads_of(member).glob("*"))
        return {thread: _nanoseconds(thread) for thread in threads}


def _family_of(process: int) -> list[int]:
    """Return a process and all that it has started, as far as they still run."""
    with suppress(psutil.NoSuchProcess):
        return family(process)
    return []


def _threads_of(process: int) -> Path:
    return Path(f"/proc/{process}/task")


def _nanoseconds(thread: Path) -> int:
    """Return for how long a thread has been ready without a processor; 0 if it has ended."""
    try:
        return int((thread / "schedstat").read_text().split()[1])
    except OSError:
        return 0
