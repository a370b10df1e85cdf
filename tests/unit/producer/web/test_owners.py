"""A caller without the scope `lookup` sees what its own token has submitted, and nothing else."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from producer.contract.batches import BatchState, BatchStatus
from producer.contract.keys import Owned
from producer.errors import NoWorkerAnswered
from producer.schemas import StudentEnrollmentRequest
from producer.testing import FakeAsyncEnrollmentClient
from producer.testing.connection import MemoryBroker, MemoryConnection
from producer.web.callers import Caller
from producer.web.owners import Owners, RequestOwner
from producer.web.tokens import Scope
from support.front import MemoryFront

TOKENS = {
    "sis": "submit,drop",
    "sis+new": "submit",
    "admissions": "submit",
    "sweeper": "drop",
    "registrar": "submit,lookup",
    "both": "submit",
    "both+full": "submit,lookup",
}
WAIT = {"Prefer": "wait=1"}
CSV = {"Content-Type": "text/csv"}
LINES = "student_id,course_id\nS1,C1\nghost,C1\n"
OTHERS = ("admissions", "sweeper")


@pytest.fixture
def front() -> MemoryFront:
    front = MemoryFront(TOKENS)
    front.client.submit_batch("students", [{"sis_id": "S1"}, {"sis_id": "S2"}])
    front.client.submit_batch("courses", [{"sis_id": "C1"}, {"sis_id": "C2"}])
    return front


def ask(student: str = "S1", course: str = "C1", **more: Any) -> dict[str, Any]:
    return {"student_id": student, "course_ids": [course], **more}


def visible_in(response: Any) -> tuple[int, bytes]:
    """Return what a caller can learn from a response."""
    return response.status_code, response.content


@pytest.mark.parametrize("headers", [{}, WAIT])
@pytest.mark.parametrize("own_id", [{}, {"request_id": "r1"}])
def test_a_request_is_seen_by_the_tokens_of_its_caller(
    front: MemoryFront, own_id: dict[str, str], headers: dict[str, str]
) -> None:
    posted = front.call(
        "POST", "/students/enroll", "sis", json=ask() | own_id, headers=headers
    ).json()
    path = f"/requests/{posted['request_id']}"
    for token in ("sis", "sis+new", "registrar"):
        assert front.call("GET", path, token).json()["result"]["student_id"] == "S1"
    for token in OTHERS:
        unknown = front.call("GET", "/requests/never", token)
        assert visible_in(front.call("GET", path, token)) == visible_in(unknown)
        assert unknown.status_code == 404


def test_a_drop_is_seen_by_its_caller(front: MemoryFront) -> None:
    path = "/students/S1/courses/C1"
    location = front.call("DELETE", path, "sweeper").headers["location"]
    assert front.call("GET", location, "sweeper").status_code == 200
    assert front.call("GET", location, "sis").status_code == 404


def test_what_another_token_of_the_name_submitted_is_seen(front: MemoryFront) -> None:
    body = ask(request_id="full")
    assert front.call("POST", "/students/enroll", "both+full", json=body).status_code == 202
    front.call("POST", "/batches?batch_id=full", "both+full", content=LINES, headers=CSV)
    for path in ("/requests/full", "/batches/full"):
        assert front.call("GET", path, "both").status_code == 200
        assert front.call("GET", path, "sis").status_code == 404


@pytest.mark.parametrize("headers", [{}, WAIT, {"Idempotency-Key": "r1"}])
@pytest.mark.parametrize("other", ["registrar", "admissions", None])
@pytest.mark.parametrize("body", [ask(), ask("S2"), ask(course="C2")])
def test_the_id_of_another_caller_returns_no_result(
    front: MemoryFront, other: str | None, headers: dict[str, str], body: dict[str, Any]
) -> None:
    first = ask(request_id="r1")
    if other is None:  # Over the queue.
        front.client.enroll(first)
    else:
        front.call("POST", "/students/enroll", other, json=first, headers=WAIT)
    again = body if "Idempotency-Key" in headers else body | {"request_id": "r1"}
    response = front.call("POST", "/students/enroll", "sis", json=again, headers=headers)
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "request_id_reused"
    assert "S1" not in response.text
    assert front.call("GET", "/requests/r1", "sis").status_code == 404
    assert front.client.results("S1")[0].request_id == "r1"
    assert front.client.results("S2") == []


def test_a_repeat_of_the_same_caller_gets_the_first_result(front: MemoryFront) -> None:
    send = {"json": ask(request_id="r1")}
    first = front.call("POST", "/students/enroll", "sis", **send, headers=WAIT)
    again = front.call("POST", "/students/enroll", "sis+new", **send)
    assert (again.status_code, again.json()) == (200, first.json())
    other = front.call("POST", "/students/enroll", "sis", json=ask("S2", request_id="r1"))
    assert (other.status_code, other.json()["code"]) == (409, "request_id_reused")


def test_two_callers_that_use_an_id_at_once_share_no_result(front: MemoryFront) -> None:
    tokens = ("sis", "admissions")

    async def post() -> list[Any]:
        body = ask(request_id="race")
        calls = (front.send("POST", "/students/enroll", token, json=body) for token in tokens)
        return await asyncio.gather(*calls)

    responses = zip(tokens, asyncio.run(post()), strict=True)
    statuses = {token: response.status_code for token, response in responses}
    assert sorted(statuses.values()) == [202, 409]
    for token, status in statuses.items():
        expected = 200 if status == 202 else 404
        assert front.call("GET", "/requests/race", token).status_code == expected


def test_a_result_of_another_student_under_a_claimed_id_is_not_shown(front: MemoryFront) -> None:
    """Another client used the id over the queue after it was claimed, and before it was sent."""

    async def claim() -> None:
        client = FakeAsyncEnrollmentClient(broker=front.broker)
        caller = Caller("sis", frozenset([Scope.SUBMIT]))
        enrollment = StudentEnrollmentRequest(**ask(request_id="r1"))
        await Owners(client).claim_request(caller, enrollment, has_own_id=True)
        await client.close()

    asyncio.run(claim())
    front.client.enroll(ask("S2", request_id="r1"))
    unknown = front.call("GET", "/requests/never", "sis")
    assert visible_in(front.call("GET", "/requests/r1", "sis")) == visible_in(unknown)
    posted = front.call("POST", "/students/enroll", "sis", json=ask(request_id="r1"), headers=WAIT)
    assert (posted.status_code, "S2" in posted.text) == (409, False)


def test_the_refusal_of_a_reused_id_has_no_result(front: MemoryFront) -> None:
    """The student is the same, but whose request was first is not known."""
    owner = RequestOwner.of(Caller("sis", frozenset()), StudentEnrollmentRequest(**ask()))
    front.broker.owner(f"{Owned.REQUEST}:r1", " ".join(owner))
    front.client.enroll(ask(course="C2", request_id="r1"))
    posted = front.call("POST", "/students/enroll", "sis", json=ask(request_id="r1"), headers=WAIT)
    assert (posted.status_code, posted.json()["code"]) == (409, "request_id_reused")


class _CachingConnection(MemoryConnection):
    """A connection to a Redis that has a copy of the status of one batch."""

    copy = BatchStatus(batch_id="b1", state=BatchState.DONE, chunks_applied=1, submitter="other")

    def known_batches(self, batch_ids: Sequence[str], *, refusals: bool) -> dict[str, BatchStatus]:  # noqa: ARG002 - they are not named
        return {"b1": self.copy} if "b1" in batch_ids else {}


class _CachingClient(FakeAsyncEnrollmentClient):
    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker=broker)
        self._use(_CachingConnection(broker), 0.2)


@pytest.mark.parametrize("batch_id", ["b1", "never"])
def test_a_worker_is_asked_about_a_batch_of_another_as_about_none(
    front: MemoryFront, batch_id: str
) -> None:
    async def find() -> BatchStatus | None:
        client = _CachingClient(front.broker)
        try:
            caller = Caller("sis", frozenset([Scope.SUBMIT]))
            return await Owners(client).find_batch(caller, batch_id)
        finally:
            await client.close()

    assert asyncio.run(find()) is None
    with front.client.without_worker(), pytest.raises(NoWorkerAnswered):
        asyncio.run(find())


def test_a_foreign_request_is_not_even_looked_up(front: MemoryFront) -> None:
    front.client.enroll(ask(request_id="r1"))
    with front.client.without_worker():
        responses = [front.call("GET", f"/requests/{i}", "sis") for i in ("r1", "never")]
    assert visible_in(responses[0]) == visible_in(responses[1])
    assert responses[0].status_code == 404


def test_without_a_worker_a_request_is_accepted_and_seen_by_its_caller(front: MemoryFront) -> None:
    with front.client.without_worker():
        posted = front.call("POST", "/students/enroll", "sis", json=ask(request_id="later"))
        assert posted.status_code == 202
        assert front.call("GET", "/requests/later", "sis").json()["state"] == "queued"
        assert front.call("GET", "/requests/later", "admissions").status_code == 404
    assert front.call("GET", "/requests/later", "sis").json()["state"] == "done"


@pytest.mark.parametrize("query", ["", "?batch_id=b1"])
def test_a_batch_is_seen_by_the_tokens_of_its_caller(front: MemoryFront, query: str) -> None:
    posted = front.call("POST", f"/batches{query}", "sis", content=LINES, headers=CSV)
    path = posted.json()["url"]
    for suffix in ("", "/errors", "/events"):
        for token in ("sis", "sis+new", "registrar"):
            assert front.call("GET", path + suffix, token).status_code == 200
        for token in OTHERS:
            unknown = front.call("GET", f"/batches/never{suffix}", token)
            assert visible_in(front.call("GET", path + suffix, token)) == visible_in(unknown)
            assert unknown.status_code == 404
    lines = front.call("GET", f"{path}/errors", "sis", headers={"Accept": "text/csv"})
    assert "ghost" in lines.text


def test_a_batch_that_waits_is_seen_by_its_caller_alone(front: MemoryFront) -> None:
    with front.client.without_worker():
        path = front.call("POST", "/batches", "sis", content=LINES, headers=CSV).json()["url"]
    assert front.broker.owner(f"batch:{path.rpartition('/')[2]}", None) == "sis"
    assert front.call("GET", path, "sis").status_code == 200


def test_a_batch_from_the_queue_belongs_to_its_submitter(front: MemoryFront) -> None:
    records = [ask(), ask("ghost")]
    front.client.submit_batch("enrollments", records, batch_id="q", submitter="sis")
    front.client.submit_batch("enrollments", records, batch_id="nobody's")
    assert front.call("GET", "/batches/q", "sis").json()["submitter"] == "sis"
    for path in ("/batches/nobody's", "/batches/nobody's/errors", "/batches/nobody's/events"):
        assert front.call("GET", path, "sis").status_code == 404


@pytest.mark.parametrize("content", [LINES, "sis_id\nS3\n", "student_id,course_id\nS2,C2\n"])
@pytest.mark.parametrize("other", ["registrar", "admissions", None])
def test_a_batch_id_of_another_caller_is_refused(
    front: MemoryFront, other: str | None, content: str
) -> None:
    if other is None:
        front.client.submit_batch("enrollments", [ask(), ask("ghost")], batch_id="b1")
    else:
        front.call("POST", "/batches?batch_id=b1", other, content=LINES, headers=CSV)
    before = front.client.batch("b1")
    response = front.call("POST", "/batches?batch_id=b1", "sis", content=content, headers=CSV)
    assert (response.status_code, response.json()["code"]) == (409, "batch_conflict")
    assert "enrollments" not in response.text
    assert front.call("GET", "/batches/b1", "sis").status_code == 404
    assert front.client.batch("b1") == before


def test_a_repeated_batch_of_the_same_caller_is_accepted(front: MemoryFront) -> None:
    for token in ("sis", "sis+new"):
        again = front.call("POST", "/batches?batch_id=b1", token, content=LINES, headers=CSV)
        assert again.status_code == 202
    assert front.client.batch("b1").books.received == 2


def test_a_claim_does_not_make_the_batch_of_another_visible(front: MemoryFront) -> None:
    front.broker.owner(f"{Owned.BATCH}:b1", "sis")
    front.client.submit_batch("enrollments", [ask(), ask("ghost")], batch_id="b1", submitter="x")
    for suffix in ("", "/errors", "/events"):
        assert front.call("GET", f"/batches/b1{suffix}", "sis").status_code == 404


def test_without_a_broker_nothing_is_published(front: MemoryFront) -> None:
    with front.client.without_broker():
        for method, path, options in (
            ("POST", "/students/enroll", {"json": ask()}),
            ("POST", "/students/enroll", {"json": ask(request_id="r1")}),
            ("DELETE", "/students/S1/courses/C1", {}),
            ("POST", "/batches", {"content": LINES, "headers": CSV}),
            ("GET", "/requests/r1", {}),
            ("GET", "/batches/b1", {}),
        ):
            response = front.call(method, path, "sis", **options)
            assert (response.status_code, response.json()["code"]) == (503, "broker_unavailable")
    assert front.client.results("S1") == []


def test_a_stored_owner_that_cannot_be_read_is_no_owner() -> None:
    for text in (None, "", "sis", "sis "):
        assert RequestOwner.parse(text) is None


def test_the_list_has_only_the_batches_of_the_caller(front: MemoryFront) -> None:
    for batch_id, submitter in (("a", "sis"), ("b", "admissions"), ("c", None), ("d", "sis")):
        front.client.submit_batch("enrollments", [ask()], batch_id=batch_id, submitter=submitter)

    def listed(token: str, query: str = "") -> list[str]:
        page = front.call("GET", f"/batches{query}", token).json()
        return [batch["batch_id"] for batch in page["batches"]]

    assert listed("sis") == listed("sis", "?submitter=sis") == ["d", "a"]
    assert listed("sis", "?submitter=admissions") == listed("sweeper") == []
    assert front.call("GET", "/batches?submitter=admissions", "sis").json()["next"] is None
    assert {"a", "b", "c", "d"} <= set(listed("registrar"))
    assert listed("registrar", "?submitter=sis") == ["d", "a"]
