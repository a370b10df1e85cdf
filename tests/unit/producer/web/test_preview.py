"""`POST /batches/preview`: the beginning of a file in every kind of body, with no broker."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.files.preview import MAX_PREVIEW
from producer.web.preview import MAX_FORM, preview_batch
from producer.web.problems import PROBLEM
from producer.web.tokens import read_tokens
from support.front import new_app

PAIRS = b"Student ID,course_id,note\nS1,C1,x\nS1,C2,y\n,C3,\n"
LARGE = PAIRS + b"S2,C1,%s\n" % (b"z" * 5_000) * 400
FORM = "multipart/form-data; boundary="


def call(scopes: str | None = None, **options: Any) -> httpx.Response:
    """Call a front that has no client, and so can neither publish nor ask a worker."""

    async def send() -> httpx.Response:
        app = new_app()
        digest = hashlib.sha256(b"secret").hexdigest()
        app.state.tokens = read_tokens([f"sis {scopes} {digest}"] if scopes else [])
        transport = httpx.ASGITransport(app=app)
        options["headers"] = {"Authorization": "Bearer secret", **options.get("headers", {})}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/batches/preview", **options)

    return asyncio.run(send())


def in_form(content: bytes, head: str = 'name="file"; filename="a.csv"') -> dict[str, Any]:
    body = f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content
    return {"content": body + b"\r\n--b--\r\n", "headers": {"Content-Type": f"{FORM}b"}}


def test_a_preview_is_the_same_for_every_kind_of_body() -> None:
    found = call(content=PAIRS)
    assert found.status_code == 200
    shown = found.json()
    assert shown["readable"]
    assert not shown["truncated"]
    assert [row["line"] for row in shown["rows"]] == [2, 3]
    assert shown["refused"][0]["field"] == "student_id"
    assert shown["ignored"] == ["note"]
    assert call(files={"file": ("a.csv", PAIRS)}).json() == shown
    urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
    assert call(content=PAIRS, headers=urlencoded).json() == shown


def test_the_parameters_are_those_of_a_submission() -> None:
    params: dict[str, Any] = {"map": ["student_id={note}", "course_id={course id}"], "drop": True}
    content = b"note,course id\nS\xe9,C\n"
    shown = call(content=content, params={**params, "encoding": "cp1252"}).json()
    assert shown["rows"][0]["fields"] == {"student_id": "Sé", "course_id": "C", "action": "drop"}
    assert call(content=b"sis_id\nS1\n", params={"kind": "courses"}).json()["kind"] == "courses"
    assert len(call(content=PAIRS, params={"limit": 1}).json()["rows"]) == 1
    partial = call(content=PAIRS + b'S2,"C', params={"partial": True}).json()
    assert (partial["truncated"], len(partial["refused"])) == (True, 1)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"map": "x"}, "bad_map"),
        ({"kind": "martians"}, "invalid_request"),
        ({"limit": 101}, "invalid_request"),
        ({"limit": -1}, "invalid_request"),
        ({"encoding": "x" * 41}, "invalid_request"),
    ],
)
def test_a_parameter_that_breaks_the_contract_is_a_problem(
    params: dict[str, Any], code: str
) -> None:
    response = call(content=PAIRS, params=params)
    assert (response.status_code, response.json()["code"]) == (422, code)


@pytest.mark.parametrize("how", [{"content": LARGE}, {"files": {"file": ("a.csv", LARGE)}}])
def test_of_a_large_file_only_the_beginning_is_read(how: dict[str, Any]) -> None:
    shown = call(**how).json()
    assert (shown["readable"], shown["truncated"]) == (True, True)
    assert [line["line"] for line in shown["refused"]] == [4]
    assert 200 < shown["row_count"] < 220


@pytest.mark.parametrize("head", [b"", in_form(b"")["content"].removesuffix(b"\r\n--b--\r\n")])
def test_a_body_is_not_read_beyond_its_bound(head: bytes) -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        yield head + PAIRS
        while True:  # The body has no end.
            sent += 10_000
            yield b"S2,C1,%s\n" % (b"z" * 9_993)

    headers = {"Content-Type": f"{FORM}b"} if head else {}
    shown = call(content=pieces(), headers=headers).json()
    assert (shown["readable"], shown["truncated"]) == (True, True)
    assert MAX_PREVIEW - 20_000 < sent < MAX_FORM + 20_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": {"a": "b"}, "files": {"x": (None, b"no file")}}, "contains no file"),
        ({"files": [("file", ("a", PAIRS)), ("file", ("b", PAIRS))]}, "several files"),
        ({"files": [("file", ("a", PAIRS))] * 9}, "several files"),
        ({"files": [("file", ("a", PAIRS))] * 99}, "malformed"),
        ({"content": b"--" + b"x" * 5_000, "headers": {"Content-Type": FORM + "x" * 5_000}}, "70"),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data"}}, "boundary"),
        ({"content": b"", "headers": {"Content-Type": f"{FORM}b"}}, "contains no file"),
        ({"content": PAIRS, "headers": {"Content-Type": f"{FORM}b"}}, "malformed"),
        (
            {"content": b"--b\r\n" + b"x" * 10**6, "headers": {"Content-Type": f"{FORM}b"}},
            "malform",
        ),
        (in_form(PAIRS, 'filename="a.csv"'), "malformed"),
        (in_form(b"x" * 20_000, 'name="field"'), "malformed"),
        (in_form(b"x" * 20_000, 'name="' + "x" * 20_000 + '"; filename="a.csv"'), "malformed"),
    ],
)
def test_a_form_without_one_file_is_a_problem(options: dict[str, Any], words: str) -> None:
    response = call(**options)
    assert (response.status_code, response.json()["code"]) == (422, "unreadable_file")
    assert response.headers["content-type"] == PROBLEM
    assert words in response.json()["detail"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *(b"--b", b"--b--", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"-", b":", b"\0", b"\xff"),
                b'Content-Disposition: form-data; name="f"; filename="a"',
                *(b"Content-Disposition: form-data", b"Content-Type: text/csv", PAIRS, b"{}"),
            ]
        ),
        max_size=12,
    ).map(b"".join),
    st.sampled_from(["b", '"b"', "b; charset=zip", "\xe9", "-", ";;", '"', "b; boundary=c"]),
)
def test_whatever_a_form_holds_is_a_preview_or_a_problem(body: bytes, boundary: str) -> None:
    headers = {"Content-Type": (FORM + boundary).encode("latin-1")}
    assert call(content=body, headers=headers).status_code in (200, 422)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(["", "\ufeff", "PK\3\4", "\x1f\x8b", "{", "sis_id,name\n"]),
)
def test_whatever_a_file_holds_is_previewed(content: bytes, beginning: str) -> None:
    for encoding in ("latin-1" if beginning < "\x80" else "utf-8", "utf-16"):
        for partial in (True, False):
            body = beginning.encode(encoding, "replace") + content
            response = call(content=body, params={"partial": partial})
            assert response.status_code == 200
            assert response.json()["readable"] is (response.json()["problem"] is None)


@pytest.mark.parametrize(
    ("scopes", "status"), [("submit", 200), ("read", 403), ("drop", 403), (None, 200)]
)
def test_a_preview_needs_the_scope_of_a_submission(scopes: str | None, status: int) -> None:
    assert call(scopes, content=PAIRS).status_code == status
    assert call(scopes, content=PAIRS, params={"drop": True}).status_code == status


def test_an_upload_that_is_cut_off_is_no_preview() -> None:
    app = new_app()
    app.state.tokens = ()
    sent: list[Any] = []
    messages = iter(
        [
            {"type": "http.request", "body": PAIRS, "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/batches/preview",
        "raw_path": b"/batches/preview",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "server": ("127.0.0.1", 80),
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 400


def test_the_bound_is_the_one_in_the_description() -> None:
    assert f"{MAX_PREVIEW // 1024**2} MiB" in (preview_batch.__doc__ or "")
