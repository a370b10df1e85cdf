"""Pause a process while the database is unavailable.

Without the pause, it would try one message after another.
"""

import time

from worker.messaging.unavailable import DatabaseUnavailable

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
"""Seconds of the first and of the longest pause after an outage.

Without a success between them, each pause is twice as long as the one before.
"""

REQUEUE_SECONDS = 0.1
"""Seconds before a message that came during a pause is requeued, to avoid a tight loop."""


class Circuit:
    """Is open, and lets no work through, during a pause. Threads may share it."""

    def __init__(self) -> None:
        self._reason = ""
        self._refusal: str | None = None
        self._pause = FIRST_PAUSE
        self._open_until = float("-inf")

    def check(self) -> None:
        """Raise DatabaseUnavailable during a pause; after it, let the next attempt through."""
        seconds_left = self._open_until - time.monotonic()
        if seconds_left > 0:
            time.sleep(min(REQUEUE_SECONDS, seconds_left))
            raise DatabaseUnavailable(self._reason, seconds_left, self._refusal)

    def open(self, reason: str, refusal: str | None = None) -> DatabaseUnavailable:
        """Begin a pause, twice as long as the one before; return the error to raise."""
        self._reason, self._refusal = reason, refusal
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._open_until = time.monotonic() + pause
        return DatabaseUnavailable(reason, pause, refusal)

    def close(self) -> None:
        """Forget earlier outages: work succeeded."""
        self._pause = FIRST_PAUSE
