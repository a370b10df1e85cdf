"""Retry a task's work: wait for the database, requeue the message, or count a failed attempt."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from celery.exceptions import Reject
from sqlalchemy.exc import DBAPIError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
)

from worker.database.errors import is_outage
from worker.messaging.attempts import Attempts
from worker.recovery.trial import TrialInterrupted

log = logging.getLogger(__name__)
T = TypeVar("T")

FAILURE_PAUSE = 0.5
"""Seconds before a message whose work failed with an unexpected error is requeued."""

WARNING_PAUSE = 30.0
"""Seconds between two log lines with the same warning."""


class RetryPolicy:
    """Decides what a task does when its work fails.

    `database_wait` is the number of seconds that a task waits for an unavailable database before
    it requeues its message. `waited` is called with the seconds that pass during such a wait.
    """

    def __init__(
        self, attempts: Attempts, database_wait: float, waited: Callable[[float], None]
    ) -> None:
        self._attempts = attempts
        self._database_wait = database_wait
        self._waited = waited
        self._warned_at = float("-inf")

    def through_outage(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """Do the work, and repeat it with growing pauses while the database is unavailable.

        `seconds` limits the wait; the default is `database_wait`. Raises DBAPIError.
        """
        counted_until = time.monotonic()

        def before_sleep(state: RetryCallState) -> None:
            nonlocal counted_until
            wake_time = time.monotonic() + (state.upcoming_sleep or 0)
            self._waited(wake_time - counted_until)
            counted_until = wake_time
            self._warn_waiting(state)

        retrying = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, DBAPIError) and is_outage(e)),
            wait=wait_exponential(multiplier=0.1, max=10),
            stop=stop_after_delay(self._database_wait if seconds is None else seconds),
            before_sleep=before_sleep,
            reraise=True,
        )
        return retrying(work)

    def _warn_waiting(self, state: RetryCallState) -> None:
        if time.monotonic() - self._warned_at < WARNING_PAUSE:
            return
        self._warned_at = time.monotonic()
        error = state.outcome.exception() if state.outcome else None
        cause = str(getattr(error, "orig", error)).splitlines()[:1]
        log.warning(
            "The database is unavailable (%s); trying again", *cause or [type(error).__name__]
        )

    def or_requeue(self, work: Callable[[], T]) -> T:
        """Do the work, and requeue its message if an outage lasts too long. Raises Reject."""
        try:
            return self.through_outage(work)
        except TrialInterrupted as error:
            raise Reject("The database became unavailable", requeue=True) from error
        except DBAPIError as error:
            if is_outage(error):
                raise Reject(f"The database is unavailable: {error.orig}", requeue=True) from error
            raise

    def with_fallbacks(
        self,
        task_id: str,
        work: Callable[[], T],
        *,
        isolate: Callable[[], T],
        give_up: Callable[[], T],
    ) -> T:
        """Do the work of a task, and count the attempts that fail or kill their process.

        After too many failed attempts, `isolate` is called instead of `work`; if that also fails
        too often, `give_up` is called. Raises Reject if the message is to be requeued.
        """
        steps = (work, isolate, give_up)
        times_at_limit = self._attempts.begin([task_id])
        done = False
        try:
            while True:
                try:
                    value = self.or_requeue(steps[min(times_at_limit, len(steps) - 1)])
                except Reject:
                    raise
                except Exception as error:
                    log.exception("task failed", extra={"task_id": task_id})
                    if self._attempts.failed(task_id) <= times_at_limit:
                        time.sleep(FAILURE_PAUSE)
                        raise Reject(
                            f"The task failed and is requeued: {error}", requeue=True
                        ) from error
                    times_at_limit += 1
                else:
                    done = True
                    return value
        finally:
            self._attempts.end([task_id], done=done)
