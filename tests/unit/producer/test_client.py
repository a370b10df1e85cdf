"""Arguments of a wrong type are refused before anything is published or asked."""

import logging
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.client import EnrollmentClient
from producer.contract.stack_folder import StackState
from producer.embedded.folder import locked_folder, write_state
from producer.errors import BrokerNotFound, BrokerUnavailable, ClientClosed, InvalidRequest
from producer.fields import MAX_REQUEST_ID
from producer.publishing.batches import SubmittedBatch
from producer.schemas import Kind, StudentEnrollmentRequest, StudentRecord
from support.valkey import free_port

REQUEST = {"student_id": "S", "course_ids": ["C"]}


@pytest.fixture(scope="module")
def client() -> EnrollmentClient:
    """A client of a broker that is not there: a call that reaches it raises BrokerUnavailable."""
    return EnrollmentClient(f"redis://127.0.0.1:{free_port()}/0", timeout=1)


SINGLE = [
    REQUEST,
    StudentRecord(sis_id="S"),
    StudentEnrollmentRequest(student_id="S", course_ids=("C",)),
    "S",
    b"S",
    "",
]
TAKES_SEVERAL: dict[str, Callable[[EnrollmentClient, Any], Any]] = {
    "records": lambda client, value: client.submit_batch(Kind.ENROLLMENTS, value),
    "requests": lambda client, value: client.submit_all(value),
    "ids of requests": lambda client, value: client.statuses(value),
    "ids of batches": lambda client, value: client.batches(value),
    "ids of students": lambda client, value: client.students(value),
    "ids of results": lambda client, value: client.results_of(value),
}


@pytest.mark.parametrize("call", TAKES_SEVERAL)
@pytest.mark.parametrize("single", SINGLE, ids=repr)
def test_a_single_value_is_not_taken_for_several(
    client: EnrollmentClient, call: str, single: object
) -> None:
    with pytest.raises(InvalidRequest, match="put a single one into a list") as caught:
        TAKES_SEVERAL[call](client, single)
    assert caught.value.problems[0].field == call.partition(" ")[0]


@given(st.one_of(st.integers(), st.binary(), st.just(""), st.text(min_size=MAX_REQUEST_ID + 1)))
def test_an_invalid_batch_id_is_refused_with_or_without_a_lookup(batch_id: Any) -> None:
    with EnrollmentClient(f"redis://127.0.0.1:{free_port()}/0") as client:
        for resume in (True, False):
            with pytest.raises(InvalidRequest, match="batch_id: must"):
                client.submit_batch(Kind.ENROLLMENTS, [REQUEST], batch_id=batch_id, resume=resume)


@pytest.mark.parametrize("batch", [None, 5, "", b"b", ["b"], "b" * (MAX_REQUEST_ID + 1)])
def test_the_wait_for_an_invalid_batch_is_refused(client: EnrollmentClient, batch: Any) -> None:
    with pytest.raises(InvalidRequest, match="batch_id: must"):
        client.wait(batch)


@pytest.mark.parametrize("timeout", [None, "5", math.nan, [5]])
def test_a_timeout_that_is_not_a_number_is_refused(client: EnrollmentClient, timeout: Any) -> None:
    with pytest.raises(ValueError, match="number of seconds"):
        EnrollmentClient("redis://127.0.0.1:1/0", timeout=timeout)
    if timeout is not None:
        with pytest.raises(ValueError, match="number of seconds"):
            client.enroll(REQUEST, timeout=timeout)


@pytest.mark.parametrize("kind", ["enrolments", "", None, 1, [REQUEST]])
def test_an_invalid_kind_is_refused(client: EnrollmentClient, kind: Any) -> None:
    with pytest.raises(InvalidRequest, match="kind: must be students, courses or enrollments"):
        client.submit_batch(kind, [REQUEST])


@pytest.mark.parametrize("kind", ["enrollments", Kind.ENROLLMENTS])
@pytest.mark.parametrize("records", [[REQUEST], (REQUEST,), iter([REQUEST])], ids=type)
def test_valid_arguments_reach_the_broker(
    client: EnrollmentClient, kind: Any, records: Any
) -> None:
    with pytest.raises(BrokerUnavailable):
        client.submit_batch(kind, records)


