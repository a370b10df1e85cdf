"""The form that a message must have, and the reasons for which it is rejected."""

import json
from typing import Any

import pytest

from producer.contract.headers import UNKNOWN_ORIGIN
from producer.contract.routing import TaskName
from producer.fields import MAX_CHUNK_BYTES, MAX_MESSAGE
from support.malformed import GOOD_REQUEST, message, shapes
from worker.messaging.envelope import MalformedMessage, check_body, parse_call

TASKS = [name.value for name in TaskName]


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_a_good_message_is_read() -> None:
    call = parse_call(as_bytes(message(headers__id="a-1")), TASKS)
    assert call == (TaskName.ENROLL, "a-1", [GOOD_REQUEST], {}, UNKNOWN_ORIGIN)


@pytest.mark.parametrize("raw", shapes().values(), ids=shapes())
def test_a_malformed_message_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_call(raw, TASKS)
    problem = str(caught.value)
    assert 0 < len(problem) < 400
    assert problem.isprintable()


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (message(headers__eta="2099-01-01"), "headers.eta"),
        (message(headers__id=5), "headers.id"),
        (message(headers__task="os.system"), "there is no task 'os.system'"),
        (message(**{"content-type": "application/x-python-serialize"}), "application/json"),
        (message([[GOOD_REQUEST], {}, {"chain": [1]}]), "asks for 'chain'"),
        (message(headers__expires="2099-01-01T00:00:00+00:00"), "may expire"),
    ],
)
def test_the_reason_names_the_faulty_part(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(MalformedMessage, match=problem):
        parse_call(as_bytes(changed), TASKS)


@pytest.mark.parametrize(
    "changed",
    [
        message(properties={"body_encoding": "base64"}),  # A client that only knows LPUSH.
        message(properties=...) | {"body": json.dumps([[GOOD_REQUEST], {}, {}])},
        message(**{"content-encoding": ...}),
        message(headers__expires="2099-01-01T00:00:00Z", headers__task=TaskName.STATUS),
        message([[GOOD_REQUEST], {}, {"callbacks": None, "chain": None, "chord": None}]),
        message([[GOOD_REQUEST], {}, None]),
        message(headers__timelimit=[None, None], headers__stamps={}, headers__retries=0),
    ],
)
def test_optional_parts_may_be_missing_or_empty(changed: dict[str, Any]) -> None:
    assert parse_call(as_bytes(changed), TASKS).args == [GOOD_REQUEST]


def test_the_largest_chunk_of_a_client_is_accepted() -> None:
    text = '"' * MAX_CHUNK_BYTES  # Each needs a backslash within the message's own JSON.
    raw = as_bytes(message([[text], {}, {}], headers__task=TaskName.ENROLL_BATCH))
    assert len(raw) < MAX_MESSAGE
    assert parse_call(raw, TASKS).args == [text]


@pytest.mark.parametrize(("levels", "is_accepted"), [(190, True), (250, False), (5_000, False)])
def test_a_body_may_be_nested_only_so_deeply_that_it_can_be_written_again(
    levels: int, is_accepted: bool
) -> None:
    record: Any = "x"
    for _ in range(levels):
        record = [record]
    if is_accepted:
        check_body([[{"student_id": record}], {}, {}])
        return
    with pytest.raises(MalformedMessage, match="more than 200 levels deep"):
        check_body([[{"student_id": record}], {}, {}])
