"""Decide, from one look-up to the next, whether to go on waiting for a batch. No input or output.

The client looks a batch up, the commands show what it reports, and both follow these rules.
"""

import math
import time
from collections.abc import Iterator
from datetime import datetime

from producer.contract.batches import BatchState, BatchStatus
from producer.errors import (
    AnswerNotUnderstood,
    BatchCannotFinish,
    BatchNotDone,
    BrokerUnavailable,
    EnrollmentError,
    NoWorkerAnswered,
)
from producer.files.submitted import SubmittedFile
from producer.publishing.batches import SubmittedBatch
from producer.publishing.room import QUEUE_PATIENCE
from producer.publishing.undoing import unknown_undo

UNKNOWN_PATIENCE = 60.0
"""How long a batch that was known may be unknown, in seconds: its mark was lost, but a worker may
still apply a chunk that it holds."""
ENDS_OF_PLANS = (BatchState.PLANNED, BatchState.HELD, BatchState.DISCARDED)
"""The states in which no batch of a plan changes by itself: it was a dry run, it waits for a
decision, or it will never be applied."""
SHORTEST_POLL = 1.0
"""Seconds that the last look-up may take, although the time of the wait is up before that."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5
"""Seconds between two look-ups; each pause is half as long again as the one before."""


def waits_for(batch: SubmittedBatch | str, timeout: float) -> Iterator["BatchWait"]:
    """Yield a wait for each batch of a package, one after another, or for the only batch.

    Together they take at most `timeout` seconds.
    """
    started, left = time.monotonic(), timeout
    parts = batch.batches if isinstance(batch, SubmittedFile) else ()
    for part in parts or (batch,):
        yield BatchWait(part, left)
        left = max(0.0, timeout - (time.monotonic() - started))


class BatchWait:
    """The wait for one batch, or for exactly the chunks that one submission of it published.

    `timeout` is in seconds. After each look-up, call `is_done` with the status or `bear` with the
    error, and then, unless it is done, `pause`.
    """

    def __init__(self, batch: SubmittedBatch | str, timeout: float = math.inf) -> None:
        self._submitted = batch if isinstance(batch, SubmittedBatch) else None
        self.batch_id = batch if isinstance(batch, str) else batch.batch_id
        self._failed_before: datetime | None = None
        if self._submitted is not None:
            self._failed_before = self._submitted.failed_before
        self._conflicts = 0
        self._outage: EnrollmentError | None = None
        self._status: BatchStatus | None = None
        self._pause = FIRST_PAUSE
        self._timeout = timeout
        self._started = self._last_answer = self._last_progress = time.monotonic()

    @property
    def seconds_left(self) -> float:
        """Return the seconds until the time is up; negative afterwards."""
        return self._started + self._timeout - time.monotonic()

    def to_count(self, status: BatchStatus) -> SubmittedBatch | None:
        """Return the submission whose applied chunks `is_done` must know about, or None.

        The status is that of the batch id, which a different submission may have used, too.
        """
        is_done = status.state is BatchState.DONE
        return self._submitted if is_done or status.conflicts != self._conflicts else None

    def is_done(self, status: BatchStatus, applied: int | None = None) -> bool:
        """Return whether the batch is done, or has come to an end of its plan.

        `applied` is how many chunks were applied of the submission that `to_count` returns. Raises
        BatchCannotFinish, and NoWorkerAnswered if the batch makes no progress for too long.
        """
        self._outage = None
        self._last_answer = time.monotonic()
        if applied is not None:
            self._conflicts = status.conflicts
        if status.state in ENDS_OF_PLANS or (
            status.state is BatchState.DONE
            and (self._submitted is None or applied == self._submitted.chunks)
        ):
            return True
        self._check_progress(status)
        self._status = status
        return False

    def bear(self, error: EnrollmentError) -> None:
        """Go on waiting after an error, or raise it if waiting does not help."""
        too_long = time.monotonic() - self._last_answer > QUEUE_PATIENCE
        if isinstance(error, NoWorkerAnswered):
            if self._status is not None and self.seconds_left <= 0:
                self._end()
            # After an outage of the broker, a worker needs a while to reconnect.
            if too_long or self._outage is None:
                raise NoWorkerAnswered(f"{error} {self._goes_on()}") from error
        elif isinstance(error, BrokerUnavailable) and not error.may_pass:
            raise error  # Such as a missing right to look up: waiting does not help.
        elif too_long or isinstance(error, AnswerNotUnderstood):
            raise error  # A worker of a different version answers the same next time.
        else:
            self._outage = error

    def _goes_on(self) -> str:
        if self._submitted is None:
            return f"What was submitted of batch {self.batch_id} stays queued."
        return f"Batch {self.batch_id} stays queued; look up its status later."

    def pause(self) -> float:
        """Return the seconds until the next look-up. Raises BatchNotDone if the time is up."""
        seconds_left = self.seconds_left
        if seconds_left <= 0:
            self._end()
        pause = self._pause
        self._pause = min(pause * 1.5, LONGEST_PAUSE)
        return min(pause, seconds_left)

    def _end(self) -> None:
        applied, advice = "", None
        if self._status is not None:
            books, advice = self._status.books, self._status.advice
            rows = books.received - books.not_applied
            applied = f": {rows:,} of {books.received:,} rows are applied"
        if self._outage is not None:
            raise BatchNotDone(
                f"Batch {self.batch_id} is not known to be done after {self._timeout:g} s"
                f"{applied}. {self._outage} Then wait again, or look up its status."
            ) from self._outage
        goes_on = f"{advice} Then wait" if advice else "It goes on; wait"
        raise BatchNotDone(
            f"Batch {self.batch_id} is not done after {self._timeout:g} s{applied}. {goes_on}"
            " again, or look up its status later."
        )

    def _check_progress(self, status: BatchStatus) -> None:
        """Raise an error if the batch cannot finish, or makes no progress for too long."""
        now = time.monotonic()
        if self._cannot_finish(status):
            raise BatchCannotFinish(f"Batch {self.batch_id}: {status.advice}")
        if status.state in (BatchState.QUEUED, BatchState.RUNNING, BatchState.STAGED):
            self._last_progress = now  # A plan is made in one piece, which takes its time.
        elif status.state is BatchState.UNKNOWN:
            self._check_unknown(now - self._last_progress)
        elif now - self._last_progress > QUEUE_PATIENCE:
            raise NoWorkerAnswered(
                f"Batch {self.batch_id} makes no progress. {status.advice or ''}".rstrip()
            )

    def _check_unknown(self, seconds: float) -> None:
        if self._submitted is None and self._status is None:
            raise BatchCannotFinish(
                unknown_undo(self.batch_id)
                or f"No batch with the id {self.batch_id} is known. Check the id; if it is right,"
                " submit the same records again under it."
            )
        if seconds > UNKNOWN_PATIENCE:
            raise BatchCannotFinish(
                f"Batch {self.batch_id}: the broker lost its data; submit the same records again"
                f" under the batch id {self.batch_id}."
            )

    def _cannot_finish(self, status: BatchStatus) -> bool:
        """Return whether no missing chunk will be applied unless somebody acts."""
        if status.chunks_lost:
            return True
        # Every chunk has arrived, but they come from two submissions.
        if status.state is BatchState.STALLED and status.chunks and not status.chunks_missing:
            return True
        if status.failed_at is None or status.failed_at == self._failed_before:
            return False
        return status.chunks_failed >= status.chunks_missing
