"""The HTTP front: a client of the queue like any other, for systems that cannot speak to one.

`uvicorn producer.main:app`, or `enroll serve`. It needs the broker alone and adds no rule.
"""

import asyncio
import base64
import binascii
import io
import ipaddress
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.exceptions import HTTPException

from producer import refusals
from producer.client import EnrollmentClient, SubmittedBatch
from producer.errors import (
    BatchConflict,
    BrokerUnavailable,
    EnrollmentError,
    InvalidRequest,
    LookupFailed,
    NoWorkerAnswered,
    UnreadableFile,
)
from producer.files import open_stream
from producer.guard import Guard, problem
from producer.publisher import Publisher
from producer.schemas import (
    BatchStatus,
    Code,
    Kind,
    RefusalGroup,
    RequestId,
    RequestStatus,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
    StudentResponse,
)
from producer.tokens import Scope, Token, find_token, read_tokens
from producer.uploads import read_in_thread

STATUS_OF_CODE: Mapping[Code, int] = {
    Code.UNKNOWN_STUDENT: 404,
    Code.UNKNOWN_COURSE: 404,
    Code.REQUEST_ID_REUSED: 409,
    Code.INVALID_REQUEST: 422,
    Code.NOT_PROCESSED: 422,
}
"""How HTTP says that a request was wholly refused; the code itself is in the body."""

STATUS_OF_FAULT: Mapping[type[EnrollmentError], tuple[int, str]] = {
    InvalidRequest: (422, "invalid_request"),
    UnreadableFile: (422, "unreadable_file"),
    BatchConflict: (409, "batch_conflict"),
    BrokerUnavailable: (503, "broker_unavailable"),
    NoWorkerAnswered: (503, "no_worker"),
    LookupFailed: (503, "lookup_failed"),
}

EVENT_SECONDS = 0.5
PROBLEM = "application/problem+json"
_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)


class HttpSettings(BaseSettings):
    """Settings of the HTTP front, from the environment."""

    model_config = SettingsConfigDict(env_prefix="ENROLL_", env_ignore_empty=True)

    broker_url: SecretStr
    result_backend_url: SecretStr | None = None
    timeout: float = 10
    http_tokens: Path | None = None
    http_max_upload: Annotated[int, Field(ge=1)] = 10 * 1024**3
    http_max_running: Annotated[int, Field(ge=1)] = 200
    http_rate: Annotated[int, Field(ge=0)] = 0


class Accepted(BaseModel):
    """What was taken, and where to ask about it."""

    request_id: str
    state: str
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


class Problem(BaseModel):
    """RFC 9457: `code` is for a machine, `detail` for a person."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": "See `code` and `detail`.", "content": {PROBLEM: schema}}
        for status in (*statuses, 400, 401, 403, 413, 422, 429, 503)
    }


class _Refused(HTTPException):
    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(status, detail, headers or None)
        self.code = code


def _problem_response(
    status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    body = problem(status, code, detail, **more)
    return JSONResponse(body, status, dict(headers or {}), media_type=PROBLEM)


bearer = HTTPBearer(auto_error=False, description="A token of ENROLL_HTTP_TOKENS.")


class _Allowed:
    """The dependency of a route: who calls it must have a scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(
        self,
        request: Request,
        sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None,
    ) -> None:
        tokens: tuple[Token, ...] = request.app.state.tokens
        if not tokens:
            server = request.scope.get("server") or ("", 0)
            if not is_loopback(server[0]):
                raise _Refused(
                    403,
                    "tokens_required",
                    "Without tokens this service answers on loopback only: set ENROLL_HTTP_TOKENS.",
                )
            return
        token = find_token(tokens, sent.credentials) if sent else None
        if token is None:
            challenge = {"WWW-Authenticate": "Bearer"}
            raise _Refused(401, "token_required", "Send a token as a bearer.", **challenge)
        if self._scope not in token.scopes:
            raise _Refused(403, "scope_required", f"The token lacks the scope {self._scope}.")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


async def _client(request: Request) -> EnrollmentClient:
    client: EnrollmentClient = request.app.state.client
    return client


Client = Annotated[EnrollmentClient, Depends(_client)]
submitting = [Depends(_Allowed(Scope.SUBMIT))]
reading = [Depends(_Allowed(Scope.READ))]


def _student(text: str) -> int | str:
    """`key:4711` is our key, anything else a SIS id; `sis:` may stand before one."""
    text = unquote(text)
    digits = text.removeprefix("key:")
    if digits != text and digits.isascii() and digits.isdigit() and len(digits) < 20:  # noqa: PLR2004
        return int(digits)
    return text.removeprefix("sis:")


def _wait_seconds(prefer: str | None) -> float:
    """RFC 7240: `wait=N`, at most a minute; other preferences may be ignored."""
    for part in (prefer or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and value.isascii() and value.isdigit():
            return min(int(value[:9]), 60)
    return 0


# --- routes -----------------------------------------------------------------------------------

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "Refused; the errors say why. Or a problem with the call itself.",
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/StudentEnrollmentResponse"}
            },
            PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }
    for status in (404, 409, 422)
}


