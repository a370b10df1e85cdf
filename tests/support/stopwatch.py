"""Measure how long another process takes, also on a machine that runs much else."""

import time
from pathlib import Path


class Stopwatch:
    """Measures from its creation how long this thread waits for another process.

    It does not count the time in which one of the two was ready to run, but all processors were
    busy with other processes: that says nothing about the process. Linux counts that time for each
    thread; elsewhere, all time is counted.
    """

    def __init__(self, process: int) -> None:
        self._threads = (Path("/proc/thread-self"), Path(f"/proc/{process}/task"))
        self._starved = self._seconds_starved()
        self.started = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since the creation in which the two had a processor or waited."""
        elapsed = time.monotonic() - self.started
        return max(0.0, elapsed - (self._seconds_starved() - self._starved))

    def _seconds_starved(self) -> float:
        own, others = self._threads
        return sum(map(_nanoseconds, [own, *others.glob("*")])) / 1e9


def _nanoseconds(thread: Path) -> int:
    """Return for how long a thread has been ready without a processor; 0 if it has ended."""
    try:
        return int((thread / "schedstat").read_text().split()[1])
    except OSError:
        return 0
