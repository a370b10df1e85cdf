"""Answer lookups of requests, results and students."""

from datetime import datetime
from typing import Annotated
from urllib.parse import unquote

from pydantic import Field, TypeAdapter, ValidationError

from producer.fields import Moment, RequestId
from producer.schemas import (
    Code,
    RequestState,
    RequestStatus,
    StudentResponse,
)
from producer.web.bodies import Results
from producer.web.cursors import read_cursor, write_cursor
from producer.web.parameters import (
    Client,
    PageCursor,
    PageLimit,
    RequestIdInPath,
    StudentInPath,
    identifier,
)
from producer.web.problems import Refused

_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)


async def get_request(request_id: RequestIdInPath, client: Client) -> RequestStatus:
    """Return the status of a request; 404 if no request is known under this id."""
    status = await client.status(known_form(request_id))
    if status.state is RequestState.UNKNOWN:
        if status.advice is not None:
            raise Refused(404, "lost_request", status.advice)
        raise Refused(
            404,
            "unknown_request",
            "No request with this id is known. Check the id; if it is right, submit the request"
            " again under the same id.",
        )
    return status


def known_form(text: str) -> str:
    """Return the id of a request or batch in a path, decoded. Raises Refused if nothing has it."""
    try:
        return _REQUEST_ID.validate_python(unquote(text))
    except ValidationError:
        raise Refused(
            404,
            "unknown_request",
            "This is not a valid id: an id has 1 to 128 characters, none of them NUL.",
        ) from None


async def get_results(
    student: StudentInPath, client: Client, limit: PageLimit = 100, cursor: PageCursor = None
) -> Results:
    """Return a page of a student's results, newest first, even if the roster lacks the student."""
    before = None if cursor is None else read_cursor(_PLACE, cursor)
    results = await client.results(
        identifier(student, Code.UNKNOWN_STUDENT), limit=limit, before=before
    )
    last = results[-1] if len(results) == limit else None
    end = write_cursor(_PLACE, (last.completed_at, last.request_id)) if last else None
    return Results(results=results, next=end)


_PLACE: TypeAdapter[tuple[datetime, str]] = TypeAdapter(
    tuple[Moment, Annotated[str, Field(min_length=1, max_length=152, pattern=r"^[^\x00]*$")]]
)
"""The ids that `line_request_id` makes are longer than those of submitters."""


async def get_student(student: StudentInPath, client: Client) -> StudentResponse:
    """Return a student with their courses."""
    response = await client.student(identifier(student, Code.UNKNOWN_STUDENT))
    if response is None:
        detail = "No student has this id. Check the id, or submit the student."
        raise Refused(404, Code.UNKNOWN_STUDENT, detail)
    return response
