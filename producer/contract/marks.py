"""Define the mark: the note in Redis that a submission is queued or running."""

from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from pydantic import Field

from producer.contract.chunks import Tally
from producer.fields import MAX_KEY, Moment
from producer.schemas import ContractModel, Kind


class MarkState(StrEnum):
    """The state of a submission, according to its mark."""

    QUEUED = "queued"
    """The submission was published, or is about to be."""
    RUNNING = "running"
    """A worker has started on the submission."""


class SubmissionMark(ContractModel):
    """A note in Redis that a submission is queued or running; it tells `queued` from `unknown`.

    The mark is stored as JSON for seven days, under `enrollment:request:ID` or
    `enrollment:batch:ID`. It is only a hint: the results of finished work are in the database.
    """

    state: MarkState = Field(
        default=MarkState.QUEUED, description="Whether the submission is queued or running."
    )
    kind: Kind | None = Field(default=None, description="For a batch: the kind of its records.")
    tally: Tally = Field(
        default=Tally(), description="For a batch: the size of what was published so far."
    )
    chunks: Annotated[int, Field(ge=0, le=MAX_KEY + 1)] = Field(
        default=0, description="For a batch: the number of chunks published so far."
    )
    complete: bool = Field(
        default=False, description="For a batch: true if no further chunks will be published."
    )
    first_chunk: int | None = Field(
        default=None,
        description="For a batch: the fingerprint of its first chunk. It claims the batch id, so"
        " that a different submission under this id is refused.",
    )
    moment: Moment | None = Field(
        default=None,
        description="When the submission counts; one under the same id counts at the same moment.",
    )


MARK_SECONDS: Final = 7 * 24 * 3600
"""How long a mark lasts, in seconds. Later, a submission that no worker has applied is unknown."""

MAX_MARK: Final = 4_096
"""Bytes of a mark that are read; a longer one is not a mark of ours."""


class AgedMark(NamedTuple):
    """The mark of a submission, and its age."""

    mark: SubmissionMark
    seconds_ago: float
    digest: int = 0
    """The CRC-32 of the mark's text, which shows whether the mark has changed."""
