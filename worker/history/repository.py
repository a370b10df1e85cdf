"""Read what happened to enrollments, and who was enrolled, in SQL."""

from collections.abc import Collection, Iterable
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Integer,
    String,
    and_,
    bindparam,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    tuple_,
    union_all,
)

from producer.schemas import ResultStatus
from worker.database.sets import is_among, list_parameter
from worker.models import (
    BatchChunk,
    EnrollmentResult,
    Instant,
    PastEnrollment,
    Student,
    StudentCourse,
)

MAX_INTERVALS: Final = 10_000
"""The most enrollments of a student, open and past, that a history is made of."""


def find_results_with_changes(
    connection: Connection,
    student: int | str,
    before: datetime | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Any]:
    """Return the results of a student that changed something or in which something was refused.

    The latest moment comes first; `counts_at` is the moment. Only results `before` a moment are
    returned, and only those that follow the result with the moment and the id of `after`.
    """
    values: dict[str, Any] = {"student": student, "before": before, "limit": limit}
    values["after_moment"], values["after_id"] = after or (None, None)
    statement = _select_results(
        connection.dialect.name, isinstance(student, int), before is not None, after is not None
    )
    return list(connection.execute(statement, values))


@cache
def _select_results(dialect: str, by_key: bool, before: bool, after: bool) -> Any:  # noqa: FBT001 - for the cache
    result = EnrollmentResult
    # An older version stored no moment.
    counts_at = func.coalesce(result.moment, result.completed_at, type_=Instant())
    length = func.json_array_length
    confirms_only = (
        (result.status == ResultStatus.ENROLLED.value)
        & (length(result.already) == length(result.enrolled))
        & result.superseded.is_(None)
    )
    drops_nothing = (
        (result.status == ResultStatus.DROPPED.value)
        & (length(result.not_enrolled) == length(result.dropped))
        & result.superseded.is_(None)
    )
    conditions = [_is_of(by_key), ~confirms_only, ~func.coalesce(drops_nothing, _false(dialect))]
    age = (counts_at, result.request_id)
    if before:
        conditions.append(counts_at < bindparam("before", type_=Instant()))
    if after:
        last = (bindparam("after_moment", type_=Instant()), bindparam("after_id", type_=String()))
        conditions.append(tuple_(*age) < tuple_(*last))
    return (
        select(
            result.request_id,
            result.batch_id,
            result.status,
            result.enrolled,
            result.already,
            result.dropped,
            result.not_enrolled,
            result.superseded,
            result.errors,
            result.reason,
            result.line,
            result.completed_at,
            counts_at.label("counts_at"),
        )
        .where(*conditions)
        .order_by(*(column.desc() for column in age))
        .limit(bindparam("limit", type_=Integer()))
    )


def _false(dialect: str) -> Any:
    return literal(value=False) if dialect == "postgresql" else literal(0)


def _is_of(by_key: bool) -> Any:  # noqa: FBT001 - for the cache of the caller
    """Return the condition that a result is of a student, even from before the student existed."""
    result = EnrollmentResult
    student: Any = bindparam("student")
    if by_key:
        return result.student_id == student
    key = select(Student.id).where(Student.sis_id == student).scalar_subquery()
    unresolved = result.student_id.is_(None) & (result.student_sis_id == student)
    return or_(result.student_id == key, unresolved)


def find_intervals(connection: Connection, student: int, course: int | None) -> list[Any]:
    """Return a student's enrollments, past and open, those with the latest end first.

    An open one has no `ended_at`. A drop of a pair that was not enrolled is not an enrollment.
    """
    values = {"student": student, "course": course}
    return list(connection.execute(_select_intervals(course is not None), values))


@cache
def _select_intervals(of_course: bool) -> Any:  # noqa: FBT001 - for the cache
    past, enrolled = PastEnrollment, StudentCourse
    ended = select(
        past.course_id, past.enrolled_at, past.ended_at, past.reason, past.request_id
    ).where(past.student_id == bindparam("student"), past.enrolled_at.is_not(None))
    is_open = select(
        enrolled.course_id,
        enrolled.enrolled_at,
        _nothing("ended_at", Instant()),
        _nothing("reason", String()),
        _nothing("request_id", String()),
    ).where(enrolled.student_id == bindparam("student"))
    if of_course:
        ended = ended.where(past.course_id == bindparam("course"))
        is_open = is_open.where(enrolled.course_id == bindparam("course"))
    newest = ended.order_by(past.ended_at.desc()).limit(MAX_INTERVALS).subquery()
    return union_all(is_open, select(newest))