async def enroll(
    asked: StudentEnrollmentRequest,
    request: Request,
    client: Client,
    prefer: Annotated[str | None, Header()] = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=128)] = None,
) -> Response:
    """Enroll a student; with `Prefer: wait=N` the outcome is waited for."""
    own_id = idempotency_key or asked.request_id
    request_id = own_id or uuid.uuid4().hex
    asked = asked.model_copy(update={"request_id": request_id})
    seconds = _wait_seconds(prefer)
    if own_id is not None:
        known = await run_in_threadpool(client.status, own_id)
        if known.state != "unknown":
            # The worker says whether it was used for the same content, and its first outcome.
            seconds = seconds or client.timeout
    if seconds:
        with suppress(NoWorkerAnswered):
            outcome = await run_in_threadpool(client.enroll, asked, timeout=seconds)
            refused = outcome.status == "rejected"
            status = STATUS_OF_CODE[outcome.errors[0].code] if refused else 200
            return Response(outcome.model_dump_json(), status, media_type="application/json")
    else:
        await request.app.state.publisher.submit(asked)
    url = f"/requests/{quote(request_id, safe='')}"
    accepted = Accepted(request_id=request_id, state="queued", url=url)
    return Response(accepted.model_dump_json(), 202, {"Location": url}, "application/json")


def get_request(request_id: str, client: Client) -> RequestStatus:
    """Where a request stands; 404 if nobody submitted it."""
    status = client.status(_request_id(request_id))
    if status.state == "unknown":
        raise _Refused(404, "unknown_request", "Nobody submitted a request under this id.")
    return status


def _request_id(text: str) -> str:
    try:
        return _REQUEST_ID.validate_python(unquote(text))
    except ValidationError:
        raise _Refused(404, "unknown_request", "This is no id of a request or batch.") from None


