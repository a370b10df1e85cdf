"""What people see of histories and rolls."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from producer.commands.history_display import history, roll
from producer.contract.history import (
    Change,
    CourseRoll,
    EnrolledStudent,
    HistoryCourse,
    HistoryEntry,
    StudentHistory,
)
from producer.schemas import Action, Code, EnrollmentProblem

MOMENT = datetime(2026, 9, 1, 8, tzinfo=UTC)
ALGEBRA = HistoryCourse(id=1, sis_id="ALG-1", title="Algebra")
SUPERSEDED = {"change": Change.SUPERSEDED, "action": Action.DROP}


def lines(layout: RenderableType) -> list[str]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(layout)
    return [line.rstrip() for line in capture.get().splitlines()]


def row_of(**fields: Any) -> str:
    """Return what stands behind the moment of an entry."""
    given = {"moment": MOMENT, "change": Change.ENROLLED, "course": ALGEBRA, **fields}
    data = StudentHistory(student_id=1, student_sis_id="S1", entries=(HistoryEntry(**given),))
    head, columns, row = lines(history(data))
    assert head == "Student S1 (key 1)"
    assert columns.split() == ["moment", "change", "course", "request", "reason"]
    assert row.startswith("2026-09-01 08:00:00 UTC  ")
    return " ".join(row.split()[3:])


def refused(code: Code, message: str) -> EnrollmentProblem:
    return EnrollmentProblem(code=code, message=message)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, "enrolled ALG-1"),  # The result was pruned.
        ({"request_id": "r-1"}, "enrolled ALG-1 r-1"),
        ({"request_id": "b:0:0", "batch_id": "b", "line": 7}, "enrolled ALG-1 b, line 7"),
        ({"batch_id": "b", "line": 7, "lines": (7, 9)}, "enrolled ALG-1 b, lines 7, 9"),
        (
            {"batch_id": "b", "line": 1, "lines": tuple(range(1, 9))},
            "enrolled ALG-1 b, lines 1, 2, 3, 4, 5, …",
        ),
        ({"request_id": "b:0:0", "batch_id": "b"}, "enrolled ALG-1 b"),
        ({"course": HistoryCourse(id=9, sis_id=None)}, "enrolled key 9"),
        ({"change": Change.DROPPED, "reason": "moved"}, "dropped ALG-1 moved"),
        (
            SUPERSEDED | {"superseded_by": MOMENT + timedelta(seconds=1)},
            "superseded ALG-1 to drop: a request of 2026-09-01 08:00:01 UTC won",
        ),
        (
            SUPERSEDED | {"superseded_by": MOMENT + timedelta(microseconds=1)},
            "superseded ALG-1 to drop: a later request of the same second won",
        ),
        (
            SUPERSEDED | {"superseded_by": MOMENT},
            "superseded ALG-1 to drop: a request to enroll at the same moment won",
        ),
        (
            {
                "change": Change.REJECTED,
                "course": None,
                "reason": "late",
                "errors": (
                    refused(Code.UNKNOWN_STUDENT, "no such student"),
                    refused(Code.UNKNOWN_COURSE, "no such course"),
                ),
            },
            "rejected late; unknown_student: no such student; unknown_course: no such course",
        ),
    ],
)
def test_an_entry_says_what_happened_where_it_came_from_and_why(
    fields: dict[str, Any], shown: str
) -> None:
    assert row_of(**fields) == shown


def test_a_student_without_a_history_has_a_sentence() -> None:
    unknown = StudentHistory(student_id=None, student_sis_id="S9")
    assert lines(history(unknown)) == [
        "Student S9",
        "No stored enrollment or request matches.",
    ]


def test_further_pages_have_no_headings() -> None:
    entry = HistoryEntry(moment=MOMENT, change=Change.ENROLLED, course=ALGEBRA)
    page = StudentHistory(student_id=1, student_sis_id="S1", entries=(entry,))
    assert lines(history(page, headings=False)) == ["2026-09-01 08:00:00 UTC  enrolled  ALG-1"]
    student = EnrolledStudent(id=7, sis_id="S7", name=None, enrolled_at=MOMENT)
    course = CourseRoll(id=1, sis_id="ALG-1", title=None, at=MOMENT, students=(student,))
    assert lines(roll(course, headings=False)) == ["S7  7    2026-09-01 08:00:00 UTC"]
    assert len(lines(roll(course))) == 3


def test_only_a_roll_of_a_moment_says_when_enrollments_ended() -> None:
    student = EnrolledStudent(id=7, sis_id="S7", name="Eva", enrolled_at=MOMENT, ended_at=MOMENT)
    page = CourseRoll(id=1, sis_id="ALG-1", title="Algebra", at=MOMENT, students=(student,))
    head, columns, row = lines(roll(page, ended=True))
    assert head == "Course ALG-1 (key 1) Algebra, 2026-09-01 08:00:00 UTC"
    assert columns.split() == ["student", "key", "name", "enrolled", "ended"]
    assert row == "S7         7  Eva   2026-09-01 08:00:00 UTC  2026-09-01 08:00:00 UTC"
    assert "ended" not in lines(roll(page))[1]
    nobody = page.model_copy(update={"students": ()})
    assert lines(roll(nobody))[1:] == ["No student is enrolled."]
    assert lines(roll(nobody, ended=True))[1:] == ["No student was enrolled."]
