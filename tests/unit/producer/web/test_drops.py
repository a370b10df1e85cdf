"""Drops over HTTP: a route of their own, uploads, and the scope that allows them."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from producer.main import make_app
from producer.web.services import Services
from producer.web.settings import HttpSettings
from producer.web.tokens import read_tokens
from support.recording import RecordingWorker

SCOPES = ("submit", "drop", "submit,drop", "submit,lookup", "drop,lookup", "submit,drop,lookup")
PAIRS = "student_id,course_id\nS1,C1\n"
ACTIONS = "student_id,course_id,action\nS1,C1,enroll\nS1,C2,Drop\n"
RECORDS = '{"student_id": "S1", "course_ids": ["C1"]}\n{"student_id": "S1", "drop_course_ids": [2]}'
CSV = {"Content-Type": "text/csv"}

Call = Callable[..., httpx.Response]


@pytest.fixture
def worker() -> RecordingWorker:
    return RecordingWorker()


@pytest.fixture
def call(worker: RecordingWorker) -> Call:
    """Calls a front whose worker is in memory; `scopes` are those of the caller's token."""

    async def send(method: str, path: str, scopes: str | None, **options: Any) -> httpx.Response:
        app = make_app(HttpSettings(broker_url=SecretStr("memory://")))
        digest = hashlib.sha256(b"secret").hexdigest()
        app.state.tokens = read_tokens([f"sis {scopes} {digest}"] if scopes else [])
        services = Services.over(worker.async_client(), worker.client())
        app.state.services = services
        transport = httpx.ASGITransport(app=app)
        options["headers"] = {"Authorization": "Bearer secret", **options.get("headers", {})}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            response = await client.request(method, path, **options)
        await services.close()
        return response

    return lambda method, path, scopes=None, **options: asyncio.run(
        send(method, path, scopes, **options)
    )


def test_a_student_is_dropped_from_a_course(call: Call, worker: RecordingWorker) -> None:
    response = call("DELETE", "/students/S%2F1/courses/key:17")
    assert response.status_code == 202
    request_id = response.json()["request_id"]
    assert response.headers["location"] == f"/requests/{request_id}"
    assert worker.requests == [
        {"student_id": "S/1", "drop_course_ids": [17], "request_id": request_id}
    ]


def test_a_drop_may_have_a_reason_a_time_and_an_id(call: Call, worker: RecordingWorker) -> None:
    query = {"reason": "moved", "as_of": "2026-09-01T08:00:00+02:00", "request_id": "r1"}
    assert call("DELETE", "/students/S1/courses/C1", params=query).json()["request_id"] == "r1"
    headers = {"Idempotency-Key": "r2"}
    call("DELETE", "/students/S1/courses/C1", params=query, headers=headers)
    expected = {
        "student_id": "S1",
        "drop_course_ids": ["C1"],
        "reason": "moved",
        "as_of": "2026-09-01T06:00:00Z",
    }
    assert worker.requests == [{**expected, "request_id": id_} for id_ in ("r1", "r2")]


@pytest.mark.parametrize(
    ("path", "query", "status", "field"),
    [
        ("/students/S1/courses/key:0", {}, 404, None),
        ("/students/key:99999999999/courses/C1", {}, 404, None),
        ("/students/S1/courses/C1", {"as_of": "2026-09-01T08:00:00"}, 422, "as_of"),
        ("/students/S1/courses/C1", {"reason": "x" * 256}, 422, "reason"),
        ("/students/S1/courses/C1", {"request_id": "b:1:2"}, 422, "request_id"),
        ("/students/S1/courses/" + "x" * 256, {}, 422, "drop_course_ids[0]"),
    ],
)
def test_an_invalid_drop_gets_a_problem(
    call: Call,
    worker: RecordingWorker,
    path: str,
    query: dict[str, str],
    status: int,
    field: str | None,
) -> None:
    response = call("DELETE", path, params=query)
    assert response.status_code == status
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem.get("field") or "").split(".")[-1] == (field or "")
    assert worker.messages == []


