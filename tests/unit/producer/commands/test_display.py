"""What people see of refusals and results."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from producer.commands.counts import applied_counts
from producer.commands.display import batch, refusals, response
from producer.commands.following import summary
from producer.contract.batches import FIRST_LINES, BatchState, BatchStatus, Books, RefusalGroup
from producer.schemas import (
    Action,
    Code,
    DroppedCourse,
    EnrolledCourse,
    Kind,
    ResultStatus,
    StudentEnrollmentResponse,
    SupersededCourse,
)


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


def shown_text(renderable: RenderableType) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_result_says_what_became_of_each_course() -> None:
    moment = datetime(2026, 9, 2, 8, tzinfo=UTC)
    result = StudentEnrollmentResponse(
        request_id="r",
        student_id="S",
        status=ResultStatus.CHANGED,
        completed_at=moment,
        reason="moved\x1b",
        enrolled_courses=(EnrolledCourse(id=1, sis_id="A", title="Algebra", added=True),),
        dropped_courses=(
            DroppedCourse(id=2, sis_id="B", title=None, removed=True),
            DroppedCourse(id=3, sis_id="C", title=None, removed=False),
        ),
        superseded_courses=(
            SupersededCourse(id=4, sis_id="D", title=None, action=Action.ENROLL, moment=moment),
            SupersededCourse(id=5, sis_id="E", title=None, action=Action.DROP, moment=moment),
        ),
    )
    head, *lines = shown_text(response(result)).splitlines()
    assert head.endswith(": changed")
    assert [" ".join(line.split()) for line in lines] == [
        r"reason: moved\x1b",
        "course title",
        "A Algebra enrolled",
        "B dropped",
        "C was not enrolled",
        "D superseded: dropped by a request that counts from 2026-09-02 08:00:00 UTC",
        "E superseded: enrolled by a request that counts from 2026-09-02 08:00:00 UTC",
    ]


NAMES = {
    "enrolled": "enrolled",
    "already_enrolled": "already enrolled",
    "dropped": "dropped",
    "not_enrolled": "not enrolled",
    "superseded": "superseded",
    "rejected": "rejected",
}


@given(st.fixed_dictionaries({name: st.sampled_from([0, 0, 7]) for name in NAMES}))
def test_the_counts_of_a_batch_add_up_and_name_drops_only_if_there_are_any(
    counts: dict[str, int],
) -> None:
    books = Books(received=sum(counts.values()), **counts)
    status = BatchStatus(batch_id="b", state=BatchState.DONE, kind=Kind.ENROLLMENTS, books=books)
    named = dict(applied_counts(status))
    assert sum(named.values()) == books.received
    shown = {name for name, words in NAMES.items() if words in named}
    drops, enrolls = {"dropped", "not_enrolled"}, {"enrolled", "already_enrolled"}
    has_drops = any(counts[name] for name in drops)
    has_enrolls = any(counts[name] for name in enrolls)
    assert shown == {
        "rejected",
        *(drops if has_drops else ()),
        *(enrolls if has_enrolls or not has_drops else ()),
        *(["superseded"] if counts["superseded"] else ()),
    }
    table = shown_text(batch(status))
    assert all(f"{words}  " in table for words in named)
    assert all(f"{count} {words}" in summary(status) for words, count in named.items())