def _nothing(name: str, type_: Any) -> Any:
    """Return a column of nulls that can be united with one of this type, also on PostgreSQL."""
    return cast(null(), type_).label(name)


def find_lines(connection: Connection, chunks: Iterable[tuple[str, int]]) -> dict[Any, Any]:
    """Return the ledger entries of chunks, by batch and number, from which lines are found."""
    chunk = BatchChunk
    statement = select(
        chunk.batch_id, chunk.number, chunk.lines, chunk.requests, chunk.requests_through
    )
    found = {}
    for batch_id, number in set(chunks):
        own = and_(chunk.batch_id == batch_id, chunk.number == number)
        for row in connection.execute(statement.where(own)):
            found[row.batch_id, row.number] = row
    return found


def find_rolls(
    connection: Connection, courses: Collection[int], after: tuple[int, int], rows: int
) -> tuple[list[Any], tuple[int, int] | None]:
    """Return who is enrolled in courses, among the next `rows` enrollments in all courses.

    Those come after the student's and the course's key `after`; both keys of the last of them are
    returned, too, or None if no other follows. There is no index on the course.
    """
    dialect = connection.dialect.name
    values = {"student": after[0], "course": after[1], "rows": rows - 1}
    last = connection.execute(_LAST_OF_ROLLS, values).one_or_none()
    is_last = last is None
    if last is not None:
        values |= {"last_student": last.student_id, "last_course": last.course_id}
    listed = list_parameter(dialect, courses)
    found = connection.execute(_select_rolls(dialect, is_last), {**values, **listed}).all()
    return list(found), None if last is None else (last.student_id, last.course_id)


_KEYS_OF_ROW = (StudentCourse.student_id, StudentCourse.course_id)
_IS_AFTER = tuple_(*_KEYS_OF_ROW) > tuple_(
    bindparam("student", type_=Integer()), bindparam("course", type_=Integer())
)
_LAST_OF_ROLLS = (
    select(*_KEYS_OF_ROW)
    .where(_IS_AFTER)
    .order_by(*_KEYS_OF_ROW)
    .offset(bindparam("rows", type_=Integer()))
    .limit(1)
)


@cache
def _select_rolls(dialect: str, is_last: bool) -> Any:  # noqa: FBT001 - for the cache
    rows = select(*_KEYS_OF_ROW).where(_IS_AFTER, is_among(dialect, StudentCourse.course_id))
    if not is_last:
        end = (
            bindparam("last_student", type_=Integer()),
            bindparam("last_course", type_=Integer()),
        )
        rows = rows.where(tuple_(*_KEYS_OF_ROW) <= tuple_(*end))
    page = rows.subquery()
    return (
        select(page.c.course_id, Student.sis_id)
        .join(Student, Student.id == page.c.student_id)
        .order_by(page.c.student_id, page.c.course_id)
    )


def find_roll(
    connection: Connection, course: int, at: datetime | None, after: int, limit: int
) -> list[Any]:
    """Return who is enrolled in a course, or was at a moment, in the order of their keys.

    Only keys after `after` are returned. There is no index on the course: the rows of all students
    from `after` on are read until there are enough.
    """
    values = {"course": course, "at": at, "after": after, "limit": limit}
    return list(connection.execute(_select_roll(at is not None), values))


@cache
def _select_roll(at_a_moment: bool) -> Any:  # noqa: FBT001 - for the cache
    past, enrolled = PastEnrollment, StudentCourse
    at: Any = bindparam("at", type_=Instant())
    limit = bindparam("limit", type_=Integer())
    now = select(enrolled.student_id, enrolled.enrolled_at, _nothing("ended_at", Instant())).where(
        enrolled.course_id == bindparam("course"), enrolled.student_id > bindparam("after")
    )
    rows: Any = now
    if at_a_moment:
        now = now.where(enrolled.enrolled_at <= at)
        then = select(past.student_id, past.enrolled_at, past.ended_at).where(
            past.course_id == bindparam("course"),
            past.student_id > bindparam("after"),
            past.enrolled_at <= at,
            past.ended_at > at,
        )
        parts = [part.order_by("student_id").limit(limit).subquery() for part in (now, then)]
        rows = union_all(*map(select, parts))
    page = rows.order_by("student_id").limit(limit).subquery()
    return (
        select(page.c.student_id, Student.sis_id, Student.name, page.c.enrolled_at, page.c.ended_at)
        .join(Student, Student.id == page.c.student_id)
        .order_by(page.c.student_id)
    )
