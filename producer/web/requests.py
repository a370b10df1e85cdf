"""Answer the HTTP calls that submit one request: an enrollment, a drop, or both."""

import uuid
from contextlib import suppress
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Body, Request, Response

from producer.contract.explain import parse_record
from producer.errors import InvalidRequest, NoWorkerAnswered
from producer.schemas import Code, RequestState, ResultStatus, StudentEnrollmentRequest
from producer.web.access import check_scope
from producer.web.bodies import Accepted
from producer.web.parameters import (
    CourseInPath,
    DropAsOf,
    DropReason,
    DropRequestId,
    FrontServices,
    IdempotencyKey,
    Prefer,
    StudentInPath,
    identifier,
)
from producer.web.problems import STATUS_OF_CODE
from producer.web.services import Services
from producer.web.tokens import Scope

EXAMPLE: Final = {
    "student_id": "S1",
    "course_ids": ["LOGIC-1", 17],
    "request_id": "sis-2026-000123",
}


async def enroll(
    enrollment: Annotated[StudentEnrollmentRequest, Body(examples=[EXAMPLE])],
    request: Request,
    services: FrontServices,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Enroll one student in courses; with `Prefer: wait=N`, wait up to N seconds for the result.

    A request with `drop_course_ids` drops the student from those courses; the token then needs the
    scope `drop` as well.
    """
    if enrollment.drop_course_ids:
        check_scope(request, Scope.DROP, " for drop_course_ids")
    return await _respond(enrollment, idempotency_key, services, prefer)


async def drop_course(
    student: StudentInPath,
    course: CourseInPath,
    services: FrontServices,
    reason: DropReason = None,
    as_of: DropAsOf = None,
    request_id: DropRequestId = None,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Drop one student from a course; with `Prefer: wait=N`, wait up to N seconds for the result.

    The token needs the scope `drop`. It is no error if the student is not enrolled.
    """
    fields = {
        "student_id": identifier(student, Code.UNKNOWN_STUDENT),
        "drop_course_ids": [identifier(course, Code.UNKNOWN_COURSE)],
        "request_id": request_id,
        "reason": reason,
        "as_of": as_of,
    }
    enrollment, problems = parse_record(StudentEnrollmentRequest, fields)
    if enrollment is None:
        raise InvalidRequest(problems)
    return await _respond(enrollment, idempotency_key, services, prefer)


async def _respond(
    enrollment: StudentEnrollmentRequest,
    idempotency_key: str | None,
    services: Services,
    prefer: str | None,
) -> Response:
    """Submit a request; return its result if the caller or a repeat of it waits for that."""
    client = services.client
    own_id = idempotency_key or enrollment.request_id
    request_id = own_id or uuid.uuid4().hex
    enrollment = enrollment.model_copy(update={"request_id": request_id})
    seconds = _wait_seconds(prefer)
    if own_id is not None and not seconds:
        # If no worker answers, the request is accepted; its id ensures that it takes effect once.
        with suppress(NoWorkerAnswered):
            earlier = await client.status(own_id)
            if earlier.state is not RequestState.UNKNOWN:
                # Wait for the worker: it returns the first result, or refuses a reused id.
                seconds = client.timeout
    if seconds:
        with suppress(NoWorkerAnswered):
            work = client.enroll(enrollment, timeout=seconds)
            result = await services.stopping.unless_begun(work)
            if result is not None:
                refused = result.status is ResultStatus.REJECTED
                status = STATUS_OF_CODE[result.errors[0].code] if refused else 200
                return Response(result.model_dump_json(), status, media_type="application/json")
    else:
        await client.submit(enrollment)
    url = f"/requests/{quote(request_id, safe='')}"
    accepted = Accepted(request_id=request_id, state=RequestState.QUEUED, url=url)
    return Response(accepted.model_dump_json(), 202, {"Location": url}, "application/json")


def _wait_seconds(prefer: str | None) -> float:
    """Return the N of `wait=N`, at most 60; RFC 7240 allows ignoring all other preferences."""
    for part in (prefer or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and value.isascii() and value.isdigit():
            return min(int(value[:9]), 60)
    return 0
