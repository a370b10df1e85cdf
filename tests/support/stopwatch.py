"""Measure how long other processes take, also on a machine that runs much else."""

import time
from pathlib import Path


class Stopwatch:
    """Measures from its creation how long this thread waits for other processes.

    It does not count the time in which this thread or one of the processes was ready to run, but
    all processors were busy with others: that says nothing about the processes. Linux counts that
    time for each thread; elsewhere, all time is counted.
    """

    def __init__(self, *processes: int) -> None:
        self._own = Path("/proc/thread-self")
        self._others = [Path(f"/proc/{process}/task") for process in processes]
        self._starved = self._nanoseconds_starved()
        self.started = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since the creation in which all had a processor or waited."""
        elapsed = time.monotonic() - self.started
        before = self._starved
        now = self._nanoseconds_starved()
        # A thread that has ended since, takes its time with it.
        starved = sum(now[thread] - before.get(thread, 0) for thread in now)
        return max(0.0, elapsed - starved / 1e9)

    def _nanoseconds_starved(self) -> dict[Path, int]:
        threads = [self._own, *(thread for other in self._others for thread in other.glob("*"))]
        return {thread: _nanoseconds(thread) for thread in threads}


def _nanoseconds(thread: Path) -> int:
    """Return for how long a thread has been ready without a processor; 0 if it has ended."""
    try:
        return int((thread / "schedstat").read_text().split()[1])
    except OSError:
        return 0
