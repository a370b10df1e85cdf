"""Answer lookups of histories and rolls. Reads only; knows no Celery."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from producer.contract.history import (
    CourseRoll,
    CourseRolls,
    EnrolledStudent,
    HistoryEntry,
    StudentHistory,
)
from producer.fields import MAX_KEY, ROLLS_ROWS, is_line_request_id
from worker.answer_size import AnswerSize
from worker.batches.lines import unpack_lines
from worker.database.clock import database_time
from worker.database.engine import Database
from worker.enrollment.derived.repository import find_derived_of_student
from worker.enrollment.repository import summarize_courses
from worker.history.entries import (
    Draft,
    merge,
    of_intervals,
    of_result,
    row_of_result,
    to_entry,
)
from worker.history.repository import (
    MAX_INTERVALS,
    find_intervals,
    find_lines,
    find_results_with_changes,
    find_roll,
    find_rolls,
)
from worker.models import Course, Student
from worker.moments import Clock, own_clock
from worker.repository import describe_students, find_keys

RESULTS_AT_ONCE: Final = 500
"""How many results are read at a time until a page of a history is full."""

MAX_DERIVED: Final = 2 * MAX_INTERVALS
"""The most derived results of a student that a history is made of."""

_SMALLER = "set a smaller limit"


def student_history(
    database: Database,
    student: int | str,
    course: int | str | None = None,
    limit: int = 100,
    before: datetime | None = None,
) -> StudentHistory:
    """Return what happened to a student's enrollments, the latest moment first.

    With `course`, only what happened to that one; with `before`, only what counts earlier. At least
    `limit` entries are returned if there are so many; entries of one moment are never divided. A
    student that does not exist may have refused requests. Raises AnswerTooLarge.
    """
    with database.reading() as connection:
        key = find_keys(connection, Student, [student]).get(student)
        wanted = None if course is None else find_keys(connection, Course, [course]).get(course)
        if course is not None and wanted is None:
            drafts: list[Draft] = []
        else:
            drafts = _drafts(connection, student, key, wanted, limit, before)
        page = _page(drafts, limit)
        entries = _entries(connection, page)
        rows = describe_students(connection, [key]) if key is not None else []
    sis_id = rows[0].sis_id if rows else student if isinstance(student, str) else None
    size = AnswerSize(_SMALLER)
    for entry in entries:
        size.add(entry)
    return StudentHistory(
        student_id=key, student_sis_id=sis_id, entries=entries, more=len(page) < len(drafts)
    )


def _drafts(
    connection: Connection,
    student: int | str,
    key: int | None,
    course: int | None,
    limit: int,
    before: datetime | None,
) -> list[Draft]:
    """Return more entries than a page holds, or all that there are."""
    intervals = [] if key is None else find_intervals(connection, key, course)
    from_intervals = [d for d in of_intervals(intervals) if before is None or d.moment < before]
    from_results = [] if key is None else _derived_drafts(connection, key, course, before)
    after: tuple[datetime, str] | None = None
    while True:
        rows = find_results_with_changes(connection, student, before, after, RESULTS_AT_ONCE)
        for row in rows:
            from_results += [d for d in of_result(row) if course is None or d.course == course]
        drafts = merge(from_results, from_intervals)
        if len(rows) < RESULTS_AT_ONCE:
            return drafts
        after = (rows[-1].counts_at, rows[-1].request_id)
        # Results of earlier moments may follow, so only what is later is complete.
        drafts = [draft for draft in drafts if draft.moment > after[0]]
        if len(_page(drafts, limit)) < len(drafts):
            return drafts


def _derived_drafts(
    connection: Connection, student: int, course: int | None, before: datetime | None
) -> list[Draft]:
    """Return what the derived results of a student tell: all at once, as of the enrollments."""
    rows = map(row_of_result, find_derived_of_student(connection, student, MAX_DERIVED))
    return [
        draft
        for row in rows
        for draft in of_result(row)
        if course in (None, draft.course) and (before is None or draft.moment < before)
    ]


def _page(drafts: Sequence[Draft], limit: int) -> Sequence[Draft]:
    """Return the first entries, and all others that have the moment of the last of them."""
    end = min(limit, len(drafts))
    while 0 < end < len(drafts) and drafts[end].moment == drafts[end - 1].moment:
        end += 1
    return drafts[:end]


def _entries(connection: Connection, drafts: Sequence[Draft]) -> tuple[HistoryEntry, ...]:
    keys = {draft.course for draft in drafts if draft.course is not None}
    courses = summarize_courses(connection, keys)
    places = [_place_in_batch(draft) for draft in drafts]
    ledger = find_lines(connection, {place[:2] for place in places if place})
    return tuple(
        to_entry(draft, courses, _lines(ledger.get(place[:2]), place[2]) if place else ())
        for draft, place in zip(drafts, places, strict=True)
    )


def _place_in_batch(draft: Draft) -> tuple[str, int, int] | None:
    """Return the batch, the chunk and the position of a request whose id was made from them."""
    request_id = draft.result.request_id if draft.result else ""
    if draft.result is None or draft.result.batch_id is None or not is_line_request_id(request_id):
        return None
    batch_id, *numbers = request_id.rsplit(":", 2)
    number, position = map(int, numbers)
    # What a snapshot does not name is in no chunk: such a drop may have a larger number.
    return None if number > MAX_KEY else (batch_id, number, position)


def _lines(entry: Any | None, position: int) -> Sequence[int]:
    """Return the lines of a request; numbered through if its chunk did not say otherwise."""
    if entry is None:
        return ()
    if entry.lines is None:
        return (entry.requests_through - entry.requests + position + 1,)
    return unpack_lines(entry.lines, position)


def course_roll(
    database: Database,
    course: int | str,
    at: datetime | None = None,
    limit: int = 1_000,
    after: int = 0,
    *,
    clock: Clock = own_clock,
) -> CourseRoll | None:
    """Return who is enrolled in a course, or was at a moment; None if there is no such course.

    At most `limit` students are returned, in the order of their keys, after the key `after`. Raises
    AnswerTooLarge.
    """
    with database.reading() as connection:
        key = find_keys(connection, Course, [course]).get(course)
        if key is None:
            return None
        about = summarize_courses(connection, [key])[key]
        rows = find_roll(connection, key, at, after, limit + 1)
        now = at or database_time(connection) or clock()
    students = tuple(
        EnrolledStudent(
            id=row.student_id,
            sis_id=row.sis_id,
            name=row.name,
            enrolled_at=row.enrolled_at,
            ended_at=row.ended_at,
        )
        for row in rows[:limit]
    )
    roll = CourseRoll(
        id=key,
        sis_id=about.sis_id,
        title=about.title,
        at=now,
        students=students,
        more=len(rows) > limit,
    )
    AnswerSize(_SMALLER).add(roll)
    return roll


def course_rolls(
    database: Database,
    courses: Sequence[int | str],
    after: tuple[int, int] | None = None,
    rows: int = ROLLS_ROWS,
) -> CourseRolls:
    """Return a part of who is enrolled in courses: those among the next enrollments in any course.

    Courses that do not exist have no students. Raises AnswerTooLarge.
    """
    with database.reading() as connection:
        keys = set(find_keys(connection, Course, courses).values())
        if not keys:
            return CourseRolls()
        sis_ids = {key: about.sis_id for key, about in summarize_courses(connection, keys).items()}
        found, last = find_rolls(connection, keys, after or (0, 0), rows)
    students: dict[str, list[str]] = {}
    for course, student in found:
        students.setdefault(sis_ids[course], []).append(student)
    part = CourseRolls(
        students={course: tuple(enrolled) for course, enrolled in students.items()}, next=last
    )
    AnswerSize("ask for fewer courses at a time").add(part)
    return part
