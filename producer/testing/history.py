"""Read the history of a student and the roll of a course from memory."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from producer.contract.history import (
    Change,
    CourseRoll,
    CourseRolls,
    EnrolledStudent,
    HistoryCourse,
    HistoryEntry,
    StudentHistory,
    refused_lines,
)
from producer.fields import ROLLS_ROWS, is_line_request_id
from producer.schemas import Action, EnrollmentProblem, ResultStatus
from producer.testing.intervals import Interval
from producer.testing.reading import names_of_course, stored_results_of
from producer.testing.results import CourseResult, Result
from producer.testing.rulebook import Enrollments

_CHANGES = {Action.ENROLL: Change.ENROLLED, Action.DROP: Change.DROPPED}


class Page(NamedTuple):
    """Which part of a history is asked for."""

    limit: int
    before: datetime | None
    """Only older entries are returned."""


class RollMoment(NamedTuple):
    """The moment that a roll is about."""

    moment: datetime
    is_now: bool
    """True if no moment was given: then those who are enrolled are listed, whatever the clocks."""


def history(
    enrollments: Enrollments, student: int | str, course: int | str | None, page: Page
) -> StudentHistory:
    """Return what happened to a student's enrollments, or to that in one course.

    With `course`, only what was changed or superseded in that one. A page does not end between two
    entries of one moment: the next one could not begin there.
    """
    wanted = enrollments.courses.key_of(course)
    entries = [
        entry
        for result in stored_results_of(enrollments, student)
        for entry in _entries(enrollments, result)
        if course is None or _is_about(entry, wanted)
        if page.before is None or entry.moment < page.before
    ]
    entries.sort(key=_order, reverse=True)
    end = page.limit
    while end < len(entries) and entries[end].moment == entries[end - 1].moment:
        end += 1
    key = enrollments.students.key_of(student)
    given = student if isinstance(student, str) else None
    return StudentHistory(
        student_id=key,
        student_sis_id=given if key is None else enrollments.students.fields_of(key)["sis_id"],
        entries=tuple(entries[:end]),
        more=end < len(entries),
    )


def _entries(enrollments: Enrollments, result: Result) -> Iterator[HistoryEntry]:
    """Yield what a request changed, and what it was refused for or superseded in."""
    if result.status is ResultStatus.REJECTED:
        yield _rejection(result, result.errors)
        return
    for course in result.courses:
        if course.change.is_made or course.change.superseded_by is not None:
            yield _changed_course(enrollments, result, course)
    for problem in result.errors:
        yield _rejection(result, (problem,))


def _entry(result: Result, row: int, change: Change, **fields: Any) -> HistoryEntry:
    """Return an entry with these fields, and what all entries of a request have in common."""
    request = result.incoming.request
    return HistoryEntry(
        moment=result.moment,
        change=change,
        request_id=result.incoming.request_id,
        batch_id=result.batch_id,
        line=result.incoming.line_of_row(row),
        reason=request.reason if request else None,
        completed_at=result.completed_at,
        **fields,
    )


def _changed_course(enrollments: Enrollments, result: Result, course: CourseResult) -> HistoryEntry:
    superseded_by = course.change.superseded_by
    return _entry(
        result,
        course.row,
        _CHANGES[course.action] if superseded_by is None else Change.SUPERSEDED,
        action=course.action,
        course=HistoryCourse(**names_of_course(enrollments, course.key)._asdict()),
        superseded_by=superseded_by,
    )


def _rejection(result: Result, problems: tuple[EnrollmentProblem, ...]) -> HistoryEntry:
    """Return the entry of a refused course, or of a request that was refused as a whole.

    A stored result holds why it was refused, but not which other courses the request named.
    """
    named = problems[0].course_id if len(problems) == 1 else None
    course = HistoryCourse(
        id=named if isinstance(named, int) else None,
        sis_id=named if isinstance(named, str) else None,
    )
    entry = _entry(
        result, 0, Change.REJECTED, course=None if named is None else course, errors=problems
    )
    line = problems[0].line if problems else None
    # A worker knows the lines of requests without ids of their own.
    own = () if not is_line_request_id(result.incoming.request_id) else result.incoming.lines
    lines = refused_lines(problems, own)
    return entry.model_copy(update={"line": line or entry.line, "lines": lines})


def _order(entry: HistoryEntry) -> tuple[datetime, tuple[bool, str, int]]:
    """Return what entries are sorted by, the latest one first."""
    return entry.moment, entry.change.place(entry.request_id)


def _is_about(entry: HistoryEntry, course: int | None) -> bool:
    """Return whether an entry is about a change, or a superseded one, in a course that exists."""
    is_rejected = entry.change is Change.REJECTED
    return not is_rejected and entry.course is not None and entry.course.id == course


def roll(
    enrollments: Enrollments, course: int | str, at: RollMoment, limit: int, after: int
) -> CourseRoll | None:
    """Return who was enrolled in a course; None if there is no such course.

    The page begins with the student that comes after the key `after`.
    """
    key = enrollments.courses.key_of(course)
    if key is None:
        return None
    students = []
    for student, interval in enrollments.intervals.of_course(key):
        if student > after and _lasts(interval, at):
            fields = enrollments.students.fields_of(student)
            students.append(
                EnrolledStudent(
                    id=student,
                    sis_id=fields["sis_id"],
                    name=fields.get("name"),
                    enrolled_at=interval.enrolled_at,
                    ended_at=interval.ended_at,
                )
            )
    students.sort(key=lambda enrolled: enrolled.id)
    return CourseRoll(
        **names_of_course(enrollments, key)._asdict(),
        at=at.moment,
        students=tuple(students[:limit]),
        more=len(students) > limit,
    )


def rolls(
    enrollments: Enrollments, courses: Iterable[int | str], after: tuple[int, int] | None
) -> CourseRolls:
    """Return a part of who is enrolled in these courses; it begins after the keys of `after`."""
    pairs = sorted(pair for pair in enrollments.intervals.open if after is None or pair > after)
    part = pairs[:ROLLS_ROWS]
    wanted = {enrollments.courses.key_of(course) for course in courses}
    students: dict[str, tuple[str, ...]] = {}
    for student, course in part:
        if course in wanted:
            sis_id = names_of_course(enrollments, course).sis_id
            enrolled = enrollments.students.fields_of(student)["sis_id"]
            students[sis_id] = (*students.get(sis_id, ()), enrolled)
    return CourseRolls(students=students, next=part[-1] if len(part) < len(pairs) else None)


def _lasts(interval: Interval, at: RollMoment) -> bool:
    if at.is_now:
        return interval.ended_at is None
    is_over = interval.ended_at is not None and interval.ended_at <= at.moment
    return interval.enrolled_at <= at.moment and not is_over
