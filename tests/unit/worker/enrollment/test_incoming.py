"""Requests are read as they came, with an id, even if they break the contract."""

import pytest

from worker.enrollment.incoming import read_request


def test_a_request_without_an_id_gets_the_id_of_its_task() -> None:
    record = {"student_id": "A", "course_ids": ["M1"]}
    assert read_request("t" * 200, [record], {}).request_id == "t" * 128
    assert read_request("task", [{**record, "request_id": "own"}], {}).request_id == "own"


@pytest.mark.parametrize(("own", "expected"), [("own", "own"), ("", "task"), (7, "task")])
def test_a_record_that_breaks_the_contract_keeps_its_id_if_that_is_valid(
    own: object, expected: str
) -> None:
    read = read_request("task", [{"student_id": None, "request_id": own}], {})
    assert (read.request_id, read.request) == (expected, None)
    assert read.problems


def test_a_call_that_is_not_one_record_is_stored_whole_and_refused() -> None:
    read = read_request("task", [1, 2], {"three": 3})
    assert read.record == {"args": [1, 2], "kwargs": {"three": 3}}
    assert read.problems
