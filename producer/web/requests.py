"""Answer the HTTP calls that submit one request: an enrollment, a drop, or both."""

import uuid
from contextlib import suppress
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import Body, Depends, Request, Response
from pydantic import BeforeValidator

from producer.contract.explain import parse_record
from producer.errors import InvalidRequest, NoWorkerAnswered
from producer.schemas import (
    Code,
    RequestState,
    ResultStatus,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
)
from producer.web.access import CallerOfRoute, check_scope
from producer.web.bodies import Accepted
from producer.web.disclosing import Disclosures
from producer.web.owners import RequestOwner, id_reused
from producer.web.parameters import (
    CourseInPath,
    DropAsOf,
    DropReason,
    DropRequestId,
    FrontServices,
    IdempotencyKey,
    Prefer,
    StudentInPath,
    check_addressable,
    identifier,
)
from producer.web.problems import STATUS_OF_CODE
from producer.web.tokens import Scope


class _Submission:
    """The submission of one request by one caller."""

    def __init__(
        self,
        request: Request,
        services: FrontServices,
        caller: CallerOfRoute,
        disclosures: Disclosures,
    ) -> None:
        self._request = request
        self._services = services
        self._caller = caller
        self._disclosures = disclosures

    async def respond(
        self, enrollment: StudentEnrollmentRequest, idempotency_key: str | None, prefer: str | None
    ) -> Response:
        """Submit a request; return its result if the caller or a repeat of it waits for that."""
        services, client = self._services, self._services.client
        own_id = idempotency_key or enrollment.request_id
        check_addressable("request_id", own_id)
        request_id = own_id or uuid.uuid4().hex
        enrollment = enrollment.model_copy(update={"request_id": request_id})
        seconds = _wait_seconds(prefer)
        if seconds or own_id is not None:
            await self._disclosures.check()
        owner, may_be_repeat = await services.owners.claim_request(
            self._caller, enrollment, has_own_id=own_id is not None
        )
        if may_be_repeat and not seconds:
            # If no worker answers, the request is accepted; its id ensures that it takes effect
            # once.
            with suppress(NoWorkerAnswered):
                earlier = await client.status(request_id)
                if earlier.state is not RequestState.UNKNOWN:
                    # Wait for the worker: it returns the first result, or refuses a reused id.
                    seconds = client.timeout
        if seconds:
            with suppress(NoWorkerAnswered):
                work = client.enroll(enrollment, timeout=seconds)
                result = await services.stopping.unless_begun(work, self._gone())
                if result is not None:
                    return await self._result(result, owner)
        else:
            await client.submit(enrollment)
        url = f"/requests/{quote(request_id, safe='')}"
        accepted = Accepted(request_id=request_id, state=RequestState.QUEUED, url=url)
        return Response(accepted.model_dump_json(), 202, {"Location": url}, "application/json")

    async def _gone(self) -> None:
        """Return once the caller has gone away, whose wait would take room from others."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    async def _result(
        self, result: StudentEnrollmentResponse, owner: RequestOwner | None
    ) -> Response:
        """Return the result, unless it is that of a request which the caller may not see."""
        status = 200
        if result.status is ResultStatus.REJECTED:
            code = result.errors[0].code
            status = STATUS_OF_CODE[code]
            if owner is not None and code is Code.REQUEST_ID_REUSED:
                raise id_reused()
        if owner is not None and not owner.covers(result):
            raise id_reused()
        await self._disclosures.record_result("result", result, status)
        return Response(result.model_dump_json(), status, media_type="application/json")


Submission = Annotated[_Submission, Depends(_Submission)]

EXAMPLE: Final = {
    "student_id": "S1",
    "course_ids": ["LOGIC-1", 17],
    "request_id": "sis-2026-000123",
}


def _parsed(body: Any) -> Any:
    """Return the request in a body of JSON; anything else is refused by the model itself.

    Raises ValueError once for a request with any number of mistakes; `producer.web.problems`
    explains them. With a list of half a million wrong ids, pydantic alone would hold up all calls
    for seconds, and need a gigabyte.
    """
    if not isinstance(body, dict):
        return body
    request, _ = parse_record(StudentEnrollmentRequest, body)
    if request is None:
        raise ValueError("breaks the contract")
    return request


async def enroll(
    enrollment: Annotated[
        StudentEnrollmentRequest, BeforeValidator(_parsed), Body(examples=[EXAMPLE])
    ],
    request: Request,
    submission: Submission,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Enroll one student in courses; with `Prefer: wait=N`, wait up to N seconds for the result.

    A request with `drop_course_ids` drops the student from those courses; the token then needs the
    scope `drop` as well.
    """
    if enrollment.drop_course_ids:
        check_scope(request, Scope.DROP, " for drop_course_ids")
    return await submission.respond(enrollment, idempotency_key, prefer)


async def drop_course(
    student: StudentInPath,
    course: CourseInPath,
    submission: Submission,
    reason: DropReason = None,
    as_of: DropAsOf = None,
    request_id: DropRequestId = None,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Drop one student from a course; with `Prefer: wait=N`, wait up to N seconds for the result.

    The token needs the scope `drop`. It is not an error if the student is not enrolled.
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
    return await submission.respond(enrollment, idempotency_key, prefer)


def _wait_seconds(prefer: str | None) -> float:
    """Return the N of `wait=N`, at most 60; RFC 7240 allows ignoring all other preferences."""
    for part in (prefer or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and value.isascii() and value.isdigit():
            return min(int(value[:9]), 60)
    return 0
