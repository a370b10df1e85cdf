"""An invalid argument of a lookup is explained by the rule of the contract, with its value."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from producer.contract.lookup_arguments import (
    CURSOR,
    ID,
    ID_OR_NONE,
    IDS,
    LIMIT,
    MOMENT,
    NUMBER,
    NUMBERS,
    SEARCH,
    TEXTS,
    InvalidArgument,
    checked,
    checked_decision,
)
from producer.fields import MAX_KEY

OUR_KEY = (
    f"must be our key (an integer from 1 to {MAX_KEY}) or the SIS id (a string of 1 to 255"
    " characters)"
)
IN_TIME = "must be a time with its time zone, for example 2026-09-01T08:00:00Z"
A_RESULT = "must be the completed_at and the request_id of a result"
A_WORD = "must be a text of 1 to 255 characters"
A_LIST = "must be a list of at most 1000"

INVALID: list[tuple[TypeAdapter[Any], str, Any, str]] = [
    (ID, "student", ["S1"], f'student: {OUR_KEY}, not ["S1"]'),
    (ID, "student", None, f"student: {OUR_KEY}, not null"),
    (ID, "course", "", f'course: {OUR_KEY}, not ""'),
    (ID, "course", "a\0", "course: must not contain the character NUL"),
    (ID_OR_NONE, "course", 0, f"course: {OUR_KEY}, not 0"),
    (IDS, "students", "S1", f'students: {A_LIST}, not "S1"'),
    (IDS, "students", ["S1", True], f"students[1]: {OUR_KEY}, not true"),
    (IDS, "students", ["S"] * 1001, f"students: {A_LIST}, not a list of 1001"),
    (TEXTS, "request_ids", [7], "request_ids[0]: must be a string of 1 to 128 characters, not 7"),
    (TEXTS, "batch_ids", {}, f"batch_ids: {A_LIST}, not {{}}"),
    (LIMIT, "limit", 1001, "limit: must be an integer from 1 to 1000, not 1001"),
    (LIMIT, "limit", "5", 'limit: must be an integer from 1 to 1000, not "5"'),
    (MOMENT, "before", "today", f"before: {IN_TIME}, not 'today'"),
    (MOMENT, "at", "2026-09-01T08:00:00", f"at: {IN_TIME}, not '2026-09-01T08:00:00'"),
    (MOMENT, "at", [1], f"at: {IN_TIME}"),
    (CURSOR, "before", "x", f'before: {A_RESULT}, not "x"'),
    (CURSOR, "before", ["today", "id"], f'before: {A_RESULT}, not ["today", "id"]'),
    (SEARCH, "text", " \x1c\x1f ", f'text: {A_WORD}, not " \\u001c\\u001f "'),
    (SEARCH, "text", "\x1c\u3000\x1d", f'text: {A_WORD}, not "\\u001c\\u3000\\u001d"'),
    (SEARCH, "text", "a\0", "text: must not contain the character NUL"),
    (NUMBER, "after", "S1", f'after: must be an integer from 0 to {MAX_KEY}, not "S1"'),
    (NUMBER, "line", -1, f"line: must be an integer from 0 to {MAX_KEY}, not -1"),
    (NUMBERS, "numbers", [0, -1], f"numbers[1]: must be an integer from 0 to {2**63 - 1}, not -1"),
]


@pytest.mark.parametrize(("adapter", "name", "value", "message"), INVALID)
def test_an_invalid_argument_is_explained(
    adapter: TypeAdapter[Any], name: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked(adapter, value, name)
    assert str(caught.value) == message


def test_valid_arguments_are_read() -> None:
    assert checked(ID, "S1", "student") == "S1"
    assert checked(ID_OR_NONE, None, "course") is None
    assert checked(IDS, ["S1", 4711], "students") == ["S1", 4711]
    assert checked(MOMENT, None, "at") is None
    assert checked(SEARCH, "\x1f ada\x1clovelace\n", "text") == "ada\x1clovelace"


A_DIGEST = "must be the digest of the report: 64 hexadecimal digits, in lower case"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"digest": "x"}, f'digest: {A_DIGEST}, not "x"'),
        ({"plan_id": 5}, "plan_id: must be a string of 1 to 128 characters, not 5"),
        (
            {"decision": "yes", "digest": None},
            f'decision: must be approve or discard, not "yes"; digest: {A_DIGEST}, not null',
        ),
        ({"reason": "why"}, "reason: is not a known field; correct its name, or remove it"),
    ],
)
def test_each_wrong_field_of_a_decision_is_named(wrong: dict[str, Any], message: str) -> None:
    right = {"plan_id": "p", "decision": "approve", "digest": "0" * 64}
    assert checked_decision(right).plan_id == "p"
    with pytest.raises(InvalidArgument) as raised:
        checked_decision({**right, **wrong})
    assert str(raised.value) == message


def test_a_decision_is_an_object() -> None:
    with pytest.raises(InvalidArgument, match="must be a JSON object, not"):
        checked_decision("approve")
