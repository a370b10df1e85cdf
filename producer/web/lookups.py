"""Answer lookups of requests, results and students."""

from datetime import datetime
from typing import Annotated
from urllib.parse import unquote

from fastapi import Request, Response
from pydantic import Field, TypeAdapter, ValidationError

from producer.contract.searching import FoundCourses, FoundStudents
from producer.fields import Moment, StoredId
from producer.schemas import (
    Code,
    RequestState,
    StudentResponse,
)
from producer.web.access import caller_of
from producer.web.bodies import Results
from producer.web.cursors import read_cursor, write_cursor
from producer.web.disclosing import Disclosures, disclosures_of
from producer.web.parameters import (
    Client,
    FoundPageLimit,
    PageCursor,
    PageLimit,
    RequestIdInPath,
    SearchedText,
    StudentInPath,
    identifier,
    services_of,
)
from producer.web.problems import Refused

_REQUEST_ID: TypeAdapter[str] = TypeAdapter(StoredId)


async def get_request(request: Request, request_id: RequestIdInPath) -> Response:
    """Return the status of a request; 404 if no request is known under this id.

    Without the scope `lookup`, only requests of the same caller are known.
    """
    # Programs poll this route. As dependencies, these would take a fifth of its time.
    services, caller = await services_of(request), await caller_of(request)
    own_id = known_form(request_id)
    owner = None
    if not caller.may_look_up:
        owner = await services.owners.find_request(caller, own_id)
        if owner is None:  # The request is not looked up, so that it takes equally long.
            raise _unknown_request()
    status = await services.client.status(own_id)
    if status.state is RequestState.UNKNOWN:
        if status.advice is not None:
            raise Refused(404, "lost_request", status.advice)
        raise _unknown_request()
    if status.result is not None:
        if owner is not None and not owner.covers(status.result):
            raise _unknown_request()
        await (await disclosures_of(request)).record_result("request", status.result)
    # FastAPI would check the status again before it writes it.
    return Response(status.model_dump_json(), media_type="application/json")


def _unknown_request() -> Refused:
    return Refused(
        404,
        "unknown_request",
        "No request with this id is known. Check the id; if it is right, submit the request"
        " again under the same id.",
    )


def known_form(text: str, code: str = "unknown_request") -> str:
    """Return the id of a request, batch or plan in a path, decoded.

    Raises Refused, with this code, if it has not the form of an id, so that nothing can have it.
    """
    try:
        return _REQUEST_ID.validate_python(unquote(text))
    except ValidationError:
        raise Refused(
            404,
            code,
            "This is not a valid id: an id has 1 to 128 characters, none of them NUL.",
        ) from None


async def get_results(
    student: StudentInPath,
    client: Client,
    disclosures: Disclosures,
    limit: PageLimit = 100,
    cursor: PageCursor = None,
) -> Results:
    """Return a page of a student's results, newest first, even if the roster lacks the student."""
    before = None if cursor is None else read_cursor(_PLACE, cursor)
    student_id = identifier(student, Code.UNKNOWN_STUDENT)
    results = await client.results(student_id, limit=limit, before=before)
    await disclosures.record("results", [student_id])
    last = results[-1] if len(results) == limit else None
    end = write_cursor(_PLACE, (last.completed_at, last.request_id)) if last else None
    return Results(results=results, next=end)


_PLACE: TypeAdapter[tuple[datetime, str]] = TypeAdapter(
    tuple[Moment, Annotated[str, Field(min_length=1, max_length=152, pattern=r"^[^\x00]*$")]]
)
"""The ids that `line_request_id` makes are longer than those of submitters."""


async def get_students(
    client: Client, disclosures: Disclosures, find: SearchedText, limit: FoundPageLimit = 20
) -> FoundStudents:
    """Return the students with a SIS id, an e-mail address, or all words of a name.

    Upper and lower case and spaces around the text do not count. The best match comes first.
    """
    found = await client.find_students(find, limit=limit)
    await disclosures.record("search", [student.sis_id for student in found.students])
    return found


async def get_courses(
    client: Client, find: SearchedText, limit: FoundPageLimit = 20
) -> FoundCourses:
    """Return the courses with a SIS id, or all words of a title: see `GET /students`."""
    return await client.find_courses(find, limit=limit)


async def get_student(
    student: StudentInPath, client: Client, disclosures: Disclosures
) -> StudentResponse:
    """Return a student with their courses."""
    student_id = identifier(student, Code.UNKNOWN_STUDENT)
    response = await client.student(student_id)
    if response is None:
        detail = "No student has this id. Check the id, or submit the student."
        raise Refused(404, Code.UNKNOWN_STUDENT, detail)
    await disclosures.record("student", [student_id])
    return response
