"""The HTTP front: a client of the queue like any other, for systems that cannot speak to one.

`uvicorn producer.main:app`, or `enroll serve`. It needs the broker alone and adds no rule.
"""

import asyncio
import base64
import binascii
import io
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import Body, Depends, FastAPI, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import Field, TypeAdapter, ValidationError

from producer.client import EnrollmentClient
from producer.contract.batches import BatchState, BatchStatus, RefusalGroup
from producer.errors import EnrollmentError, NoWorkerAnswered
from producer.files import refused_lines
from producer.files.reader import open_stream
from producer.publishing.batches import SubmittedBatch
from producer.schemas import (
    MAX_KEY,
    Kind,
    RequestId,
    RequestState,
    RequestStatus,
    ResultStatus,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
    StudentResponse,
)
from producer.web.access import reading, submitting
from producer.web.bodies import Accepted, AcceptedBatch, Health, Results
from producer.web.coalescing import RequestCoalescer
from producer.web.limits import RequestLimits
from producer.web.openapi import REFUSALS, UPLOAD, describe, problems
from producer.web.problems import STATUS_OF_CODE, Refused, handle_problems
from producer.web.settings import HttpSettings
from producer.web.tokens import read_tokens
from producer.web.uploads import read_in_thread

EVENT_SECONDS = 0.5
EXAMPLE = {"student_id": "S1", "course_ids": ["LOGIC-1", 17], "request_id": "sis-2026-000123"}
_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)


async def _client(request: Request) -> EnrollmentClient:
    client: EnrollmentClient = request.app.state.client
    return client


Client = Annotated[EnrollmentClient, Depends(_client)]


def _student(text: str) -> int | str:
    """`key:4711` is our key, anything else a SIS id; `sis:` may stand before one."""
    text = unquote(text)
    digits = text.removeprefix("key:")
    if digits != text and digits.isascii() and digits.isdigit():
        if not 1 <= int(digits[:20]) <= MAX_KEY:
            raise Refused(404, "unknown_student", f"A key is a number from 1 to {MAX_KEY}.")
        return int(digits)
    return text.removeprefix("sis:")


def _wait_seconds(prefer: str | None) -> float:
    """RFC 7240: `wait=N`, at most a minute; other preferences may be ignored."""
    for part in (prefer or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and value.isascii() and value.isdigit():
            return min(int(value[:9]), 60)
    return 0


async def enroll(
    asked: Annotated[StudentEnrollmentRequest, Body(examples=[EXAMPLE])],
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
    if own_id is not None and not seconds:
        # Where no worker answers it is taken: the id alone sees to it that it is done once.
        with suppress(NoWorkerAnswered):
            known = await run_in_threadpool(client.status, own_id)
            if known.state is not RequestState.UNKNOWN:
                # The worker says whether it asks for the same, and the first outcome.
                seconds = client.timeout
    if seconds:
        with suppress(NoWorkerAnswered):
            outcome = await run_in_threadpool(client.enroll, asked, timeout=seconds)
            refused = outcome.status is ResultStatus.REJECTED
            status = STATUS_OF_CODE[outcome.errors[0].code] if refused else 200
            return Response(outcome.model_dump_json(), status, media_type="application/json")
    else:
        await request.app.state.publisher.submit(asked)
    url = f"/requests/{quote(request_id, safe='')}"
    accepted = Accepted(request_id=request_id, state=RequestState.QUEUED, url=url)
    return Response(accepted.model_dump_json(), 202, {"Location": url}, "application/json")


def get_request(request_id: str, client: Client) -> RequestStatus:
    """Where a request stands; 404 if nobody submitted it."""
    status = client.status(_request_id(request_id))
    if status.state is RequestState.UNKNOWN:
        raise Refused(404, "unknown_request", "Nobody submitted a request under this id.")
    return status


def _request_id(text: str) -> str:
    try:
        return _REQUEST_ID.validate_python(unquote(text))
    except ValidationError:
        raise Refused(404, "unknown_request", "This is no id of a request or batch.") from None


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
        raise Refused(422, "bad_cursor", "Use the cursor that `next` gave.") from None


_REQUEST_ID_MADE: TypeAdapter[str] = TypeAdapter(
    Annotated[str, Field(min_length=1, max_length=152, pattern=r"^[^\x00]*$")]
)


def get_student(student: str, client: Client) -> StudentResponse:
    """A student with courses. `key:4711` is our key, everything else a SIS id."""
    found = client.student(_student(student))
    if found is None:
        raise Refused(404, "unknown_student", "There is no such student.")
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
            raise Refused(422, "bad_map", f"map={text}: write map=COLUMN=TEMPLATE.")
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
    if status.state is BatchState.UNKNOWN:
        raise Refused(404, "unknown_batch", "Nobody submitted a batch under this id.")
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
    pages = refused_lines.csv_pages(status.columns, client.refusals(status.batch_id))
    # Asked for before the head of the answer is sent: afterwards no error could be told.
    text = chain([next(pages)], pages)
    name = {"Content-Disposition": 'attachment; filename="refused.csv"'}
    return StreamingResponse(text, media_type="text/csv; charset=utf-8", headers=name)


async def get_events(batch_id: str, client: Client) -> StreamingResponse:
    """Progress as server-sent events, until the batch is done."""
    first = await run_in_threadpool(_batch, client, batch_id)

    async def events() -> AsyncIterator[str]:
        status = first
        while True:
            yield f"data: {status.model_dump_json()}\n\n"
            if status.state is BatchState.DONE:
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
    text = (Path(__file__).parent / "web" / name).read_text(encoding="utf-8")
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; form-action 'none';"
        " base-uri 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


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
        app.state.publisher = RequestCoalescer(client)
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
    read: dict[str, Any] = {"dependencies": reading, "responses": problems(404)}
    submit: dict[str, Any] = {"dependencies": submitting, "methods": ["POST"]}
    outcome = {**problems(), **REFUSALS, 202: {"model": Accepted}}
    model = StudentEnrollmentResponse
    add("/students/enroll", enroll, response_model=model | Accepted, responses=outcome, **submit)
    add("/students/{student}/results", get_results, **read)
    add("/students/{student}", get_student, **read)
    add("/requests/{request_id}", get_request, **read)
    upload = {"requestBody": UPLOAD}
    conflict = problems(409)
    add("/batches", post_batch, status_code=202, responses=conflict, openapi_extra=upload, **submit)
    add("/batches/{batch_id}", get_batch, **read)
    add("/batches/{batch_id}/errors", get_errors, response_model=list[RefusalGroup], **read)
    add("/batches/{batch_id}/events", get_events, response_class=StreamingResponse, **read)
    add("/health/live", live)
    add("/health/ready", ready, responses=problems())
    for path, name in (("/", "page.html"), ("/docs", "docs.html")):
        add(path, partial(_page, name), include_in_schema=False)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    handle_problems(app)
    app.add_middleware(
        RequestLimits,
        max_upload=settings.http_max_upload,
        max_running=settings.http_max_running,
        rate=settings.http_rate,
        body_wait=settings.http_body_wait,
        local=settings.http_tokens is None,
    )
    return app


def __getattr__(name: str) -> Any:
    """`app`, for `uvicorn producer.main:app`: made when it is asked for, from the environment."""
    if name == "app":
        return make_app(HttpSettings())
    raise AttributeError(name)
