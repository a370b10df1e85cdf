"""The arguments of histories and rolls are checked before a worker is asked."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.errors import InvalidRequest
from producer.publishing.arguments import history_options, roll_options
from support.valkey import free_port

NOT_IDS = [0, -1, 2**31, "", True, 1.0, "x" * 256]
NOT_MOMENTS = [
    "yesterday",
    "2026-09-01",
    "2026-09-01T08:00:00",
    datetime.fromisoformat("2026-09-01"),
    1_788_000_000,
]


@pytest.fixture(scope="module")
def client() -> EnrollmentClient:
    """A client of a broker that is not there: a call that reaches it raises BrokerUnavailable."""
    return EnrollmentClient(f"redis://127.0.0.1:{free_port()}/0", timeout=1)


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "student": lambda client, value: client.history(value),
    "course": lambda client, value: client.history("S", value),
    "course of a roll": lambda client, value: client.roll(value),
    "course of students": lambda client, value: client.enrolled_students(value),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("identifier", NOT_IDS, ids=repr)
def test_an_id_that_nothing_can_have_is_refused(
    client: EnrollmentClient, call: str, identifier: Any
) -> None:
    name = call.partition(" ")[0]
    with pytest.raises(
        InvalidRequest, match=rf"{name}: must be our key .* or the SIS id"
    ) as caught:
        CALLS[call](client, identifier)
    assert [problem.field for problem in caught.value.problems] == [name]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda client: client.status(7), "request_id"),
        (lambda client: client.batch(7), "batch_id"),
        (lambda client: client.student(7.0), "student"),
        (lambda client: client.results(7.0), "student"),
        (lambda client: client.students([7, 7.0]), "students[1]"),
    ],
)
def test_a_mistake_is_named_as_the_caller_has_written_it(
    client: EnrollmentClient, call: Callable[[Any], Any], name: str
) -> None:
    """A caller that asks about one id has written no list."""
    with pytest.raises(InvalidRequest) as caught:
        call(client)
    assert [problem.field for problem in caught.value.problems] == [name]


@pytest.mark.parametrize("moment", NOT_MOMENTS, ids=repr)
def test_a_moment_without_a_zone_is_refused(client: EnrollmentClient, moment: Any) -> None:
    expected = "must be a time with its time zone, for example 2026-09-01T08:00:00Z"
    with pytest.raises(InvalidRequest, match=f"before: {expected}"):
        client.history("S", before=moment)
    for call in (client.roll, client.enrolled_students):
        with pytest.raises(InvalidRequest, match=f"at: {expected}"):
            call("C", moment)


@pytest.mark.parametrize("limit", [0, -1, 1_001, True, "5", None], ids=repr)
def test_a_limit_out_of_range_is_refused(client: EnrollmentClient, limit: Any) -> None:
    for call in (client.history, client.roll):
        with pytest.raises(InvalidRequest, match="limit: must be an integer from 1 to 1000"):
            call("S", limit=limit)


@pytest.mark.parametrize("after", [-1, 2**31, "S1", None], ids=repr)
def test_a_page_begins_after_a_key(client: EnrollmentClient, after: Any) -> None:
    with pytest.raises(InvalidRequest, match="after: must be an integer from 0 to 2147483647"):
        client.roll("C", after=after)


@pytest.mark.parametrize("decision", [b"approve", bytearray(b"discard"), True, "yes"], ids=repr)
def test_a_decision_is_refused_before_it_is_sent_if_it_is_no_text(
    client: EnrollmentClient, decision: Any
) -> None:
    with pytest.raises(InvalidRequest, match="decision: must be approve or discard"):
        client.decide("p", decision, "0" * 64)


def test_the_asynchronous_client_refuses_the_same_before_anything_is_awaited() -> None:
    client = AsyncEnrollmentClient(f"redis://127.0.0.1:{free_port()}/0", timeout=1)
    with pytest.raises(InvalidRequest, match="at: must be a time with its time zone"):
        client.enrolled_students("C", "noon")


def test_moments_are_sent_in_utc() -> None:
    noon = datetime(2026, 9, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert history_options("S", None, 5, noon) == {
        "course": None,
        "limit": 5,
        "before": "2026-09-01T10:00:00.000000Z",
    }
    assert roll_options(7, "2026-09-01 10:00:00.5+00:00", 5, 3) == {
        "at": "2026-09-01T10:00:00.500000Z",
        "limit": 5,
        "after": 3,
    }
    assert "before" not in history_options("S", 1, 5, None)
    assert "at" not in roll_options("C", None, 5, 0)