VERBS: dict[str, tuple[Any, ...]] = {
    "submit": (REQUEST,),
    "submit_all": ([],),
    "enroll": (REQUEST,),
    "submit_batch": (Kind.COURSES, []),
    "submit_file": ("nowhere.csv",),
    "count_applied": (SubmittedBatch(batch_id="b", kind=Kind.COURSES),),
    "wait": ("b",),
    "status": ("r",),
    "statuses": ([],),
    "batch": ("b",),
    "batches": ([],),
    "recent_batches": (),
    "batch_page": (),
    "refusals": ("b",),
    "refusal_page": ("b",),
    "applied_chunks": ("b", []),
    "results": ("s",),
    "results_of": ([],),
    "student": ("s",),
    "students": ([],),
    "find_students": ("s",),
    "find_courses": ("c",),
    "history": ("s",),
    "roll": ("c",),
    "rolls": (["c"],),
    "enrolled_students": ("c",),
    "health": (),
    "plan": ("p",),
    "planned_drop_page": ("p",),
    "planned_drops": ("p",),
    "decide": ("p", "approve", "0" * 64),
    "undo": ("b",),
    "polling_problem": (),
    "__enter__": (),
}
ALLOWED_WHEN_CLOSED = {"close", "closed", "shown_url"}


def test_every_method_is_a_verb_that_a_closed_client_refuses() -> None:
    public = {name for name in dir(EnrollmentClient) if not name.startswith("_")}
    assert public == (VERBS.keys() - {"__enter__"}) | ALLOWED_WHEN_CLOSED


@pytest.mark.parametrize("verb", VERBS)
def test_a_closed_client_raises(verb: str) -> None:
    client = EnrollmentClient(f"redis://127.0.0.1:{free_port()}/0", timeout=1)
    client.close()
    client.close()
    with pytest.raises(ClientClosed, match="has been closed"):
        getattr(client, verb)(*VERBS[verb])


def test_an_iterator_that_is_left_when_the_client_is_closed_raises() -> None:
    client = EnrollmentClient(f"redis://127.0.0.1:{free_port()}/0", timeout=1)
    refusals = client.refusals("b")
    client.close()
    with pytest.raises(ClientClosed):
        next(refusals)


def test_a_client_shows_where_it_connects_and_no_password() -> None:
    url = "redis://user:s3cret@127.0.0.1:1/0"
    client = EnrollmentClient(url, key_prefix="test:", timeout=2.5)
    assert repr(client) == (
        "<EnrollmentClient redis://user:**@127.0.0.1:1/0 key_prefix='test:' timeout=2.5>"
    )
    client.close()
    assert repr(client).endswith(" closed>")


def test_a_call_is_logged_in_one_line_with_ids_and_without_records(
    client: EnrollmentClient, caplog: pytest.LogCaptureFixture
) -> None:
    request = {**REQUEST, "request_id": "my-request"}
    calls: dict[str, Callable[[], Any]] = {
        r"submit\(\): BrokerUnavailable": lambda: client.submit(request),
        r"statuses\('r' and 1 more\): BrokerUnavailable": lambda: client.statuses(["r", "q"]),
        r"statuses\('r'\): BrokerUnavailable": lambda: client.status("r"),
        r"submit_batch\(\): BrokerUnavailable": lambda: client.submit_batch(
            "students", [{"sis_id": "S", "name": "Ada Example"}]
        ),
        r"submit_all\(\): InvalidRequest": lambda: client.submit_all(["Ada Example"]),  # type: ignore[list-item]
    }
    for line, call in calls.items():
        caplog.clear()
        with (
            caplog.at_level(logging.DEBUG, "producer.client"),
            pytest.raises((BrokerUnavailable, InvalidRequest)),
        ):
            call()
        assert [record.name for record in caplog.records] == ["producer.client"]
        assert re.fullmatch(rf"{line} in [\d.]+ ms", caplog.messages[0])
        assert "Ada" not in caplog.text


