"""Wait for a condition, not for a time."""

import os
import time
from collections.abc import Callable

SLOWEST = 5
"""A busy machine prolongs a wait by this factor at most."""


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return when the condition is true; fail when the time is up, later on a busy machine.

    The pauses grow with the time that was waited, because most conditions cost a lookup.
    """
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        is_over = waited >= seconds and waited >= seconds * slowness()
        assert not is_over, f"the condition was not met within {waited:.1f} s"
        time.sleep(min(0.02 + waited / 10, 0.25))


def slowness() -> float:
    """Return how many times as long all work takes now, because so much runs at once."""
    running = os.getloadavg()[0]
    return min(max(1.0, running / (os.cpu_count() or 1)), SLOWEST)
