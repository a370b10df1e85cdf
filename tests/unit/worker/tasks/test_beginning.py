"""The start of a group of requests is recorded once, also if the database lets none begin."""

import pytest
from sqlalchemy.exc import OperationalError

from worker.enrollment.rules import Decisions
from worker.tasks.beginning import BeginningOnce, FailedBefore

NO_DECISIONS = Decisions([], {}, {})


def beginning(calls: list[str], attempts: int = 0) -> BeginningOnce:
    def begin() -> tuple[int, str | None]:
        calls.append("begin")
        return attempts, "a generation"

    return BeginningOnce(begin)


def outage() -> Decisions:
    raise OperationalError("BEGIN", None, ConnectionError())


def test_a_start_is_recorded_once_however_often_the_transaction_runs() -> None:
    calls: list[str] = []
    begin = beginning(calls)
    begin()
    begin()
    assert begin.in_any_case(lambda: NO_DECISIONS) is NO_DECISIONS
    assert calls == ["begin"]
    assert begin.generation == "a generation"


def test_a_request_that_failed_too_often_does_not_begin() -> None:
    begin = beginning([], attempts=1)
    for _ in range(2):
        with pytest.raises(FailedBefore):
            begin()


def test_a_start_is_recorded_although_the_database_is_unavailable() -> None:
    calls: list[str] = []
    begin = beginning(calls)
    for _ in range(2):
        with pytest.raises(OperationalError):
            begin.in_any_case(outage)
    assert calls == ["begin"]
