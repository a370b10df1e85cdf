"""What people see of refusals."""

import pytest
from rich.console import Console

from producer.commands.display import refusals
from producer.contract.batches import FIRST_LINES, RefusalGroup
from producer.schemas import Code


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
