"""Wait for published rosters before their enrollments, which would be refused without them."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from producer.contract.batches import BatchState, BatchStatus
from producer.contract.printable import printable
from producer.errors import BrokerUnavailable, LookupFailed, NoWorkerAnswered

log = logging.getLogger(__name__)

ROSTER_PATIENCE: Final = 60.0
"""Seconds for which a wait goes on although no roster makes progress."""

MAX_ROSTERS: Final = 100
"""The number of rosters, the newest ones, that a client waits for."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5

LookUp = Callable[[Sequence[str]], Sequence[BatchStatus]]
"""Look up the status of batches, in order."""


class PublishedRosters:
    """The rosters that one client has published, by submitter; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: dict[str | None, dict[str, None]] = {}

    def add(self, submitter: str | None, batch_id: str) -> None:
        """Remember a roster of a submitter, at least a part of which was published."""
        with self._lock:
            batches = self._batches.setdefault(submitter, {})
            batches[batch_id] = None
            if len(batches) > MAX_ROSTERS:
                del batches[next(iter(batches))]

    def wait(self, submitter: str | None, look_up: LookUp) -> None:
        """Wait until the rosters of a submitter are applied.

        One that is stalled or lost, makes no progress for too long, or cannot be looked up is named
        in a warning and not waited for again.
        """
        progress: dict[str, int] = {}
        last_progress, pause = time.monotonic(), _FIRST_PAUSE
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
                    why = f"it is {status.state}. {status.advice or ''}".strip()
                    self._give_up(submitter, [status.batch_id], why)
                elif progress.get(status.batch_id) != status.chunks_applied:
                    progress[status.batch_id] = status.chunks_applied
                    last_progress = time.monotonic()
            if time.monotonic() - last_progress > ROSTER_PATIENCE:
                why = f"it has made no progress for {ROSTER_PATIENCE:g} s"
                self._give_up(submitter, self._of(submitter), why)
                return
            if self._of(submitter):
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _of(self, submitter: str | None) -> list[str]:
        with self._lock:
            return list(self._batches.get(submitter, ()))

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
                "The roster %s may not be applied before the enrollments that follow it (%s); lines"
                " with its students or courses may be refused",
                *(printable(batch_id), printable(why)),
            )
