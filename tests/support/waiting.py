"""Wait for a condition, not for a time."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return when the condition is true; fail when the time is up.

    The pauses grow with the time that was waited, because most conditions cost a lookup.
    """
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        assert waited < seconds, f"the condition was not met within {seconds} s"
        time.sleep(min(0.02 + waited / 20, 0.25))
