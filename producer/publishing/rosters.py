"""Wait for published rosters before their enrollments, which would be refused without them."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from producer.contract.batches import BatchState, BatchStatus
from producer.contract.printable import printable
from producer.errors import BrokerUnavailable, LookupFailed, NoWorkerAnswered
from producer.publishing.forks import renew_after_fork

log = logging.getLogger(__name__)

ROSTER_PATIENCE: Final = 60.0
"""Seconds for which a wait goes on although no roster makes progress."""

MAX_ROSTERS: Final = 100
"""The number of rosters, the newest ones, that a client waits for."""

MAX_SUBMITTERS: Final = 1_000
"""The number of submitters whose rosters a client knows."""

REMEMBERED: Final = 86_400.0
"""Seconds after which a roster is not waited for any more: it was applied long ago, or never is."""

LONGEST_WAIT: Final = 600.0
"""Seconds that a wait takes at most."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5

LookUp = Callable[[Sequence[str]], Sequence[BatchStatus]]
"""Look up the status of batches, in order."""


class PublishedRosters:
    """The rosters that one client has published, by submitter; threads may share it."""

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)
        self._batches: dict[str | None, dict[str, float]] = {}
        """When each roster was published, by the monotonic clock."""

    def after_fork(self) -> None:
        """Replace the lock; the child of a fork waits for the rosters of its parent, too."""
        self._lock = threading.Lock()

    def add(self, submitter: str | None, batch_id: str) -> None:
        """Remember a roster of a submitter, at least a part of which was published."""
        with self._lock:
            batches = self._batches.setdefault(submitter, {})
            batches[batch_id] = time.monotonic()
            if len(batches) > MAX_ROSTERS:
                del batches[next(iter(batches))]
            if len(self._batches) > MAX_SUBMITTERS:
                del self._batches[next(iter(self._batches))]

    def are_there(self, submitter: str | None) -> bool:
        """Return whether there are rosters of a submitter to wait for."""
        return bool(self._of(submitter))

    def wait(self, submitter: str | None, look_up: LookUp) -> None:
        """Wait until the rosters of a submitter are applied.

        One that is stalled or lost, makes no progress for too long, or cannot be looked up is named
        in a warning and not waited for again.
        """
        progress: dict[str, int] = {}
        started = last_progress = time.monotonic()
        pause = _FIRST_PAUSE
        while waiting := self._of(submitter):
            try:
                statuses = look_up(waiting)
            except (BrokerUnavailable, LookupFailed, NoWorkerAnswered) as error:
                self._give_up(submitter, waiting, str(error))
                return
            for status in statuses:
                if status.state is BatchState.DONE:
                    self._forget(submitter, status.batch_id)
                elif status.state not in (BatchState.QUEUED, BatchState.RUNNING):
                    why = f"it is {status.state}. {status.advice or ''}".rstrip(". ")
                    self._give_up(submitter, [status.batch_id], why)
                elif progress.get(status.batch_id) != status.chunks_applied:
                    progress[status.batch_id] = status.chunks_applied
                    last_progress = time.monotonic()
            now = time.monotonic()
            if now - last_progress > ROSTER_PATIENCE or now - started > LONGEST_WAIT:
                why = f"it is not done after {now - started:.0f} s"
                self._give_up(submitter, self._of(submitter), why)
            elif self._of(submitter):
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _of(self, submitter: str | None) -> list[str]:
        oldest = time.monotonic() - REMEMBERED
        with self._lock:
            batches = self._batches.get(submitter, {})
            return [batch_id for batch_id, since in batches.items() if since > oldest]

    def _forget(self, submitter: str | None, batch_id: str) -> None:
        with self._lock:
            batches = self._batches.get(submitter, {})
            batches.pop(batch_id, None)
            if not batches:
                self._batches.pop(submitter, None)

    def _give_up(self, submitter: str | None, batch_ids: Sequence[str], why: str) -> None:
        for batch_id in batch_ids:
            self._forget(submitter, batch_id)
            log.warning(
                "The enrollments that follow the roster %s may be decided before it, and lines with"
                " its students or courses refused: %s",
                *(printable(batch_id), printable(why)),
            )
