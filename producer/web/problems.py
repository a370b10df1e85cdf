"""Turn every error into an HTTP problem (RFC 9457) with a stable code."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from producer.contract.explain import parse_record
from producer.errors import (
    BatchConflict,
    BrokerUnavailable,
    DecisionRefused,
    DropsNotKnown,
    EnrollmentError,
    InvalidRequest,
    LookupFailed,
    NoWorkerAnswered,
    SubmissionLost,
    UndoRefused,
    UnreadableFile,
)
from producer.schemas import Code, ContractModel
from producer.web.parameter_problems import explain_parameter

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"

STATUS_OF_CODE: Mapping[Code, int] = {
    Code.UNKNOWN_STUDENT: 404,
    Code.UNKNOWN_COURSE: 404,
    Code.REQUEST_ID_REUSED: 409,
    Code.INVALID_REQUEST: 422,
    Code.NOT_PROCESSED: 422,
    Code.UNDONE: 409,
}
"""The HTTP status of a rejected request, by its first code; the codes are in the body."""

_INTERNAL_ERROR = (
    "The service failed. Try again, or ask the operator; the service's log has the details after"
    " the line `Exception in ASGI application`."
)

_NO_BROKER = (
    "The broker is not available. Try again in a few seconds, with the same id if you submit"
    " something; the log of the HTTP front has the details."
)

STATUS_OF_FAULT: Mapping[type[EnrollmentError], tuple[int, str]] = {
    InvalidRequest: (422, Code.INVALID_REQUEST),
    UnreadableFile: (422, "unreadable_file"),
    BatchConflict: (409, "batch_conflict"),
    DecisionRefused: (409, "decision_refused"),
    DropsNotKnown: (409, "drops_not_known"),
    UndoRefused: (409, "undo_refused"),
    BrokerUnavailable: (503, "broker_unavailable"),
    NoWorkerAnswered: (503, "no_worker"),
    SubmissionLost: (503, "submission_lost"),
    LookupFailed: (503, "lookup_failed"),
}


class Problem(BaseModel):
    """A problem in the form of RFC 9457; `code` is for programs, `detail` for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None


def problem(status: int, code: str, detail: str, **more: Any) -> dict[str, Any]:
    """Return a problem document of RFC 9457; `code` is for programs, `detail` for people."""
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "code": code} | {
        "detail": detail,
        **more,
    }


class Refused(HTTPException):
    """A call that the HTTP front refuses; raised in routes and turned into a problem."""

    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(status, detail, headers or None)
        self.code = code


def stopping() -> Refused:
    """Return the refusal of a call that was not finished when the HTTP front had to stop."""
    detail = "The HTTP front is stopping; send the call again, an upload under the same batch_id."
    return Refused(503, "stopping", detail, **{"Retry-After": "5"})


def _problem_response(
    status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    body = problem(status, code, detail, **more)
    return JSONResponse(body, status, dict(headers or {}), media_type=PROBLEM)


def _on_fault(_: Request, error: Exception) -> JSONResponse:
    status, code = next(
        status_and_code
        for kind, status_and_code in STATUS_OF_FAULT.items()
        if isinstance(error, kind)
    )
    headers = {"Retry-After": "5"} if status == 503 else {}  # noqa: PLR2004
    fields: Sequence[str | None] = ()
    if isinstance(error, UnreadableFile):
        fields = error.parameters
    elif isinstance(error, InvalidRequest):
        fields = [problem.field for problem in error.problems]
    field = {"field": fields[0]} if fields else {}
    detail = str(error)
    if isinstance(error, BrokerUnavailable):
        log.warning("%s", error)  # It names the broker's address, which callers need not know.
        detail = _NO_BROKER
    return _problem_response(status, code, detail, headers, **field)


def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    code = getattr(error, "code", f"http_{error.status_code}")
    return _problem_response(error.status_code, code, str(error.detail), error.headers)


def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    first = error.errors()[0]
    part, *rest = first["loc"]
    if part == "body":
        body = request.scope["route"].body_field
        document = _body_problem(first, error.body, body.field_info.annotation)
        return _problem_response(422, Code.INVALID_REQUEST, **document)
    field = ".".join(map(str, rest)) or None
    sentence = explain_parameter(first)
    detail = f"{field}: {sentence}" if field else sentence
    return _problem_response(422, Code.INVALID_REQUEST, detail[:500], field=field)


def _body_problem(
    first: Mapping[str, Any], body: object, model: type[ContractModel]
) -> dict[str, Any]:
    """Return detail and field of a problem with a body of JSON, in the words of the contract."""
    if first["type"] == "json_invalid":
        place = f"character {first['loc'][-1] + 1}"
        reason = first["ctx"]["error"]
        detail = f"The body is not valid JSON: {reason} at {place}; correct it."
        return {"detail": detail, "field": None}
    if isinstance(body, bytes):
        detail = "Send the body as JSON, with the header Content-Type: application/json."
        return {"detail": detail, "field": None}
    _, problems = parse_record(model, body)
    field = problems[0].field
    detail = "; ".join(problem.message for problem in problems)
    return {"detail": detail if field else f"The body {detail}", "field": field}


def _on_bug(_: Request, _error: Exception) -> JSONResponse:
    return _problem_response(500, "internal_error", _INTERNAL_ERROR)


def handle_problems(app: FastAPI) -> None:
    """Install handlers that turn every error of the application into a problem."""
    app.add_exception_handler(EnrollmentError, _on_fault)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_bug)
