"""Define the bodies of answers that only HTTP has."""

from pydantic import BaseModel

from producer.schemas import Kind, RequestState, StudentEnrollmentResponse


class Accepted(BaseModel):
    """What was taken, and where to ask about it."""

    request_id: str
    state: RequestState
    url: str


class AcceptedBatch(BaseModel):
    """A batch that was published whole."""

    batch_id: str
    kind: Kind
    requests: int
    rows: int
    url: str


class Results(BaseModel):
    """A page of a student's outcomes; `next` is the cursor of the next one."""

    results: list[StudentEnrollmentResponse]
    next: str | None = None


class Health(BaseModel):
    """The service answers."""

    status: str
