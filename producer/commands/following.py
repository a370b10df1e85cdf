"""Look up requests and batches by their ids, once or again and again until they have ended."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from producer.client import EnrollmentClient
from producer.contract.batches import BatchState, BatchStatus
from producer.contract.exit_codes import ExitCode
from producer.errors import (
    AnswerNotUnderstood,
    BrokerUnavailable,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.publishing.batches import QUEUE_PATIENCE
from producer.schemas import Kind, RequestState, RequestStatus

Status = RequestStatus | BatchStatus

SHORTEST_PAUSE = 0.1
UNKNOWN_PATIENCE = 60.0
"""How long a batch that was known may be unknown, in seconds: its mark was lost, but a worker may
still apply a chunk that it holds."""


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
    return ExitCode.REFUSED if status.books.rejected or status.conflicts else ExitCode.DONE


def cannot_finish(status: BatchStatus, failed_before: datetime | None = None) -> bool:
    """Return whether no missing chunk of an unfinished batch will be applied unless somebody acts.

    `failed_before` is when the newest dead letter of an earlier submission was stored.
    """
    if status.chunks_lost:
        return True
    # Every chunk has arrived, but they come from two submissions.
    if status.state is BatchState.STALLED and status.chunks and not status.chunks_missing:
        return True
    if status.failed_at is None or status.failed_at == failed_before:
        return False
    return status.chunks_failed >= status.chunks_missing


def summary(status: Status) -> str:
    """Return the state of a request or batch in one line, without its id."""
    if isinstance(status, BatchStatus):
        return _batch_summary(status)
    word = status.state.value if status.result is None else status.result.status.value
    problems = [] if status.result is None else [error.message for error in status.result.errors]
    return "; ".join([word, *problems, *([status.advice] if status.advice else [])])


def _batch_summary(status: BatchStatus) -> str:
    books = status.books
    applied = books.received - books.not_applied
    parts = [status.state.value, f"{applied:,} of {books.received:,} rows applied"]
    if status.kind is Kind.ENROLLMENTS:
        parts += [f"{books.enrolled:,} enrolled", f"{books.already_enrolled:,} already enrolled"]
    else:
        parts += [f"{books.upserted:,} added or changed", f"{books.unchanged:,} unchanged"]
    parts.append(f"{books.rejected:,} rejected")
    return "; ".join([", ".join(parts), *([status.advice] if status.advice else [])])


class Follower:
    """Looks up requests and batches until all have ended; `statuses` are the newest ones."""

    def __init__(self, client: EnrollmentClient, ids: Iterable[str]) -> None:
        self.statuses: dict[str, Status] = {}
        self.unfinished = list(dict.fromkeys(ids))
        """The ids of those that have not ended."""
        self._client = client
        self._last_answer = time.monotonic()
        self._last_progress: dict[str, float] = {}
        """When each batch was last seen queued or running."""

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
        found = look_up(self._client, self.unfinished, refusals=False)
        self._last_answer = time.monotonic()
        ended = {id_: status for id_, status in found.items() if self._has_ended(id_, status)}
        # Grouping refusals is expensive, so it is done once, at the end.
        if has_refusals := [id_ for id_, status in ended.items() if _has_refusals(status)]:
            self.statuses |= look_up(self._client, has_refusals)
        self.unfinished = [id_ for id_ in self.unfinished if id_ not in ended]

    def _has_ended(self, id_: str, status: Status) -> bool:
        """Store a status, and return whether it will not change unless somebody acts."""
        seconds = self._last_answer - self._last_progress.get(id_, self._last_answer)
        if id_ in self._last_progress and _is_unknown(status) and seconds < UNKNOWN_PATIENCE:
            return False
        self.statuses[id_] = status
        if status.state in (RequestState.QUEUED, RequestState.RUNNING):
            if isinstance(status, BatchStatus):
                self._last_progress[id_] = self._last_answer
            return False
        if isinstance(status, BatchStatus) and status.state is BatchState.STALLED:
            self._last_progress.setdefault(id_, self._last_answer)
            return cannot_finish(status) or seconds > QUEUE_PATIENCE
        return True
