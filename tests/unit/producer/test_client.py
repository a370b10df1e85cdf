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
