"""Define the copies of recent results and counts in Redis, which clients read without a worker.

Only workers write them, and each belongs to a generation, a random text in a key of its own. When a
stored result changes, a new generation begins, and all earlier copies count no more: a late write
of an old copy cannot bring it back. While the generation is `CLOSED`, or while there is none, no
copy counts.

A copy of a request is `GENERATION STATUS`, and one of a batch `GENERATION DETAILS STATUS`; the
status is JSON as in the answer to a lookup.
"""

from typing import Final, NamedTuple

from pydantic import ValidationError

from producer.contract.batches import BatchState, BatchStatus
from producer.schemas import RequestState, RequestStatus

CLOSED: Final = "closed"
"""The generation while an operator's command changes stored results."""

BELIEVED_SECONDS: Final = 10
"""How long `queued` and `running` are believed, in seconds; then a worker is asked."""

RESULT_SECONDS: Final = 300
"""How long the result of a request is cached, in seconds."""

BATCH_SECONDS: Final = 60
"""How long the counts of a batch are cached, in seconds: longer than they are believed, so that an
older copy that is written late does not replace a newer one."""

_COUNTS_SECONDS: Final = (0.05, 1.0)
"""How long the counts of an unfinished batch are believed, in seconds, at least and at most."""

_SHARE: Final = 0.25
"""They are believed for this share of the time that the rest will take, or, as long as that is
unknown, of the time since a chunk was published: the end of a batch is noticed soon."""

MAX_COPY: Final = 65_536
"""The largest copy that is cached, in bytes; a worker is asked about what has a larger one."""

_UNFINISHED = (BatchState.QUEUED, BatchState.RUNNING)


def pack_request(generation: str, status: RequestStatus) -> str:
    """Return the copy of a request's status."""
    return f"{generation} {status.model_dump_json()}"


def unpack_request(generation: str, request_id: str, copy: bytes) -> RequestStatus | None:
    """Return the status in a copy of a request; None if the copy does not count."""
    own, _, text = copy.partition(b" ")
    if own != generation.encode():
        return None
    try:
        status = RequestStatus.model_validate_json(text, extra="ignore")
    except ValidationError:
        return None
    return status if status.request_id == request_id else None


class BatchDetails(NamedTuple):
    """What a cached batch was looked up with."""

    chunks_applied: int
    """Counts never go backwards: a copy is replaced only by one with at least as many."""
    mark: int
    """The digest of the mark; 0 if there was none."""
    refusals: bool
    """Whether the status names the refusals by cause."""


class SeenMark(NamedTuple):
    """The mark of a batch, as a client sees it."""

    digest: int
    age: float
    """In seconds."""


def pack_batch(generation: str, details: BatchDetails, status: BatchStatus) -> str:
    """Return the copy of a batch's status."""
    numbers = ",".join(str(int(value)) for value in details)
    return f"{generation} {numbers} {status.model_dump_json()}"


def unpack_batch(
    generation: str, batch_id: str, copy: bytes, age: float, mark: SeenMark, *, refusals: bool
) -> BatchStatus | None:
    """Return the status in a copy of a batch; None if the copy does not count.

    `age` is the age of the copy in seconds, and `mark` is the mark as it is now. If the mark was
    written again, the batch goes on: then it may no longer be stalled, nor done if the mark has
    changed.
    """
    try:
        own, numbers, text = copy.split(b" ", 2)
        if own != generation.encode():
            return None
        _, seen_mark, named = map(int, numbers.split(b","))
        status = BatchStatus.model_validate_json(text, extra="ignore")
    except (ValueError, TypeError):  # pydantic's error is a ValueError.
        return None
    is_done = status.state is BatchState.DONE
    if status.batch_id != batch_id or age > _believed_seconds(status, mark):
        return None
    if status.state not in _UNFINISHED and (
        mark.digest != seen_mark or (mark.age < age and not is_done)
    ):
        return None
    if not refusals:
        return status.model_copy(update={"refusals": ()})
    return status if named or not status.books.rejected else None


def _believed_seconds(status: BatchStatus, mark: SeenMark) -> float:
    """Return how long the copy of a batch's status is believed."""
    if status.state is BatchState.DONE:
        return BELIEVED_SECONDS
    least, most = _COUNTS_SECONDS
    rest = mark.age if status.seconds_left is None else status.seconds_left
    return min(max(least, _SHARE * rest), most)


def is_pending(status: RequestStatus) -> bool:
    """Return whether a request waits or is being processed, and nothing is wrong with it."""
    return status.state in (RequestState.QUEUED, RequestState.RUNNING) and status.advice is None
