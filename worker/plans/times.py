"""Say how long plans wait, and how long a worker holds one."""

from datetime import timedelta
from typing import Final, NamedTuple

LEASE: Final = timedelta(seconds=60)
"""How long a worker holds a plan. It renews this while it works; a chunk takes less time."""

PLANNING_LEASE: Final = timedelta(seconds=25)
"""How long a worker holds a plan that it makes. A thread renews this (`worker.plans.heartbeat`)."""

STUCK: Final = timedelta(seconds=150)
"""After this time without progress, the thread ends, so that another worker makes the plan. It is
longer than a statement may take on PostgreSQL (`worker.database.engine.SETTINGS`)."""

RENEW: Final = timedelta(seconds=5)
"""How long a worker works before it renews its lease."""

BLOCKED: Final = timedelta(seconds=5)
"""After this time, a plan is looked at again that waits for another one of its data set."""

FAILED: Final = timedelta(seconds=15)
LONGEST_PAUSE: Final = timedelta(minutes=10)
"""The first and the longest pause after an attempt failed; each is twice as long as the one before.
"""

LONGEST_WAIT: Final = PLANNING_LEASE + LONGEST_PAUSE
"""No plan with something to do waits for longer, unless the clock was set back."""

MANY_ATTEMPTS: Final = 3
"""After so many attempts without an end, a plan may be what its workers die of."""

_MOST_DOUBLINGS: Final = 10


class Expiry(NamedTuple):
    """After what time a plan is discarded that waits."""

    held: timedelta = timedelta(days=30)
    """For a decision."""
    staged: timedelta = timedelta(days=7)
    """For its chunks, since the last one arrived."""


def pause_after(attempts: int) -> timedelta:
    """Return the pause after the given number of attempts that failed in a row, at least one."""
    doublings = min(max(0, attempts - 1), _MOST_DOUBLINGS)
    pause: timedelta = FAILED * (1 << doublings)
    return min(pause, LONGEST_PAUSE)
