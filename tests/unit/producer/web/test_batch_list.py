"""The list of batches over HTTP: pages, filters, and cursors that are not ours."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from producer.main import make_app
from producer.testing import FakeAsyncEnrollmentClient, FakeEnrollmentClient
from producer.web.services import Services
from producer.web.settings import HttpSettings
from producer.web.tokens import read_tokens

Get = Callable[..., httpx.Response]


@pytest.fixture
def client() -> FakeEnrollmentClient:
    return FakeEnrollmentClient()


@pytest.fixture
def get(client: FakeEnrollmentClient) -> Get:
    """Asks a front whose worker is in memory; `scopes` are those of the caller's token."""

    async def send(scopes: str | None, query: dict[str, Any] | str) -> httpx.Response:
        app = make_app(HttpSettings(broker_url=SecretStr("memory://")))
        digest = hashlib.sha256(b"secret").hexdigest()
        app.state.tokens = read_tokens([f"sis {scopes} {digest}"] if scopes else [])
        asynchronous = FakeAsyncEnrollmentClient(broker=client.broker)
        own = FakeEnrollmentClient(broker=client.broker)
        app.state.services = services = Services.over(asynchronous, own)
        headers = {"Authorization": "Bearer secret"}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as caller:
            response = await caller.get("/batches", params=query, headers=headers)
        await services.close()
        return response

    return lambda scopes=None, **query: asyncio.run(send(scopes, query))


def submit(client: FakeEnrollmentClient, batch_id: str, **options: Any) -> None:
    kind = options.pop("kind", "students")
    client.submit_batch(kind, [{"sis_id": batch_id}], batch_id=batch_id, **options)


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [batch["batch_id"] for batch in response.json()["batches"]]


def test_batches_come_newest_first_in_pages_while_others_arrive(
    client: FakeEnrollmentClient, get: Get
) -> None:
    for number in range(5):
        submit(client, f"b{number}")
    assert ids(get()) == ["b4", "b3", "b2", "b1", "b0"]
    assert get().json()["next"] is None
    pages: list[list[str]] = []
    cursor: dict[str, Any] = {}
    for number in range(3):
        page = get(limit=2, **cursor)
        pages.append(ids(page))
        submit(client, f"later-{number}")
        cursor = {"cursor": page.json()["next"]}
    assert pages == [["b4", "b3"], ["b2", "b1"], ["b0"]]
    assert cursor == {"cursor": None}


def test_an_entry_says_what_the_batch_was(client: FakeEnrollmentClient, get: Get) -> None:
    records = [{"sis_id": "S1"}, {"sis_id": ""}]
    options: dict[str, Any] = {"batch_id": "b", "columns": ["sis_id"]}
    client.submit_batch("students", records, file_name="s.csv", submitter="sis", **options)
    (entry,) = get().json()["batches"]
    shown = {name: entry[name] for name in ("file_name", "submitter", "kind", "state")}
    assert shown == {"file_name": "s.csv", "submitter": "sis", "kind": "students", "state": "done"}
    books = entry["books"]
    assert (books["received"], books["upserted"], books["rejected"]) == (2, 1, 1)
    assert entry["submitted_at"] <= entry["started_at"] <= entry["finished_at"]
    assert (entry["columns"], entry["refusals"]) == (None, [])


def test_batches_are_selected_by_state_kind_and_submitter(
    client: FakeEnrollmentClient, get: Get
) -> None:
    submit(client, "mine", submitter="sis")
    submit(client, "courses", kind="courses", submitter="sis")
    submit(client, "other", submitter="ä b&c")
    assert ids(get(submitter="sis")) == ["courses", "mine"]
    assert ids(get(submitter="ä b&c")) == ["other"]
    assert ids(get(submitter="sis", kind="students")) == ["mine"]
    assert ids(get(state="done")) == ["other", "courses", "mine"]
    assert ids(get(state="running")) == []
    assert ids(get(state="unknown")) == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"state": "lost"}, "state"),
        ({"state": ""}, "state"),
        ({"kind": "teachers"}, "kind"),
        ({"submitter": ""}, "submitter"),
        ({"submitter": "a\x00b"}, "submitter"),
        ({"submitter": "x" * 256}, "submitter"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
    ],
)
def test_a_wrong_parameter_is_named(get: Get, query: dict[str, Any], field: str) -> None:
    response = get(**query)
    assert response.status_code == 422
    assert (response.json()["code"], response.json()["field"]) == ("invalid_request", field)


NOW = "2026-09-01T08:00:00Z"
CONTENTS: dict[str, Any] = {
    "nothing": None,
    "a number": 1,
    "an object": {"moment": NOW, "id": "b"},
    "too few": [NOW],
    "too many": [NOW, "b", "c"],
    "a moment that is a number": [1, "b"],
    "a moment without a zone": ["2026-09-01T08:00:00", "b"],
    "a day that does not exist": ["2026-02-30T08:00:00Z", "b"],
    "a moment before our time": ["0001-01-01T00:00:00+14:00", "b"],
    "a moment after our time": ["9999-12-31T23:59:59-14:00", "b"],
    "an id that is a number": [NOW, 7],
    "an id that is null": [NOW, None],
    "an id with NUL": [NOW, "a\x00b"],
    "an id that is too long": [NOW, "x" * 129],
    "an empty id": [NOW, ""],
    "a lone surrogate": [NOW, "\ud800"],
}
TEXTS = {
    "empty": "",
    "a letter": "x",
    "400 characters": "A" * 400,
    "401 characters": "A" * 401,
    "60,000 characters": "A" * 60_000,
    "NUL": "\x00",
    "not ASCII": "ä",
    "not base64": "%%%%",
    "base64 with rubbish in it": base64.urlsafe_b64encode(b'["a", "b"]').decode() + "*",
    "bytes that are not UTF-8": base64.urlsafe_b64encode(b"\xff\xfe\xff").decode(),
    "deep JSON": base64.urlsafe_b64encode(b"[" * 40_000).decode(),
    "deep JSON that is closed": base64.urlsafe_b64encode(b"[" * 9_000 + b"]" * 9_000).decode(),
    "many digits": base64.urlsafe_b64encode(b"9" * 9_000).decode(),
    **{
        name: base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
        for name, content in CONTENTS.items()
    },
}


@pytest.mark.parametrize("cursor", [pytest.param(text, id=name) for name, text in TEXTS.items()])
def test_a_cursor_that_is_not_ours_is_refused(get: Get, cursor: str) -> None:
    response = get(cursor=cursor)
    assert response.status_code == 422, response.text
    assert response.json()["code"] == "bad_cursor"
    assert "`next` from the previous page" in response.json()["detail"]


@pytest.mark.parametrize("batch_id", ["b", "ä\U0001f393", "x" * 128, "\U0001f393" * 128, 'a"\\'])
def test_every_batch_id_fits_into_a_cursor(
    client: FakeEnrollmentClient, get: Get, batch_id: str
) -> None:
    submit(client, "older")
    submit(client, batch_id)
    first = get(limit=1)
    assert ids(first) == [batch_id]
    assert ids(get(limit=1, cursor=first.json()["next"])) == ["older"]


def test_without_the_scope_of_the_other_lookups_the_list_has_only_own_batches(
    client: FakeEnrollmentClient, get: Get
) -> None:
    submit(client, "b")
    submit(client, "own", submitter="sis")
    assert ids(get("lookup")) == ["own", "b"]
    assert ids(get("submit,drop")) == ["own"]
