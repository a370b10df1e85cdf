"""Define the mark: the note in Redis that a submission is queued or running."""

from enum import StrEnum
from typing import Final, NamedTuple

from pydantic import Field

from producer.contract.chunks import Tally
from producer.schemas import ContractModel, Kind


class MarkState(StrEnum):
    """How far a submission got, as its mark tells."""

    QUEUED = "queued"
    """It was published, or is about to be."""
    RUNNING = "running"
    """A worker has begun with it."""


class SubmissionMark(ContractModel):
    """What a client leaves in Redis beside the queue, so that `queued` can be told from `unknown`.

    Stored as JSON under `enrollment:request:ID` or `enrollment:batch:ID`, for seven days. It is a
    hint: what is finished is known without it.
    """

    state: MarkState = Field(MarkState.QUEUED, description="As far as it got.")
    kind: Kind | None = Field(None, description="Of a batch: what its records are.")
    tally: Tally = Field(Tally(), description="Of a batch: what was published so far.")
    chunks: int = Field(0, description="Of a batch: how many were published so far.")
    complete: bool = Field(False, description="Of a batch: nothing is still to be published.")


MARK_SECONDS: Final = 7 * 24 * 3600
"""Seconds for which a submission can be told from an unknown id without having been applied."""


def request_key(request_id: str) -> str:
    """The Redis key of a request's `SubmissionMark`."""
    return f"enrollment:request:{request_id}"


def batch_key(batch_id: str) -> str:
    """The Redis key of a batch's `SubmissionMark`; a request may have the same id."""
    return f"enrollment:batch:{batch_id}"


class AgedMark(NamedTuple):
    """What a submitter left in Redis, and how long ago."""

    mark: SubmissionMark
    seconds_ago: float