def get_results(
    student: str,
    client: Client,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Results:
    """A student's outcomes, newest first."""
    found = client.results(_student(student), limit=limit, before=_place(cursor))
    last = found[-1] if len(found) == limit else None
    return Results(results=found, next=_cursor(last) if last else None)


def _cursor(last: StudentEnrollmentResponse) -> str:
    place = json.dumps([last.completed_at.isoformat(), last.request_id])
    return base64.urlsafe_b64encode(place.encode()).decode()


def _place(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        at, request_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return datetime.fromisoformat(at), _REQUEST_ID_MADE.validate_python(request_id)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _Refused(422, "bad_cursor", "Use the cursor that `next` gave.") from None


_REQUEST_ID_MADE: TypeAdapter[str] = TypeAdapter(
    Annotated[str, Field(min_length=1, max_length=152, pattern=r"^[^\x00]*$")]
)


def get_student(student: str, client: Client) -> StudentResponse:
    """A student with courses. `key:4711` is our key, everything else a SIS id."""
    found = client.student(_student(student))
    if found is None:
        raise _Refused(404, "unknown_student", "There is no such student.")
    return found


async def post_batch(
    request: Request,
    response: Response,
    client: Client,
    kind: Kind | None = None,
    batch_id: RequestId | None = None,
    maps: Annotated[list[str] | None, Query(alias="map")] = None,
) -> AcceptedBatch:
    """Submit a CSV or JSON Lines file: the body itself, or a multipart upload.

    `map=COLUMN=TEMPLATE` makes one of our columns of the file's own; `batch_id` names the batch.
    """
    templates = {}
    for text in maps or ():
        column, equals, template = text.partition("=")
        if not equals or not template:
            raise _Refused(422, "bad_map", f"map={text}: write map=COLUMN=TEMPLATE.")
        templates[column] = template

    def submit(body: io.BufferedReader) -> SubmittedBatch:
        form, records = open_stream(body, kind, templates, "the body")
        return client.submit_batch(form.kind, records, batch_id=batch_id, columns=form.columns)

    content_type = request.headers.get("content-type", "")
    batch = await read_in_thread(request.stream(), content_type, submit)
    url = f"/batches/{quote(batch.batch_id, safe='')}"
    response.headers["Location"] = url
    tally = batch.tally
    return AcceptedBatch(
        batch_id=batch.batch_id, kind=batch.kind, requests=tally.requests, rows=tally.rows, url=url
    )


def _batch(client: EnrollmentClient, batch_id: str, *, with_refusals: bool = True) -> BatchStatus:
    status = client.batch(_request_id(batch_id), refusals=with_refusals)
    if status.state == "unknown":
        raise _Refused(404, "unknown_batch", "Nobody submitted a batch under this id.")
    return status


def get_batch(batch_id: str, client: Client) -> BatchStatus:
    """Where a batch stands: its books, its refusals by cause."""
    return _batch(client, batch_id)


def get_errors(
    batch_id: str, client: Client, accept: Annotated[str, Header()] = "application/json"
) -> Any:
    """The refusals by cause; with `Accept: text/csv` every refused line, to be mended."""
    status = _batch(client, batch_id)
    if "text/csv" not in accept:
        return list(status.refusals)
    text = refusals.csv_pages(status.columns, client.refusals(status.batch_id))
    name = {"Content-Disposition": 'attachment; filename="refused.csv"'}
    return StreamingResponse(text, media_type="text/csv; charset=utf-8", headers=name)


async def get_events(batch_id: str, client: Client) -> StreamingResponse:
    """Progress as server-sent events, until the batch is done."""
    first = await run_in_threadpool(_batch, client, batch_id)

    async def events() -> AsyncIterator[str]:
        status = first
        while True:
            yield f"data: {status.model_dump_json()}\n\n"
            if status.state == "done":
                return
            await asyncio.sleep(EVENT_SECONDS)
            try:
                status = await run_in_threadpool(_batch, client, batch_id)
            except EnrollmentError as error:
                yield f": {str(error).splitlines()[0]}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def live() -> Health:
    """The process answers."""
    return Health(status="live")


def ready(client: Client) -> Health:
    """Broker and worker answer; else 503."""
    client.status("ready?")
    return Health(status="ready")


def _page(name: str) -> HTMLResponse:
    """A page for people; it asks nobody but this service."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; form-action 'none';"
        " base-uri 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


# --- the application --------------------------------------------------------------------------


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: HttpSettings = app.state.settings
    lines = settings.http_tokens.read_text().splitlines() if settings.http_tokens else []
    app.state.tokens = read_tokens(lines)
    answers = settings.result_backend_url
    with EnrollmentClient(
        settings.broker_url.get_secret_value(),
        result_backend_url=answers.get_secret_value() if answers else None,
        timeout=settings.timeout,
    ) as client:
        app.state.client = client
        app.state.publisher = Publisher(client)
        yield


def make_app(settings: HttpSettings) -> FastAPI:
    """The application. Nothing connects before it is started."""
    app = FastAPI(
        title="Enrollment",
        version=version("enrollment-worker"),
        description="Enroll students in courses; results are kept and can be read by student.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    add = app.add_api_route
    read: dict[str, Any] = {"dependencies": reading, "responses": _problems(404)}
    submit: dict[str, Any] = {"dependencies": submitting, "methods": ["POST"]}
    outcome = {**_problems(), **_REFUSALS, 202: {"model": Accepted}}
    model = StudentEnrollmentResponse
    add("/students/enroll", enroll, response_model=model | Accepted, responses=outcome, **submit)
    add("/students/{student}/results", get_results, **read)
    add("/students/{student}", get_student, **read)
    add("/requests/{request_id}", get_request, **read)
    upload = {"requestBody": _UPLOAD}
    conflict = _problems(409)
    add("/batches", post_batch, status_code=202, responses=conflict, openapi_extra=upload, **submit)
    add("/batches/{batch_id}", get_batch, **read)
    add("/batches/{batch_id}/errors", get_errors, response_model=list[RefusalGroup], **read)
    add("/batches/{batch_id}/events", get_events, response_class=StreamingResponse, **read)
    add("/health/live", live)
    add("/health/ready", ready, responses=_problems())
    for path, name in (("/", "page.html"), ("/docs", "docs.html")):
        add(path, partial(_page, name), include_in_schema=False)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]
    app.add_exception_handler(EnrollmentError, _on_fault)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_bug)
    app.add_middleware(
        Guard,
        max_upload=settings.http_max_upload,
        max_running=settings.http_max_running,
        rate=settings.http_rate,
    )
    return app


_UPLOAD = {
    "required": True,
    "content": {
        "text/csv": {
            "schema": {"type": "string"},
            "example": "student_sis_id,course_sis_id\nS1,LOGIC-1\n",
        },
        # JSON Lines have no type that all agree on.
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "required": ["file"],
            }
        },
    },
}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """What FastAPI makes, with the problems that it does not know of."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = made["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        errors = made["paths"]["/batches/{batch_id}/errors"]["get"]["responses"]["200"]["content"]
        errors["text/csv"] = {"schema": {"type": "string"}}
        events = made["paths"]["/batches/{batch_id}/events"]["get"]["responses"]["200"]
        event = {"type": "object", "properties": {"data": {"type": "string"}}}
        events["content"] = {"text/event-stream": {"schema": event}}
        app.openapi_schema = made
    return app.openapi_schema


def _on_fault(_: Request, error: Exception) -> JSONResponse:
    status, code = next(found for kind, found in STATUS_OF_FAULT.items() if isinstance(error, kind))
    headers = {"Retry-After": "5"} if status == 503 else {}  # noqa: PLR2004
    return _problem_response(status, code, str(error), headers)


def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    code = getattr(error, "code", f"http_{error.status_code}")
    return _problem_response(error.status_code, code, str(error.detail), error.headers)


def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"][1:])) or None
    detail = f"{field}: {first['msg']}" if field else str(first["msg"])
    return _problem_response(422, "invalid_request", detail[:500], field=field)


def _on_bug(_: Request, _error: Exception) -> JSONResponse:
    return _problem_response(500, "internal_error", "A fault of the service; it is in its log.")


def __getattr__(name: str) -> Any:
    """`app`, for `uvicorn producer.main:app`: made when it is asked for, from the environment."""
    if name == "app":
        return make_app(HttpSettings())
    raise AttributeError(name)
