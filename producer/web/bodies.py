"""Define the response bodies that only HTTP has."""

from typing import Self
from urllib.parse import quote

from pydantic import BaseModel

from producer.contract.batches import BatchStatus
from producer.publishing.batches import SubmittedBatch
from producer.schemas import Kind, RequestState, StudentEnrollmentResponse


class Accepted(BaseModel):
    """An accepted request, with the URL of its status."""

    request_id: str
    state: RequestState
    url: str


class AcceptedBatch(BaseModel):
    """An accepted batch, with the URL of its status; all of its chunks are published.

    `notices` say how the file was understood, where that may not be what was meant.
    """

    batch_id: str
    kind: Kind
    requests: int
    rows: int
    url: str
    notices: tuple[str, ...] = ()

    @classmethod
    def of(cls, batch: SubmittedBatch, notices: tuple[str, ...]) -> Self:
        """Return the body for a batch of which all chunks are published."""
        return cls(
            batch_id=batch.batch_id,
            kind=batch.kind,
            requests=batch.tally.requests,
            rows=batch.tally.rows,
            url=f"/batches/{quote(batch.batch_id, safe='')}",
            notices=notices,
        )


class Results(BaseModel):
    """A page of a student's results; `next` is the cursor of the next page."""

    results: list[StudentEnrollmentResponse]
    next: str | None = None


class BatchList(BaseModel):
    """A page of the list of batches, the newest first; `next` is the cursor of the next page."""

    batches: tuple[BatchStatus, ...]
    next: str | None = None


class Health(BaseModel):
    """The health of the service."""

    status: str
