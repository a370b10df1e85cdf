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
"""Seconds between two lines of the log that say the same."""


class RetryPolicy:
    """Decides what a task does when its work fails.

    `database_wait` is how many seconds a task keeps its message while the database is away.
    `waited` is called with the seconds that pass while it waits.
    """

    def __init__(
        self, attempts: Attempts, database_wait: float, waited: Callable[[float], None]
    ) -> None:
        self._attempts = attempts
        self._database_wait = database_wait
        self._waited = waited
        self._warned_at = float("-inf")

    def through_outage(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """Do work; again while the database is away, with growing pauses.

        `seconds` bounds the wait, by default `database_wait`. Raises DBAPIError.
        """
        counted = time.monotonic()

        def before_sleep(state: RetryCallState) -> None:
            nonlocal counted
            wakes = time.monotonic() + (state.upcoming_sleep or 0)
            self._waited(wakes - counted)
            counted = wakes
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
        log.warning("The database is away (%s); trying again", *cause or [type(error).__name__])

    def or_requeue(self, work: Callable[[], T]) -> T:
        """Do work through an outage; if that lasts too long, requeue its message. Raises Reject."""
        try:
            return self.through_outage(work)
        except TrialInterrupted as error:
            raise Reject("The database went away", requeue=True) from error
        except DBAPIError as error:
            if is_outage(error):
                raise Reject(f"The database is away: {error.orig}", requeue=True) from error
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

        After too many of them `isolate` is tried instead, and when that fails too often as well,
        `give_up`. Raises Reject when the message is to be tried again.
        """
        ways = (work, isolate, give_up)
        times_at_limit = self._attempts.begin([task_id])
        done = False
        try:
            while True:
                try:
                    value = self.or_requeue(ways[min(times_at_limit, len(ways) - 1)])
                except Reject:
                    raise
                except Exception as error:
                    log.exception("task failed", extra={"task_id": task_id})
                    if self._attempts.failed(task_id) <= times_at_limit:
                        time.sleep(FAILURE_PAUSE)
                        raise Reject(f"It is tried again: {error}", requeue=True) from error
                    times_at_limit += 1
                else:
                    done = True
                    return value
        finally:
            self._attempts.end([task_id], done=done)
