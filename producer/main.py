"""Define the HTTP front, for systems that cannot use the queue directly.

Start it with `enroll serve` or `uvicorn producer.main:app`. It is an ordinary client of the queue:
it connects only to the broker (and the Redis of result keys), and it adds no rules of its own.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import Field, TypeAdapter, ValidationError

from producer.client import EnrollmentClient
from producer.contract.batches import BatchState, BatchStatus, RefusalGroup
from producer.contract.chunks import FileForm
from producer.errors import EnrollmentError
from producer.fields import RequestId
from producer.files import refused_lines
from producer.files.reader import open_stream
from producer.publishing.batches import SubmittedBatch
from producer.schemas import (
    Code,
    RequestState,
    RequestStatus,
    StudentEnrollmentResponse,
    StudentResponse,
)
from producer.web.access import (
    Submitter,
    check_scope,
    dropping,
    has_scope,
    reading,
    submitting,
)
from producer.web.bodies import Accepted, AcceptedBatch, Health, Results
from producer.web.coalescing import RequestCoalescer
from producer.web.history import get_history, get_roll
from producer.web.limits import LIVE, RequestLimits
from producer.web.openapi import REFUSALS, UPLOAD, describe, problems
from producer.web.parameters import (
    AcceptedType,
    AllDrops,
    BatchIdInPath,
    BatchKind,
    Client,
    ColumnMaps,
    OwnBatchId,
    PageCursor,
    PageLimit,
    RequestIdInPath,
    StudentInPath,
    TextEncoding,
    identifier,
)
from producer.web.problems import Refused, handle_problems
from producer.web.requests import drop_course, enroll
from producer.web.settings import HttpSettings
from producer.web.tokens import Scope, read_tokens
from producer.web.uploads import Upload, read_in_thread, refuse_drops

EVENT_SECONDS = 0.5
_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)


def get_request(request_id: RequestIdInPath, client: Client) -> RequestStatus:
    """Return the status of a request; 404 if no request is known under this id."""
    status = client.status(_request_id(request_id))
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


def _request_id(text: str) -> str:
    try:
        return _REQUEST_ID.validate_python(unquote(text))
    except ValidationError:
        raise Refused(
            404,
            "unknown_request",
            "This is not a valid id: an id has 1 to 128 characters, none of them NUL.",
        ) from None


def get_results(
    student: StudentInPath, client: Client, limit: PageLimit = 100, cursor: PageCursor = None
) -> Results:
    """Return a page of a student's results, newest first, even if the roster lacks the student."""
    before = _decoded_cursor(cursor)
    results = client.results(identifier(student, Code.UNKNOWN_STUDENT), limit=limit, before=before)
    last = results[-1] if len(results) == limit else None
    return Results(results=results, next=_encoded_cursor(last) if last else None)


def _encoded_cursor(last: StudentEnrollmentResponse) -> str:
    text = json.dumps([last.completed_at.isoformat(), last.request_id])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decoded_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        completed_at, request_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return datetime.fromisoformat(completed_at), _ANY_REQUEST_ID.validate_python(request_id)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise Refused(
            422, "bad_cursor", "The cursor is not valid; use `next` from the previous page."
        ) from None


_ANY_REQUEST_ID: TypeAdapter[str] = TypeAdapter(
    Annotated[str, Field(min_length=1, max_length=152, pattern=r"^[^\x00]*$")]
)
"""The ids that `line_request_id` makes are longer than those of submitters."""


def get_student(student: StudentInPath, client: Client) -> StudentResponse:
    """Return a student with their courses."""
    response = client.student(identifier(student, Code.UNKNOWN_STUDENT))
    if response is None:
        detail = "No student has this id. Check the id, or submit the student."
        raise Refused(404, Code.UNKNOWN_STUDENT, detail)
    return response


def _template(text: str) -> tuple[str, str]:
    column, equals, template = text.partition("=")
    if not equals or not template:
        detail = f"map={text}: write map=COLUMN=TEMPLATE, for example map=sis_id={{id}}."
        raise Refused(422, "bad_map", detail)
    return column, template


