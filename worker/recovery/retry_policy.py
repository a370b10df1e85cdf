"""What a task does when its work does not go well: it waits, gives its message back, or counts."""

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
"""Seconds before what failed with an unexpected error is given back."""

WARNING_PAUSE = 30.0
"""Seconds between two lines of the log that say the same."""


class RetryPolicy:
    """`database_wait` is how many seconds a task keeps its message while the database is away.

    `waited` is told how many seconds went by in vain, as they do.
    """

    def __init__(
        self, attempts: Attempts, database_wait: float, waited: Callable[[float], None]
    ) -> None:
        self._attempts = attempts
        self._database_wait = database_wait
        self._waited = waited
        self._complained = float("-inf")

    def wait(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """Do work; again while the database is away, with growing pauses. Raises DBAPIError."""
        counted = time.monotonic()

        def before_sleep(state: RetryCallState) -> None:
            nonlocal counted
            wakes = time.monotonic() + (state.upcoming_sleep or 0)
            self._waited(wakes - counted)
            counted = wakes
            self._say_waiting(state)

        retrying = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, DBAPIError) and is_outage(e)),
            wait=wait_exponential(multiplier=0.1, max=10),
            stop=stop_after_delay(self._database_wait if seconds is None else seconds),
            before_sleep=before_sleep,
            reraise=True,
        )
        return retrying(work)

    def _say_waiting(self, state: RetryCallState) -> None:
        if time.monotonic() - self._complained < WARNING_PAUSE:
            return
        self._complained = time.monotonic()
        error = state.outcome.exception() if state.outcome else None
        cause = str(getattr(error, "orig", error)).splitlines()[:1]
        log.warning("The database is away (%s); trying again", *cause or [type(error).__name__])

    def hold(self, work: Callable[[], T]) -> T:
        """The same, but when the time is up the message is given back. Raises Reject."""
        try:
            return self.wait(work)
        except TrialInterrupted as error:
            raise Reject("The database went away", requeue=True) from error
        except DBAPIError as error:
            if is_outage(error):
                raise Reject(f"The database is away: {error.orig}", requeue=True) from error
            raise

    def attempt(self, task_id: str, *ways: Callable[[], T]) -> T:
        """Do the work of a task the first way; when that failed too often, the next way.

        Raises Reject when its message is to be tried again.
        """
        way = self._attempts.begin([task_id])
        done = False
        try:
            while True:
                try:
                    value = self.hold(ways[min(way, len(ways) - 1)])
                except Reject:
                    raise
                except Exception as error:
                    log.exception("task failed", extra={"task_id": task_id})
                    if self._attempts.failed(task_id) <= way:
                        time.sleep(FAILURE_PAUSE)
                        raise Reject(f"It is tried again: {error}", requeue=True) from error
                    way += 1
                else:
                    done = True
                    return value
        finally:
            self._attempts.end([task_id], done=done)
