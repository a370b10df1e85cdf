"""Define the HTTP front, for systems that cannot use the queue directly.

Start it with `enroll serve` or `uvicorn producer.main:app`. It is an ordinary client of the queue:
it connects only to the broker (and the Redis of result keys), and it adds no rules of its own.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.contract.batches import RefusalGroup
from producer.contract.undos import BatchUndo
from producer.schemas import RequestStatus, StudentEnrollmentResponse
from producer.web.access import deciding, dropping, looking_up, reading_own, submitting
from producer.web.audit import AuditLog, default_folder
from producer.web.audit_files import AuditFolder
from producer.web.batch_list import get_batches
from producer.web.batches import get_batch, get_errors, get_events, post_batch
from producer.web.bodies import Accepted, PlannedDrops
from producer.web.checks import CHECK, check_batch
from producer.web.health import live, ready
from producer.web.history import get_history, get_roll
from producer.web.limits import LIVE, READY, RequestLimits
from producer.web.lookups import (
    get_courses,
    get_request,
    get_results,
    get_student,
    get_students,
)
from producer.web.openapi import REFUSALS, UPLOAD, describe, problems
from producer.web.pages import add_pages
from producer.web.plans import decide, get_drops, get_plan
from producer.web.preview import PREVIEW, preview_batch
from producer.web.problems import handle_problems
from producer.web.refused_lines import get_refused_lines
from producer.web.requests import drop_course, enroll
from producer.web.services import Services
from producer.web.settings import HttpSettings
from producer.web.stopping import on_sigterm
from producer.web.tokens import Token, TokensError, exposure, load_tokens
from producer.web.undos import undo

log = logging.getLogger("uvicorn.error")
"""What an operator sees at the start; the server has set it up."""


def _tokens(path: Path | None) -> tuple[Token, ...]:
    """Return the tokens in a file; none if no file is named. Raises TokensError."""
    if path is None:
        return ()
    try:
        tokens = load_tokens(path)
    except TokensError as error:
        raise TokensError(f"ENROLL_HTTP_TOKENS={path}: {error}") from None
    if (warning := exposure(path)) is not None:
        log.warning(warning)
    return tokens


def make_audit(settings: HttpSettings) -> AuditLog | None:
    """Return what records disclosures; None without tokens and a folder. Raises AuditError."""
    if settings.http_audit is None and settings.http_tokens is None:
        return None
    folder = AuditFolder(settings.http_audit or default_folder(), settings.http_audit_days)
    folder.prepare()
    log.info("Who is shown whose data is recorded in %s", folder.path)
    return AuditLog(folder)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: HttpSettings = app.state.settings
    app.state.tokens = _tokens(settings.http_tokens)
    audit = make_audit(settings)
    results_url = settings.result_backend_url
    broker_url = settings.broker_url.get_secret_value()
    options: dict[str, Any] = {
        "result_backend_url": results_url.get_secret_value() if results_url else None,
        "timeout": settings.timeout,
        "key_prefix": settings.key_prefix,
    }
    services = Services.over(
        AsyncEnrollmentClient(broker_url, **options),
        EnrollmentClient(broker_url, **options),
        audit,
    )
    app.state.services = services
    on_sigterm(services.stopping, settings.http_grace)
    yield
    services.stopping.begin()
    await services.close()


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
    read: dict[str, Any] = {"dependencies": looking_up, "responses": problems(404)}
    read_own: dict[str, Any] = {**read, "dependencies": reading_own}
    poll: dict[str, Any] = {"responses": problems(404)}  # The route itself checks the caller.
    submit: dict[str, Any] = {"dependencies": submitting, "methods": ["POST"]}
    drop: dict[str, Any] = {"dependencies": dropping, "methods": ["DELETE"]}
    either: dict[str, Any] = {"response_model": StudentEnrollmentResponse | Accepted}
    either["responses"] = {**problems(), **REFUSALS, 202: {"model": Accepted}}
    # Routes are tried in this order, and this one is called most often.
    add("/requests/{request_id}", get_request, response_model=RequestStatus, **poll)
    add("/students/enroll", enroll, **either, **submit)
    add("/students/{student}/courses/{course}", drop_course, **either, **drop)
    add("/students/{student}/results", get_results, **read)
    add("/students/{student}/history", get_history, **read)
    add("/students/{student}", get_student, **read)
    add("/students", get_students, **read)
    add("/courses", get_courses, **read)
    add("/courses/{course}/students", get_roll, **read)
    upload: dict[str, Any] = {"openapi_extra": {"requestBody": UPLOAD}, "responses": problems(409)}
    add("/batches", post_batch, status_code=202, **upload, **submit)
    add("/batches", get_batches, **read_own)
    add("/batches/check", check_batch, **CHECK, **submit)
    add("/batches/preview", preview_batch, **PREVIEW, **submit)
    add("/batches/{batch_id}", get_batch, **read_own)
    add("/batches/{batch_id}/errors", get_errors, response_model=list[RefusalGroup], **read_own)
    add("/batches/{batch_id}/errors/lines", get_refused_lines, **read_own)
    add("/batches/{batch_id}/events", get_events, response_class=StreamingResponse, **read_own)
    _add_plans(add, read, read_own)
    _add_health(add)
    add_pages(app)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    handle_problems(app)
    app.add_middleware(RequestLimits, settings=settings)
    return app


def _add_health(add: Callable[..., None]) -> None:
    """Add the routes for those who watch the front."""
    add(LIVE, live)
    add(READY, ready, responses=problems())


def _add_plans(
    add: Callable[..., None], read: Mapping[str, Any], read_own: Mapping[str, Any]
) -> None:
    """Add the routes about plans and undos."""
    add("/plans/{plan_id}", get_plan, **read_own)
    drops = {**read, "responses": problems(404, 409)}
    add("/plans/{plan_id}/drops", get_drops, response_model=PlannedDrops, **drops)
    decisions: dict[str, Any] = {"dependencies": deciding, "responses": problems(404, 409)}
    add("/plans/{plan_id}/decision", decide, methods=["POST"], **decisions)
    report = {200: {"model": BatchUndo, "description": "What the undo would change"}}
    undos: dict[str, Any] = {"dependencies": deciding, "responses": problems(404, 409) | report}
    add("/batches/{batch_id}/undo", undo, methods=["POST"], status_code=202, **undos)


def __getattr__(name: str) -> Any:
    """Create `app` from the environment when `uvicorn producer.main:app` asks for it."""
    if name == "app":
        return make_app(HttpSettings())
    raise AttributeError(name)
