"""Know the clock of Redis between two readings of it, within known bounds.

Reading it takes a round trip, for which a batch of a few rows need not wait.
"""

import threading
import time
from typing import Final

from producer.contract.clock import DRIFT, MAX_WIDTH

CONFIRMED_SECONDS: Final = 1.0
"""Seconds after which the clock must be read again: it may have been set, or be another server's.
"""


class ClockBounds:
    """The bounds of the clock of Redis. Times are in microseconds; threads may share one object.

    Redis reads its clock between the moments when we ask and when we have the reply. The closest
    bounds are kept as long as later readings agree with them. Once they are wider than
    `MAX_WIDTH`, the clock must be read again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._earliest = self._latest = self._read = 0
        """The bounds, less the monotonic clock, and when that was so."""
        self._confirmed: float = float("-inf")

    def note(self, clock: int, asked: int, replied: int) -> None:
        """Note a reading of the clock; the others are times of `now`."""
        with self._lock:
            earliest, latest = self._bounds(replied)
            wider = replied - asked > latest - earliest
            agrees = clock - replied <= latest and clock - asked >= earliest
            if not (wider and agrees and self._confirmed > 0):
                self._earliest, self._latest = clock - replied, clock - asked
                self._read = replied
            self._confirmed = replied

    def forget(self) -> None:
        """Forget the clock: the next one may be that of another server."""
        self._confirmed = float("-inf")

    def latest(self) -> int | None:
        """Return the latest time that the clock may show now; None if it must be read again."""
        with self._lock:
            present = now()
            earliest, latest = self._bounds(present)
            is_known = present - self._confirmed <= CONFIRMED_SECONDS * 1_000_000
            return present + latest if is_known and latest - earliest <= MAX_WIDTH else None

    def seconds_until(self, moment: int) -> float:
        """Return after how many seconds the clock has certainly passed a moment, at least 0."""
        with self._lock:
            present = now()
            earliest, _ = self._bounds(present)
            return max(0, moment - present - earliest) / 1_000_000

    def _bounds(self, present: int) -> tuple[int, int]:
        drift = round((present - self._read) * DRIFT)
        return self._earliest - drift, self._latest + drift


def now() -> int:
    """Return our monotonic clock, in microseconds."""
    return time.monotonic_ns() // 1000
