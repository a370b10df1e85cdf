"""Retry a task's work: wait for the database, requeue the message, or count a failed attempt."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from celery.exceptions import Reject
from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from worker.database.engine import Database
from worker.database.errors import (
    EnrollmentsBusy,
    Meaning,
    is_answer,
    is_lock,
    is_outage,
    meaning_of,
    outage_of,
    refusal_of,
    sentence_of,
)
from worker.database.probe import probe
from worker.messaging.attempts import Attempts
from worker.messaging.unavailable import DatabaseUnavailable
from worker.recovery.circuit import REQUEUE_SECONDS, Circuit
from worker.recovery.trial import TrialInterrupted

log = logging.getLogger(__name__)
T = TypeVar("T")

FAILURE_PAUSE = 0.5
"""Seconds before a message whose work failed with an unexpected error is requeued."""

ANSWERED_OUTAGE_WAIT = 1.0
"""Seconds for which a task repeats its work while the database answers but refuses it.

Then the message is requeued, so that the process is free for lookups, which may succeed.
"""

OUTAGES_IN_A_ROW = 3
"""Work pauses after this many outages with no success between them."""

WARNING_PAUSE = 30.0
"""Seconds between two log lines with the same warning."""


class RetryPolicy:
    """Decides what a task does when its work fails.

    `database_wait` is the number of seconds that a task waits for an unreachable database before
    it requeues its message. `waited` is called with the seconds that pass during such a wait,
    `refused` with the error when an outage requeues a message, and `over` when work succeeds after
    that.
    """

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        database_wait: float,
        waited: Callable[[float], None],
        refused: Callable[[BaseException], None],
        over: Callable[[], None],
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._database_wait = database_wait
        self._waited = waited
        self._refused = refused
        self._over = over
        self._circuit = Circuit()
        self._outages = 0
        self._warned_at = float("-inf")

    def through_outage(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """Do the work, and repeat it with growing pauses while the database is unavailable.

        `seconds` limits the wait; the default is `database_wait`. Raises DBAPIError.
        """
        limit = self._database_wait if seconds is None else seconds
        counted_until = started = time.monotonic()

        def before_sleep(state: RetryCallState) -> None:
            nonlocal counted_until
            wake_time = time.monotonic() + (state.upcoming_sleep or 0)
            self._waited(wake_time - counted_until)
            counted_until = wake_time
            self._warn_waiting(_error_of(state))

        def stop(state: RetryCallState) -> bool:
            answered = is_answer(_error_of(state))
            own_limit = min(limit, ANSWERED_OUTAGE_WAIT) if answered else limit
            return time.monotonic() - started >= own_limit

        failure: BaseException | None = None

        def once_more() -> T:
            nonlocal failure
            if (first := failure) is not None:
                failure = None
                raise first
            return work()

        try:
            return work()
        except Exception as error:  # noqa: BLE001 - raised again below, perhaps after a wait
            failure = error
        retrying = Retrying(
            retry=retry_if_exception(self._may_pass),
            wait=wait_exponential(multiplier=0.1, max=10),
            stop=stop,
            before_sleep=before_sleep,
            reraise=True,
        )
        return retrying(once_more)

    def _may_pass(self, error: BaseException) -> bool:
        """Return whether to repeat the work soon; if connections are stale, close them."""
        if isinstance(error, EnrollmentsBusy):
            return False  # While it waits again, no other transaction that enrolls can begin.
        if is_lock(error):
            return False  # The statement has waited already, and lookups wait for this process.
        if meaning_of(error) is Meaning.STALE:
            self._database.close()
        return is_outage(error)

    def _warn_waiting(self, error: BaseException) -> None:
        if time.monotonic() - self._warned_at < WARNING_PAUSE:
            return
        self._warned_at = time.monotonic()
        log.warning("%s (%s); trying again", outage_of(error), sentence_of(error))

    def or_requeue(self, work: Callable[[], T]) -> T:
        """Do the work, and requeue its message if an outage lasts too long.

        Raises DatabaseUnavailable.
        """
        self._circuit.check()
        try:
            value = self.through_outage(work)
        except TrialInterrupted as error:
            raise self._unavailable(error.__cause__ or error) from None
        except Exception as error:
            if is_outage(error):
                # Without the cause: its traceback says nothing, and may quote rows in the log.
                raise self._unavailable(error) from None
            raise
        self._circuit.close()
        if self._outages:
            self._outages = 0
            self._over()
        return value

    def _unavailable(self, error: BaseException) -> DatabaseUnavailable:
        """Report that the work cannot be done now; return the error that requeues the message.

        If the database accepts other work, only this message is requeued: it may meet a trigger, or
        a row that another session has locked. Otherwise, or after several outages in a row, all
        work of this process except lookups pauses.
        """
        if isinstance(error, EnrollmentsBusy):
            time.sleep(REQUEUE_SECONDS)
            return DatabaseUnavailable(f"A drop waits: {sentence_of(error)}", 0)
        self._warn_waiting(error)
        self._refused(error)
        reason = f"{outage_of(error)}: {sentence_of(error)}"
        refusal = refusal_of(error)
        self._outages += 1
        if self._outages < OUTAGES_IN_A_ROW and self._accepts_other_work(error):
            return DatabaseUnavailable(reason, 0, refusal)
        return self._circuit.open(reason, refusal)

    def _accepts_other_work(self, error: BaseException) -> bool:
        # A lock of another session would make the probe wait as long as the work did.
        if not is_answer(error) or is_lock(error):
            return False
        try:
            probe(self._database)
        except Exception as refusal:  # noqa: BLE001 - whatever it is, the database is not well
            self._may_pass(refusal)
            return False
        return True

    def _require_database(self) -> None:
        """Make sure that a failure is not the environment's. Raises DatabaseUnavailable."""
        try:
            probe(self._database)
        except Exception as error:
            if is_outage(error):
                self._may_pass(error)
                raise self._unavailable(error) from None
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
                except Exception as error:  # noqa: BLE001 - whatever it is, it is logged and counted
                    _log_failure(task_id, error)
                    self._require_database()
                    if self._attempts.failed(task_id) <= times_at_limit:
                        time.sleep(FAILURE_PAUSE)
                        reason = f"The task failed and is requeued: {sentence_of(error)}"
                        raise Reject(reason, requeue=True) from None
                    times_at_limit += 1
                else:
                    done = True
                    return value
        finally:
            self._attempts.end([task_id], done=done)


def _log_failure(task_id: str, error: Exception) -> None:
    """Log an unexpected error; of a database error, only one line: the rest may quote rows."""
    is_from_database = isinstance(error, DBAPIError)
    text = f"task failed: {sentence_of(error)}" if is_from_database else "task failed"
    log.error(text, exc_info=not is_from_database, extra={"task_id": task_id})


def _error_of(state: RetryCallState) -> BaseException:
    """Return the error of an attempt that failed."""
    error = state.outcome.exception() if state.outcome else None
    return error or AssertionError("an attempt that succeeded is not repeated")
