"""Arguments of a wrong type are refused before anything is published or asked."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.client import EnrollmentClient
from producer.errors import BrokerUnavailable, InvalidRequest
from producer.schemas import MAX_REQUEST_ID, Kind, StudentEnrollmentRequest, StudentRecord
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


IDS: list[Any] = [5, "", None, True, "a\0b", "x" * (MAX_REQUEST_ID + 1), b"b", ["b"]]
LIMITS: list[Any] = [0, -1, 1_001, True, "5", 1.5, None]


@pytest.mark.parametrize("identity", IDS, ids=repr)
def test_an_id_that_nothing_can_have_is_refused_before_a_worker_is_asked(
    client: EnrollmentClient, identity: Any
) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "request_ids": lambda: client.status(identity),
        "batch_ids": lambda: client.batch(identity),
        "batch_id": lambda: list(client.refusals(identity)),
    }
    for field, call in calls.items():
        if identity is None and field == "batch_id":
            continue
        with pytest.raises(InvalidRequest, match="must") as caught:
            call()
        assert str(caught.value.problems[0].field).startswith(field)
    with pytest.raises(InvalidRequest, match=r"request_ids\[1\]: must"):
        client.statuses(["good", identity])


@pytest.mark.parametrize("student", [0, -1, 2**31, "", None, True, 1.0, "x" * 256], ids=repr)
def test_a_student_that_cannot_exist_is_refused(client: EnrollmentClient, student: Any) -> None:
    for call in (client.student, client.results):
        with pytest.raises(InvalidRequest, match=r"students\[0\]: must be our key"):
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
