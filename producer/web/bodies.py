"""Define the response bodies that only HTTP has."""

from pydantic import BaseModel

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


class Results(BaseModel):
    """A page of a student's results; `next` is the cursor of the next page."""

    results: list[StudentEnrollmentResponse]
    next: str | None = None


class Health(BaseModel):
    """The health of the service."""

    status: str
