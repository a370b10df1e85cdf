"""What people see of refusals and results."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from producer.commands.display import refusals, response
from producer.contract.batches import FIRST_LINES, RefusalGroup
from producer.schemas import Code, ResultStatus, StudentEnrollmentResponse


@pytest.mark.parametrize(
    ("lines", "count", "shown"),
    [
        (2, 2, "1, 2 "),
        (2, 3, "1, 2 "),  # One of the lines has two mistakes.
        (FIRST_LINES, FIRST_LINES, "4, 5 "),
        (FIRST_LINES, FIRST_LINES + 1, "4, 5, …"),
    ],
)
def test_more_lines_are_only_hinted_at_where_there_may_be_more(
    lines: int, count: int, shown: str
) -> None:
    group = RefusalGroup(
        code=Code.INVALID_REQUEST,
        message="",
        count=count,
        first_lines=tuple(range(1, lines + 1)),
        example="name: is too long",
    )
    console = Console(width=120)
    with console.capture() as capture:
        console.print(refusals([group]))
    assert shown in capture.get()
    assert ("…" in capture.get()) is ("…" in shown)


@pytest.mark.parametrize(
    ("minutes", "shown"),
    [(0, "10:00:00 UTC: "), (-90, "10:00:00 UTC (counts from 2026-09-01 08:30:00 UTC): ")],
)
def test_a_result_says_when_it_counts_if_that_is_another_time(minutes: int, shown: str) -> None:
    decided = datetime(2026, 9, 1, 10, tzinfo=UTC)
    result = StudentEnrollmentResponse(
        request_id="r",
        student_id="S",
        status=ResultStatus.ENROLLED,
        completed_at=decided,
        moment=decided + timedelta(minutes=minutes),
    )
    console = Console(width=120)
    with console.capture() as capture:
        console.print(response(result))
    assert shown in capture.get()