async def post_batch(
    request: Request,
    response: Response,
    client: Client,
    submitter: Submitter,
    kind: BatchKind = None,
    batch_id: OwnBatchId = None,
    maps: ColumnMaps = None,
    encoding: TextEncoding = None,
    *,
    drop: AllDrops = False,
) -> AcceptedBatch:
    """Submit a CSV or JSON Lines file as a batch, as the body itself or as a multipart upload.

    The file may be compressed with gzip, or be the only one in a zip archive. For drops, the token
    also needs the scope `drop`: with `drop`, and for a file with `drop` in its column `action` or
    with `drop_course_ids`.
    """
    if drop:
        check_scope(request, Scope.DROP, " for drop=true")
    may_drop = has_scope(request, Scope.DROP)
    templates = dict(_template(text) for text in maps or ())

    def submit(upload: Upload) -> tuple[SubmittedBatch, tuple[str, ...]]:
        layout, records = open_stream(upload.body, kind, templates, "The file", encoding, drop=drop)
        batch = client.submit_batch(
            layout.kind,
            records if may_drop else refuse_drops(records),
            batch_id=batch_id,
            ordered=layout.ordered,
            columns=layout.columns,
            form=layout.form,
            file_name=upload.name(),
            submitter=submitter,
        )
        return batch, tuple(layout.notices)

    content_type = request.headers.get("content-type", "")
    batch, notices = await read_in_thread(request.stream(), content_type, submit)
    accepted = AcceptedBatch.of(batch, notices)
    response.headers["Location"] = accepted.url
    return accepted


def _batch(client: EnrollmentClient, batch_id: str, *, with_refusals: bool = True) -> BatchStatus:
    status = client.batch(_request_id(batch_id), refusals=with_refusals)
    if status.state is BatchState.UNKNOWN:
        raise Refused(404, "unknown_batch", "No batch with this id is known. Check the id.")
    return status


def get_batch(batch_id: BatchIdInPath, client: Client) -> BatchStatus:
    """Return the status of a batch: its state, counts, and refusals by cause."""
    return _batch(client, batch_id)


def get_errors(
    batch_id: BatchIdInPath, client: Client, accept: AcceptedType = "application/json"
) -> Any:
    """Return the refusals by cause; with `Accept: text/csv`, a file of the refused lines."""
    status = _batch(client, batch_id)
    if "text/csv" not in accept:
        return list(status.refusals)
    refusals = client.refusals(status.batch_id)
    pages = refused_lines.csv_pages(status.columns, status.form, refusals)
    # The first page is read before the response begins; afterwards no error could be reported.
    content = chain([next(pages)], pages)
    encoding = refused_lines.known_or_utf8((status.form or FileForm()).encoding)
    headers = {"Content-Disposition": 'attachment; filename="refused.csv"'}
    return StreamingResponse(content, media_type=f"text/csv; charset={encoding}", headers=headers)


async def get_events(batch_id: BatchIdInPath, client: Client) -> StreamingResponse:
    """Send the status of a batch as server-sent events until it is done."""
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
    """Report that this process is running."""
    return Health(status="live")


def ready(client: Client) -> Health:
    """Report that the broker and a worker answer; 503 if one of them does not."""
    client.status("ready?")
    return Health(status="ready")


def _page(name: str) -> HTMLResponse:
    """Return a web page that can load data only from this service."""
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
    results_url = settings.result_backend_url
    with EnrollmentClient(
        settings.broker_url.get_secret_value(),
        result_backend_url=results_url.get_secret_value() if results_url else None,
        timeout=settings.timeout,
        key_prefix=settings.key_prefix,
    ) as client:
        app.state.client = client
        app.state.publisher = RequestCoalescer(client)
        yield


def make_app(settings: HttpSettings) -> FastAPI:
    """Create the application; it connects to nothing until it is started."""
    app = FastAPI(
        title="Enrollment",
        version=version("enrollment-worker"),
        description="Enroll students in courses, and read the stored results by student.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    add = app.add_api_route
    read: dict[str, Any] = {"dependencies": reading, "responses": problems(404)}
    submit: dict[str, Any] = {"dependencies": submitting, "methods": ["POST"]}
    drop: dict[str, Any] = {"dependencies": dropping, "methods": ["DELETE"]}
    responses = {**problems(), **REFUSALS, 202: {"model": Accepted}}
    model = StudentEnrollmentResponse | Accepted
    either: dict[str, Any] = {"response_model": model, "responses": responses}
    add("/students/enroll", enroll, **either, **submit)
    add("/students/{student}/courses/{course}", drop_course, **either, **drop)
    add("/students/{student}/results", get_results, **read)
    add("/students/{student}/history", get_history, **read)
    add("/students/{student}", get_student, **read)
    add("/courses/{course}/students", get_roll, **read)
    add("/requests/{request_id}", get_request, **read)
    upload: dict[str, Any] = {"openapi_extra": {"requestBody": UPLOAD}, "responses": problems(409)}
    add("/batches", post_batch, status_code=202, **upload, **submit)
    add("/batches/{batch_id}", get_batch, **read)
    add("/batches/{batch_id}/errors", get_errors, response_model=list[RefusalGroup], **read)
    add("/batches/{batch_id}/events", get_events, response_class=StreamingResponse, **read)
    add(LIVE, live)
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
    """Create `app` from the environment when `uvicorn producer.main:app` asks for it."""
    if name == "app":
        return make_app(HttpSettings())
    raise AttributeError(name)
