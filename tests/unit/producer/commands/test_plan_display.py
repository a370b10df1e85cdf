"""The report of a plan as people read it, and its exit code."""

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from producer.commands.plan import exit_code
from producer.commands.plan_display import SHOWN_COURSES, meant, plan
from producer.contract.batches import BatchState, BatchStatus, Books
from producer.contract.plans import (
    AbsentRows,
    CourseDrops,
    HoldReason,
    PlannedBatch,
    PlanState,
    PlanStatus,
    Reason,
)
from producer.schemas import Kind
from support.commands import GOOD, HELD, REFUSED

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)


def status(state: PlanState = PlanState.HELD, **fields: Any) -> PlanStatus:
    books = Books(received=12, enrolled=2, already_enrolled=9, rejected=1)
    batch = PlannedBatch(batch_id="night", kind=Kind.ENROLLMENTS, books=books)
    course = CourseDrops(course_id=1, sis_id="LOGIC-1", title="Logic", owned=30, drops=24)
    reason = Reason(code=HoldReason.MANY_DROPS, message="24 of 40 enrollments would be dropped.")
    given: dict[str, Any] = {
        "snapshot": True,
        "data_set": "sis:fall",
        "reasons": (reason,),
        "batches": (batch,),
        "owned_before": 40,
        "absent": AbsentRows(absent=26, dropped=24, kept_newer=2),
        "courses": (course,),
        "planned_at": NOON,
    }
    return PlanStatus(plan_id="night", state=state, **{**given, **fields})


def shown(given: PlanStatus) -> str:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(plan(given))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def test_the_report_of_a_held_plan_says_what_why_and_what_to_do() -> None:
    assert shown(status()).splitlines() == [
        "Plan night (snapshot of sis:fall): held",
        "The report was true at 2026-09-01 12:00:00 UTC.",
        "",
        "What the enrollments of batch night would do",
        "                  rows",
        "received            12",
        "enrolled             2",
        "already enrolled     9",
        "rejected             1",
        "",
        "Of 40 enrollments of the data set, 26 are not in the snapshot",
        "dropped                                   24",
        "kept, because a newer request names them   2",
        "",
        "Drops by course",
        "course   title  students",
        "LOGIC-1  Logic  24 of 30",
        "",
        "Why it waits for a decision",
        "  many_drops: 24 of 40 enrollments would be dropped.",
        "  enroll plan --csv drops.csv night   writes every planned drop to a file",
        "  enroll approve night   applies it (for an operator)",
        "  enroll discard night   discards it (for an operator)",
    ]


def test_what_was_done_differently_is_shown_in_the_end() -> None:
    applied = AbsentRows(absent=26, dropped=23, kept_newer=3)
    text = shown(status(PlanState.DONE, applied=applied, differences=("1 drop was superseded.",)))
    assert "What the enrollments of batch night did" in text
    assert "dropped                                   23" in text
    assert "Different from the plan: 1 drop was superseded." in text
    assert "enroll approve" not in text


def test_a_dry_run_says_why_a_real_run_would_be_held() -> None:
    text = shown(status(PlanState.PLANNED))
    assert "Why it would wait for a decision\n  many_drops: 24 of 40 enrollments" in text
    assert "enroll approve" not in text


def test_a_long_list_of_courses_is_cut() -> None:
    (course,) = status().courses
    many = tuple(course.model_copy(update={"course_id": n}) for n in range(SHOWN_COURSES + 2))
    assert "and 2 more courses" in shown(status(courses=many))


def test_an_unknown_plan_is_named() -> None:
    unknown = PlanStatus(plan_id="x", state=PlanState.UNKNOWN)
    assert shown(unknown) == (
        "No plan with the id x is known. Check the id; for a package, it is that of its last batch,"
        " such as x:enrollments."
    )


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (status(PlanState.HELD), HELD),
        (status(PlanState.PLANNED), REFUSED),
        (status(PlanState.PLANNED, batches=()), GOOD),
        (status(PlanState.DONE, batches=()), GOOD),
        (status(PlanState.APPLYING, batches=()), GOOD),
        (status(PlanState.DISCARDED, batches=()), REFUSED),
        (PlanStatus(plan_id="x", state=PlanState.UNKNOWN), REFUSED),
    ],
)
def test_the_exit_code_says_whether_a_decision_is_needed(given: PlanStatus, code: int) -> None:
    assert exit_code(given) == code


def test_a_finished_plan_shows_what_was_dropped_and_by_what_it_was_undone() -> None:
    course = CourseDrops(
        course_id=1, sis_id="LOGIC-1", title="Logic", owned=30, drops=24, dropped=23
    )
    undo = {"undone_by": "undo:night", "undone_at": NOON}
    lines = shown(status(PlanState.DONE, courses=(course,), **undo)).splitlines()
    assert "LOGIC-1  Logic  23 of 30 (24 were planned)" in lines
    assert "Undone by: undo:night (2026-09-01 12:00:00 UTC)" in lines


def test_a_batch_of_which_nothing_arrived_is_not_called_applied() -> None:
    lost = BatchStatus(batch_id="night", state=BatchState.STALLED, chunks=7, chunks_missing=7)
    assert "none of its chunks has arrived" in str(meant("night", [lost]))
    begun = BatchStatus(batch_id="night", state=BatchState.RUNNING, chunks=7, chunks_applied=1)
    assert "was applied without a plan" in str(meant("night", [begun]))
    planned = BatchStatus(batch_id="night", state=BatchState.HELD, plan_id="last")
    assert "`enroll plan last`" in str(meant("night", [planned, lost]))
    assert meant("night", []) is None
