"""Look up requests and batches by their ids, once or again and again until they have ended."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from producer.client import EnrollmentClient
from producer.commands.counts import applied_counts
from producer.contract.batches import BatchState, BatchStatus
from producer.contract.exit_codes import ExitCode
from producer.errors import (
    AnswerNotUnderstood,
    BatchCannotFinish,
    BrokerUnavailable,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.publishing.room import QUEUE_PATIENCE
from producer.schemas import RequestState, RequestStatus
from producer.waiting import BatchWait

Status = RequestStatus | BatchStatus

SHORTEST_PAUSE = 0.1


def look_up(
    client: EnrollmentClient, ids: Sequence[str], *, refusals: bool = True
) -> dict[str, Status]:
    """Return the status of each request or batch by its id. Raises NoWorkerAnswered.

    An id that is neither is that of an unknown request. With `refusals`, batches have theirs.
    """
    statuses: dict[str, Status] = dict(zip(ids, client.statuses(ids), strict=True))
    no_requests = [id_ for id_, status in statuses.items() if _is_unknown(status)]
    for batch in client.batches(no_requests, refusals=refusals):
        if batch.state is not BatchState.UNKNOWN:
            statuses[batch.batch_id] = batch
    return statuses


def _is_unknown(status: Status) -> bool:
    """Return whether an id is not known at all, which is different from a lost request."""
    return status.state in (RequestState.UNKNOWN, BatchState.UNKNOWN) and status.advice is None


def _has_refusals(status: Status) -> bool:
    return isinstance(status, BatchStatus) and status.books.rejected > 0


def exit_code(status: Status) -> ExitCode:
    """Return the exit code for what a command reports about a request or batch."""
    if status.state in (RequestState.UNKNOWN, BatchState.UNKNOWN):
        return ExitCode.REFUSED
    if isinstance(status, RequestStatus):
        has_errors = status.result is not None and status.result.errors
        return ExitCode.REFUSED if has_errors else ExitCode.DONE
    if status.state is BatchState.STALLED:
        return ExitCode.CANNOT_FINISH
    if status.state is BatchState.HELD:
        return ExitCode.HELD
    if status.state is BatchState.DISCARDED:
        return ExitCode.REFUSED
    return ExitCode.REFUSED if status.books.rejected or status.conflicts else ExitCode.DONE


def summary(status: Status) -> str:
    """Return the state of a request or batch in one line, without its id."""
    parts = [status.state.value]
    if isinstance(status, BatchStatus):
        if status.state is not BatchState.UNKNOWN:
            parts = [f"{status.state.value}, {_counts(status)}"]
    elif status.result is not None:
        parts = [status.result.status.value, *(error.message for error in status.result.errors)]
    return "; ".join([*parts, *([status.advice] if status.advice else [])])


def _counts(status: BatchStatus) -> str:
    books = status.books
    applied = books.received - books.not_applied
    counts = [f"{count:,} {name}" for name, count in applied_counts(status)]
    return ", ".join([f"{applied:,} of {books.received:,} rows applied", *counts])


class Follower:
    """Looks up requests and batches until all have ended; `statuses` are the newest ones."""

    def __init__(self, client: EnrollmentClient, ids: Iterable[str]) -> None:
        self.statuses: dict[str, Status] = {}
        self.unfinished = list(dict.fromkeys(ids))
        """The ids of those that have not ended."""
        self._client = client
        self._last_answer = time.monotonic()
        self._batches: dict[str, BatchWait] = {}
        """The wait for each id that is that of a batch."""

    def follow(
        self, longest_pause: float, seconds: float | None = None
    ) -> Iterator[Mapping[str, Status]]:
        """Yield the statuses after each look-up, until all have ended or the time is up.

        The pauses grow with the wait. After the first answer, an outage is waited out for up to
        ten minutes; then, or if there never was an answer, raises EnrollmentError.
        """
        started = time.monotonic()
        while True:
            if self._ask():
                yield self.statuses
            waited = time.monotonic() - started
            if not self.unfinished or (seconds is not None and waited >= seconds):
                return
            pause = min(max(SHORTEST_PAUSE, waited / 20), longest_pause)
            time.sleep(pause if seconds is None else min(pause, seconds - waited))

    def _ask(self) -> bool:
        """Look up what has not ended; return whether there was an answer."""
        try:
            self._look_up()
        except (BrokerUnavailable, LookupFailed, NoWorkerAnswered) as error:
            too_long = time.monotonic() - self._last_answer > QUEUE_PATIENCE
            if not self.statuses or too_long or isinstance(error, AnswerNotUnderstood):
                raise
            return False
        return True

    def _look_up(self) -> None:
        # What is known to be a batch is looked up only as one: then Redis usually knows it.
        batches = [id_ for id_ in self.unfinished if id_ in self._batches]
        others = [id_ for id_ in self.unfinished if id_ not in self._batches]
        found = look_up(self._client, others, refusals=False)
        for batch in self._client.batches(batches, refusals=False):
            found[batch.batch_id] = batch
        self._last_answer = time.monotonic()
        ended = {id_: status for id_, status in found.items() if self._has_ended(id_, status)}
        # Grouping refusals is expensive, so it is done once, at the end.
        if has_refusals := [id_ for id_, status in ended.items() if _has_refusals(status)]:
            self.statuses |= look_up(self._client, has_refusals)
        self.unfinished = [id_ for id_ in self.unfinished if id_ not in ended]

    def _has_ended(self, id_: str, status: Status) -> bool:
        """Store a status, and return whether it will not change unless somebody acts."""
        if isinstance(status, RequestStatus):
            self.statuses[id_] = status
            return status.state not in (RequestState.QUEUED, RequestState.RUNNING)
        wait = self._batches.setdefault(id_, BatchWait(id_))
        try:
            ended = wait.is_done(status)
        except (BatchCannotFinish, NoWorkerAnswered):
            ended = True
        # A batch that is unknown for a moment may only have lost its mark.
        if ended or status.state is not BatchState.UNKNOWN:
            self.statuses[id_] = status
        return ended