@pytest.mark.parametrize("url", [None, b"redis://:s3cret@h/0", 6379, ["redis://:s3cret@h/0"]])
def test_a_url_that_is_not_text_is_refused_and_not_quoted(url: Any) -> None:
    with pytest.raises(ValueError, match=r"broker's URL.* must be a string") as caught:
        EnrollmentClient(url)
    assert "s3cret" not in str(caught.value)
    if url is not None:
        with pytest.raises(ValueError, match="result backend must be a string"):
            EnrollmentClient("redis://h/0", result_backend_url=url)
        with pytest.raises(ValueError, match="key prefix must be a string"):
            EnrollmentClient("redis://h/0", key_prefix=url)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No broker is named, and no `enroll up` runs."""
    for name in [name for name in os.environ if name.startswith("ENROLL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_without_a_url_the_client_uses_the_broker_of_the_environment(
    nowhere: pytest.MonkeyPatch,
) -> None:
    nowhere.setenv("ENROLL_BROKER_URL", "amqp://u:s3cret@broker/")
    nowhere.setenv("ENROLL_RESULT_BACKEND_URL", "redis://results/1")
    nowhere.setenv("ENROLL_KEY_PREFIX", "test:")
    found = EnrollmentClient()
    assert repr(found) == "<EnrollmentClient amqp://u:**@broker/ key_prefix='test:' timeout=10>"
    given = EnrollmentClient("redis://given/0")
    assert repr(given) == "<EnrollmentClient redis://given/0 timeout=10>"


def test_without_a_url_the_client_uses_the_stack_that_runs_in_a_folder_above(
    nowhere: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = StackState("redis://127.0.0.1:1/0", "p:")
    (tmp_path / "below").mkdir()
    nowhere.chdir(tmp_path / "below")
    nowhere.setenv("ENROLL_KEY_PREFIX", "of-another-broker:")
    with locked_folder(tmp_path / ".enroll", lambda _: None):
        write_state(tmp_path / ".enroll", state)
        assert "redis://127.0.0.1:1/0 key_prefix='p:'" in repr(EnrollmentClient())
        nowhere.chdir("/")
        nowhere.setenv("ENROLL_FOLDER", str(tmp_path))
        assert "redis://127.0.0.1:1/0 key_prefix='p:'" in repr(EnrollmentClient())
    with pytest.raises(BrokerNotFound, match="No `enroll up` is running in"):
        EnrollmentClient()


def test_without_any_broker_the_client_says_how_to_name_one(nowhere: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokerNotFound, match="pass it, or set ENROLL_BROKER_URL, or run"):
        EnrollmentClient()


IDS: list[Any] = [5, "", None, True, "a\0b", "x" * (MAX_REQUEST_ID + 1), b"b", ["b"]]
LIMITS: list[Any] = [0, -1, 1_001, True, "5", 1.5, None]


@pytest.mark.parametrize("identity", IDS, ids=repr)
def test_an_id_that_nothing_can_have_is_refused_before_a_worker_is_asked(
    client: EnrollmentClient, identity: Any
) -> None:
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("request_id", lambda: client.status(identity)),
        ("batch_id", lambda: client.batch(identity)),
        ("batch_id", lambda: list(client.refusals(identity))),
    ]
    for field, call in calls:
        with pytest.raises(InvalidRequest, match="must") as caught:
            call()
        assert caught.value.problems[0].field == field
    with pytest.raises(InvalidRequest, match=r"request_ids\[1\]: must"):
        client.statuses(["good", identity])


@pytest.mark.parametrize("student", [0, -1, 2**31, "", None, True, 1.0, "x" * 256], ids=repr)
def test_a_student_that_cannot_exist_is_refused(client: EnrollmentClient, student: Any) -> None:
    for call in (client.student, client.results):
        with pytest.raises(InvalidRequest, match=r"student: must be our key"):
            call(student)


@pytest.mark.parametrize("limit", LIMITS, ids=repr)
def test_a_limit_out_of_range_is_refused(client: EnrollmentClient, limit: Any) -> None:
    with pytest.raises(InvalidRequest, match="limit: must be an integer from 1 to 1000"):
        client.results("S", limit=limit)
    with pytest.raises(InvalidRequest, match="limit: must be an integer from 1 to 1000"):
        client.results_of(["S"], limit=limit)


@pytest.mark.parametrize("before", ["x", (1, "r"), ("yesterday", "r"), (None, None)], ids=repr)
def test_a_cursor_that_is_no_result_is_refused(client: EnrollmentClient, before: Any) -> None:
    with pytest.raises(InvalidRequest, match="before"):
        client.results("S", before=before)
