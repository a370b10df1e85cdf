"""Every route of the OpenAPI document: who may call it, and what it records before it answers.

A new route needs an entry in `ROUTES`.
"""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.main import make_app
from producer.schemas import Kind
from producer.web.settings import HttpSettings
from support.front import MemoryFront

WAIT = {"Prefer": "wait=1"}
CSV = {"Content-Type": "text/csv"}
SCOPES = ("submit", "drop", "lookup", "decide")
SETS = [",".join(c) for n in (1, 2, 3, 4) for c in itertools.combinations(SCOPES, n)]


class Route(NamedTuple):
    """How a route is called, which scope it needs, and which personal data it then shows."""

    path: str
    needs: str | None
    """A scope; `own` for a route that shows a caller without `lookup` only what is its own, and
    `any` for one that lists it."""
    shows: str | None = None
    """What the audit calls it; None if it shows no personal data."""
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


ENROLLMENT = {"student_id": "S1", "course_ids": ["C1"]}
ROUTES = {
    "post /students/enroll": Route(
        "/students/enroll", "submit", "result", {"json": ENROLLMENT, "headers": WAIT}
    ),
    "delete /students/{student}/courses/{course}": Route(
        "/students/S1/courses/C1", "drop", "result", {"headers": WAIT}
    ),
    "get /students/{student}": Route("/students/S1", "lookup", "student"),
    "get /students": Route("/students?find=ada", "lookup", "search"),
    "get /courses": Route("/courses?find=c1", "lookup"),
    "get /students/{student}/results": Route("/students/S1/results", "lookup", "results"),
    "get /students/{student}/history": Route("/students/S1/history", "lookup", "history"),
    "get /courses/{course}/students": Route("/courses/C1/students", "lookup", "roll"),
    "get /requests/{request_id}": Route("/requests/r1", "own", "request"),
    "post /batches": Route(
        "/batches", "submit", None, {"content": "sis_id,name\nS3,Cy\n", "headers": CSV}
    ),
    "post /batches/check": Route(
        "/batches/check", "submit", None, {"content": "sis_id,name\nS3,Cy\n", "headers": CSV}
    ),
    "post /batches/preview": Route(
        "/batches/preview", "submit", None, {"content": "sis_id,name\nS3,Cy\n", "headers": CSV}
    ),
    "get /batches": Route("/batches", "any"),
    "get /batches/{batch_id}": Route("/batches/b1", "own", "batch"),
    "get /batches/{batch_id}/errors": Route("/batches/b1/errors", "own", "refusals"),
    "get /batches/{batch_id}/errors/lines": Route(
        "/batches/b1/errors/lines", "own", "refused_lines"
    ),
    "get /batches/{batch_id}/events": Route("/batches/b1/events", "own", "events"),
    "get /plans/{plan_id}": Route("/plans/p1", "own", "plan_report"),
    "get /plans/{plan_id}/drops": Route("/plans/p1/drops", "lookup", "plan_drops"),
    "post /plans/{plan_id}/decision": Route(
        "/plans/p1/decision",
        "decide",
        "plan_report",
        {"json": {"decision": "discard", "digest": ""}},
    ),
    "post /batches/{batch_id}/undo": Route("/batches/b2/undo?plan=report", "decide", "undo"),
    "get /health/live": Route("/health/live", None),
    "get /health/ready": Route("/health/ready", None),
}
DISCLOSING = [name for name, route in ROUTES.items() if route.shows]


def operations() -> Iterator[str]:
    document = make_app(HttpSettings(broker_url=SecretStr("redis://localhost:1/0"))).openapi()
    for path, methods in document["paths"].items():
        yield from (f"{method} {path}" for method in methods)


def with_data(tokens: dict[str, str], audit: Path | None = None) -> MemoryFront:
    """Return a front with a student, a request that was decided, and a batch with a refusal."""
    front = MemoryFront(tokens, audit)
    front.client.submit_batch("students", [{"sis_id": "S1", "name": "Ada"}])
    front.client.submit_batch("courses", [{"sis_id": "C1"}, {"sis_id": "C2"}])
    front.client.enroll({**ENROLLMENT, "request_id": "r1"})
    records = [ENROLLMENT, {"student_id": "ghost", "course_ids": ["C1"]}]
    front.client.submit_batch("enrollments", records, batch_id="b1", submitter="other")
    other = {"student_id": "S1", "course_ids": ["C2"]}
    front.client.submit_batch("enrollments", [other], batch_id="b2", submitter="other")
    member = PlanMember(batch_id="p1", kind=Kind.ENROLLMENTS)
    held = PlanRequest(id="p1", members=(member,), purpose=PlanPurpose.APPLY, hold="always")
    front.client.submit_batch("enrollments", records, plan=held, submitter="other")
    return front


def call(front: MemoryFront, name: str, token: str | None) -> Any:
    route = ROUTES[name]
    options = dict(route.options)
    if "digest" in options.get("json", {}):
        options["json"] = {**options["json"], "digest": front.client.plan("p1").digest}
    return front.call(name.split(maxsplit=1)[0].upper(), route.path, token, **options)


def test_every_route_has_an_entry() -> None:
    assert set(operations()) == ROUTES.keys()


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.needs])
@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_a_valid_token_the_body_is_not_read(name: str, token: str | None) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body is read")
        yield b""

    method, route = name.split(maxsplit=1)[0].upper(), ROUTES[name]
    response = MemoryFront({"sis": "submit"}).call(method, route.path, token, content=body())
    assert (response.status_code, response.json()["code"]) == (401, "token_required")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scopes", SETS)
@pytest.mark.parametrize("name", ROUTES)
def test_a_route_is_allowed_by_its_scope_and_by_no_other(name: str, scopes: str) -> None:
    response = call(with_data({"sis": scopes}), name, "sis")
    needs = ROUTES[name].needs
    if needs == "own":
        assert response.status_code == (200 if "lookup" in scopes else 404)
    elif needs in (None, "any", *scopes.split(",")):
        assert response.status_code in (200, 202), response.text
    else:
        assert (response.status_code, response.json()["code"]) == (403, "scope_required")
        assert f"lacks the scope {needs}" in response.json()["detail"]


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_records_what_it_shows_and_nothing_else(name: str, tmp_path: Path) -> None:
    front = with_data({"sis": ",".join(SCOPES)}, tmp_path)
    response = call(front, name, "sis")
    assert response.status_code in (200, 202)
    shows = ROUTES[name].shows
    assert [line["what"] for line in front.recorded()] == ([shows] if shows else [])
    for line in front.recorded():
        assert (line["caller"], line["status"]) == ("sis", response.status_code)
        assert line["call_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("name", DISCLOSING)
def test_what_cannot_be_recorded_is_not_shown(name: str, tmp_path: Path) -> None:
    front = with_data({"sis": ",".join(SCOPES)}, tmp_path / "missing")
    response = call(front, name, "sis")
    assert (response.status_code, response.json()["code"]) == (503, "audit_unavailable")
    assert response.headers["retry-after"] == "5"
    assert not any(text in response.text for text in ("S1", "Ada", "ghost", "C1", "r1", "b1"))


def test_without_an_audit_the_same_calls_are_answered() -> None:
    front = with_data({"sis": ",".join(SCOPES)})
    assert [call(front, name, "sis").status_code for name in DISCLOSING] == [200] * len(DISCLOSING)
