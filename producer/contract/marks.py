"""Define the mark: the note in Redis that a submission is queued or running."""

from enum import StrEnum
from typing import Final, NamedTuple

from pydantic import Field

from producer.contract.chunks import Tally
from producer.schemas import ContractModel, Kind


class MarkState(StrEnum):
    """The state of a submission, according to its mark."""

    QUEUED = "queued"
    """The submission was published, or is about to be."""
    RUNNING = "running"
    """A worker has started on the submission."""


class SubmissionMark(ContractModel):
    """A client's note in Redis that something was submitted: `queued`, and no longer `unknown`.

    The mark is stored as JSON for seven days, under `enrollment:request:ID` or
    `enrollment:batch:ID`. It is only a hint: finished work is known without it.
    """

    state: MarkState = Field(
        MarkState.QUEUED, description="Whether the submission is queued or running."
    )
    kind: Kind | None = Field(None, description="For a batch: the kind of its records.")
    tally: Tally = Field(Tally(), description="For a batch: the size of what was published so far.")
    chunks: int = Field(0, description="For a batch: the number of chunks published so far.")
    complete: bool = Field(
        False, description="For a batch: true if no further chunks will be published."
    )


MARK_SECONDS: Final = 7 * 24 * 3600
"""How long a mark lasts, in seconds. Later, a submission that no worker has applied is unknown."""


def request_key(request_id: str) -> str:
    """Return the Redis key of a request's `SubmissionMark`."""
    return f"enrollment:request:{request_id}"


def batch_key(batch_id: str) -> str:
    """Return the Redis key of a batch's `SubmissionMark`; a request may have the same id."""
    return f"enrollment:batch:{batch_id}"


class AgedMark(NamedTuple):
    """The mark of a submission, and its age."""

    mark: SubmissionMark
    seconds_ago: float
