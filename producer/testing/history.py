"""Read the history of a student and the roll of a course from memory."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from producer.contract.history import (
    Change,
    CourseRoll,
    EnrolledStudent,
    HistoryCourse,
    HistoryEntry,
    StudentHistory,
)
from producer.schemas import Action, EnrollmentProblem, ResultStatus
from producer.testing.reading import names_of_course, stored_results_of
from producer.testing.results import CourseResult, NamedCourse, Result
from producer.testing.rulebook import Enrollments

_RANKS = {Change.REJECTED: 0, Change.SUPERSEDED: 1, Change.DROPPED: 2, Change.ENROLLED: 3}
"""The order of entries of one moment: *enrolled* wins, so it comes last."""

_CHANGES = {Action.ENROLL: Change.ENROLLED, Action.DROP: Change.DROPPED}


class Page(NamedTuple):
    """Which part of a history is asked for."""

    limit: int
    before: datetime | None
    """Only older entries are returned."""


def history(
    enrollments: Enrollments, student: int | str, course: int | str | None, page: Page
) -> StudentHistory:
    """Return what happened to a student's enrollments, or to that in one course.

    A page does not end between two entries of one moment: the next one could not begin there.
    """
    entries = [
        entry
        for result in stored_results_of(enrollments, student)
        for entry in _entries(enrollments, result)
        if course is None or _is_about(enrollments, entry, course)
        if page.before is None or entry.moment < page.before
    ]
    entries.sort(key=lambda entry: (entry.moment, _RANKS[entry.change]), reverse=True)
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
        yield _rejected_request(enrollments, result)
        return
    for course in result.courses:
        if course.change.is_made or course.change.superseded_by is not None:
            yield _changed_course(enrollments, result, course)
    named = {course.identifier: course for course in result.incoming.courses()}
    for problem in result.errors:
        if problem.course_id is not None:
            yield _rejected_course(enrollments, result, named[problem.course_id], problem)


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
        course=_course(enrollments, course.key),
        superseded_by=superseded_by,
    )


def _rejected_course(
    enrollments: Enrollments, result: Result, course: NamedCourse, problem: EnrollmentProblem
) -> HistoryEntry:
    return _entry(
        result,
        course.row,
        Change.REJECTED,
        action=course.action,
        course=_course(enrollments, course.identifier),
        errors=(problem,),
    )


def _rejected_request(enrollments: Enrollments, result: Result) -> HistoryEntry:
    """Return the entry of a request that was refused as a whole; it may name one course."""
    named = list(result.incoming.courses())
    actions = {course.action for course in named}
    return _entry(
        result,
        0,
        Change.REJECTED,
        action=actions.pop() if len(actions) == 1 else None,
        course=_course(enrollments, named[0].identifier) if len(named) == 1 else None,
        errors=result.errors,
    )


def _course(enrollments: Enrollments, identifier: int | str) -> HistoryCourse:
    """Return a course that may not exist."""
    key = enrollments.courses.key_of(identifier)
    if key is not None:
        return HistoryCourse(**names_of_course(enrollments, key)._asdict())
    return HistoryCourse(id=None, sis_id=identifier if isinstance(identifier, str) else None)


def _is_about(enrollments: Enrollments, entry: HistoryEntry, course: int | str) -> bool:
    """Return whether an entry is about a course that is named by key or SIS id."""
    if entry.course is None:
        return False
    key = enrollments.courses.key_of(course)
    if key is not None:
        return entry.course.id == key
    return isinstance(course, str) and entry.course.sis_id == course


def roll(
    enrollments: Enrollments, course: int | str, at: datetime, limit: int, after: int
) -> CourseRoll | None:
    """Return who was enrolled in a course; None if there is no such course.

    The page begins with the student that comes after the key `after`.
    """
    key = enrollments.courses.key_of(course)
    if key is None:
        return None
    students = []
    for student, interval in enrollments.intervals.of_course(key):
        has_ended = interval.ended_at is not None and interval.ended_at <= at
        if student > after and interval.enrolled_at <= at and not has_ended:
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
        at=at,
        students=tuple(students[:limit]),
        more=len(students) > limit,
    )