@pytest.mark.parametrize("scopes", [None, *SCOPES])
@pytest.mark.parametrize(
    ("call_", "needed"),
    [
        (("DELETE", "/students/S1/courses/C1", {}), "drop"),
        (("POST", "/students/enroll", {"json": {"student_id": "S1", "course_ids": [1]}}), "submit"),
        (
            ("POST", "/students/enroll", {"json": {"student_id": "S1", "drop_course_ids": [1]}}),
            "submit,drop",
        ),
        (("POST", "/batches", {"content": PAIRS, "headers": CSV}), "submit"),
        (
            ("POST", "/batches", {"content": ACTIONS.replace("Drop", ""), "headers": CSV}),
            "submit",
        ),
        (("POST", "/batches", {"content": ACTIONS, "headers": CSV}), "submit,drop"),
        (("POST", "/batches", {"content": RECORDS, "headers": CSV}), "submit,drop"),
        (("POST", "/batches?drop=true", {"content": PAIRS, "headers": CSV}), "submit,drop"),
    ],
)
def test_every_call_that_drops_needs_the_scope_for_it(
    call: Call,
    worker: RecordingWorker,
    call_: tuple[str, str, dict[str, Any]],
    needed: str,
    scopes: str | None,
) -> None:
    method, path, options = call_
    response = call(method, path, scopes, **options)
    lacking = set(needed.split(",")) - set((scopes or needed).split(","))
    if not lacking:
        assert response.status_code == 202
        assert len(worker.messages) == 1
        return
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "scope_required"
    assert any(f"lacks the scope {scope}" in response.json()["detail"] for scope in lacking)
    assert worker.messages == []


def test_the_line_of_a_drop_that_is_not_allowed_is_named(call: Call) -> None:
    detail = call("POST", "/batches", "submit", content=ACTIONS, headers=CSV).json()["detail"]
    assert "for the drop in line 3;" in detail


@pytest.mark.parametrize(
    ("head", "line", "drop"),
    [
        ("student_id,course_id,action\n", "S1,C1,enroll\n", "S1,C2,drop\n"),
        (
            "",
            '{"student_id": "S1", "course_ids": ["C1"]}\n',
            '{"student_id": "S1", "drop_course_ids": ["C1"]}\n',
        ),
    ],
)
def test_a_file_with_a_drop_far_down_that_is_not_allowed_is_refused_as_a_whole(
    call: Call, worker: RecordingWorker, head: str, line: str, drop: str
) -> None:
    content = head + line * 30_000
    for path in ("/batches/check", "/batches"):
        refused = call("POST", path, "submit", content=content + drop, headers=CSV)
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_required")
        assert f"for the drop in line {30_001 + bool(head)};" in refused.json()["detail"]
        assert worker.messages == []
    assert call("POST", "/batches/check", "submit", content=content).json()["rows"] == 30_000
    assert call("POST", "/batches", "submit", content=content, headers=CSV).status_code == 202
    assert sum(len(chunk.records_in_order) for chunk in worker.chunks) == 30_000


def test_a_check_needs_the_scope_for_drops_as_a_submission_does(call: Call) -> None:
    assert call("POST", "/batches/check?drop=true", "submit", content=PAIRS).status_code == 403
    assert (
        call("POST", "/batches/check?drop=true", "submit,drop", content=PAIRS).json()["rows"] == 1
    )
    assert call("POST", "/batches/check", "submit", content="who,what\n1,2\n").json()["problem"]


def test_an_upload_with_actions_is_in_order(call: Call, worker: RecordingWorker) -> None:
    call("POST", "/batches", content=ACTIONS, headers=CSV)
    call("POST", "/batches?drop=true", content=PAIRS, headers=CSV)
    changes, drops = worker.chunks
    assert (changes.ordered, drops.ordered) == (True, False)
    assert [request.drop_course_ids for request in changes.records_in_order] == [(), ("C2",)]
    assert [request.drop_course_ids for request in drops.records_in_order] == [("C1",)]


@pytest.mark.parametrize("content", [ACTIONS, RECORDS, "sis_id,name\nS1,Ada\n"])
def test_an_upload_whose_lines_cannot_all_be_drops_is_refused(call: Call, content: str) -> None:
    response = call("POST", "/batches?drop=true", content=content, headers=CSV)
    assert (response.status_code, response.json()["field"]) == (422, "drop")
