"""Read what requests name, and read and write their results in SQL."""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    Connection,
    Integer,
    String,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
    tuple_,
)

from producer.contract.chunks import line_request_ids
from worker.database import copy
from worker.database.copy import Outcome
from worker.database.sets import COPY_ROWS, add_rows, array_literal, is_among, list_parameter
from worker.models import Course, EnrollmentResult, Instant, Student
from worker.repository import Described, _by_type


class Result(NamedTuple):
    """A row of `enrollment_results`: the outcome of one request."""

    request_id: str
    fingerprint: int | None
    student_id: int | None
    student_sis_id: str | None
    status: str
    enrolled: list[int]
    already: list[int]
    errors: list[dict[str, Any]]
    batch_id: str | None
    completed_at: datetime


_RESULT = [getattr(EnrollmentResult, name) for name in Result._fields]


class Named(NamedTuple):
    """What there is of all that some requests name."""

    students: dict[int | str | None, int]
    """Keys, by what was asked."""
    courses: dict[int | str, int]
    described: dict[int, Described]
    """The same courses, by key."""
    decided: bool
    """One of the requests has an outcome."""


def find_named(
    connection: Connection,
    student_ids: Iterable[int | str],
    course_ids: Iterable[int | str],
    request_ids: Iterable[str] = (),
) -> Named:
    """The students, courses and outcomes that requests name: in one statement, as many wait."""
    dialect = connection.dialect.name
    by_type: list[Collection[int | str]] = [*_by_type(student_ids), *_by_type(course_ids)]
    lists = [*by_type, set(request_ids)]
    asked = {name: ids for name, ids in zip(_NAMES, lists, strict=True) if ids}
    found: dict[str, Any] = {}
    if asked:
        given = [list_parameter(dialect, ids, name) for name, ids in asked.items()]
        values = {name: value for one in given for name, value in one.items()}
        row = connection.execute(_select_named(dialect, tuple(asked)), values).one()
        found = dict(zip(asked, row, strict=True))
    students: dict[int | str | None, int] = {k: k for k, _ in found.get("student_keys") or ()}
    students.update((sis_id, key) for key, sis_id in found.get("student_names") or ())
    by_key, by_name = (
        [Described(*of_one) for of_one in found.get(name) or ()]
        for name in ("course_keys", "course_names")
    )
    courses: dict[int | str, int] = {course.id: course.id for course in by_key}
    courses.update((course.sis_id, course.id) for course in by_name)
    described = {course.id: course for course in (*by_key, *by_name)}
    return Named(students, courses, described, bool(found.get("request_ids")))


_NAMES = ("student_keys", "student_names", "course_keys", "course_names", "request_ids")


@cache
def _select_named(dialect: str, names: tuple[str, ...]) -> Any:
    if dialect == "postgresql":
        rows, row = func.json_agg, func.json_build_array
    else:
        rows, row = func.json_group_array, func.json_array
    student = rows(row(Student.id, Student.sis_id), type_=JSON())
    course = rows(row(Course.id, Course.sis_id, Course.title), type_=JSON())
    columns: tuple[tuple[Any, Any], ...] = (
        (Student.id, student),
        (Student.sis_id, student),
        (Course.id, course),
        (Course.sis_id, course),
        (EnrollmentResult.request_id, func.count()),
    )
    return select(
        *(
            select(wanted).where(is_among(dialect, of, name)).scalar_subquery()
            for name, (of, wanted) in zip(_NAMES, columns, strict=True)
            if name in names
        )
    )


def find_results(connection: Connection, request_ids: Iterable[str]) -> list[Result]:
    """The stored outcomes of these requests, in no order."""
    dialect = connection.dialect.name
    statement = _select_results(dialect)
    rows = connection.execute(statement, list_parameter(dialect, set(request_ids))).all()
    return list(map(Result._make, rows))


@cache
def _select_results(dialect: str) -> Any:
    return select(*_RESULT).where(is_among(dialect, EnrollmentResult.request_id))


def find_results_of_chunk(connection: Connection, batch_id: str, number: int) -> list[Result]:
    """The stored outcomes under the ids that are made of a chunk's number; as a rule none."""
    first, behind = line_request_ids(batch_id, number)
    rows = connection.execute(_RESULTS_OF_CHUNK, {"first": first, "behind": behind})
    return list(map(Result._make, rows))


_RESULTS_OF_CHUNK = select(*_RESULT).where(
    EnrollmentResult.request_id >= bindparam("first"),
    EnrollmentResult.request_id < bindparam("behind"),
)


def find_results_of_student(
    connection: Connection,
    asked: int | str,
    limit: int,
    before: tuple[datetime, str] | None = None,
) -> list[Result]:
    """A student's outcomes, newest first; those of before it existed are among them."""
    values: dict[str, Any] = {"asked": asked, "most": limit}
    if before is not None:
        values["moment"], values["id"] = before
    statement = _select_results_of_student(isinstance(asked, int), before is not None)
    return list(map(Result._make, connection.execute(statement, values)))


@cache
def _select_results_of_student(by_key: bool, before: bool) -> Any:  # noqa: FBT001 - for the cache
    asked: Any = bindparam("asked")
    if by_key:
        whose = EnrollmentResult.student_id == asked
    else:
        key = select(Student.id).where(Student.sis_id == asked).scalar_subquery()
        unresolved = EnrollmentResult.student_id.is_(None)
        whose = or_(
            EnrollmentResult.student_id == key,
            unresolved & (EnrollmentResult.student_sis_id == asked),
        )
    age = (EnrollmentResult.completed_at, EnrollmentResult.request_id)
    if before:
        whose = and_(
            whose,
            tuple_(*age)
            < tuple_(bindparam("moment", type_=Instant()), bindparam("id", type_=String())),
        )
    newest = [one.desc() for one in age]
    return select(*_RESULT).where(whose).order_by(*newest).limit(bindparam("most", type_=Integer()))


def add_results(connection: Connection, results: Iterable[Result]) -> None:
    """Store outcomes. Raises IntegrityError if one of the requests has an outcome already."""
    # A list of integers as Python shows it is JSON.
    rows = [
        (*r[:5], str(r[5]), str(r[6]), json.dumps(r[7]) if r[7] else "[]", *r[8:]) for r in results
    ]
    add_rows(connection, EnrollmentResult, Result._fields, rows)


class EnrolledAtOnce(NamedTuple):
    """What `enroll_at_once` found and did."""

    student: int
    courses: list[Described]
    """In the order asked."""
    already: list[int]


def enroll_at_once(
    connection: Connection,
    request_id: str,
    fingerprint: int,
    student_id: int | str,
    course_ids: Sequence[int | str],
    now: datetime,
) -> EnrolledAtOnce | None:
    """Look for all that a request names, write its rows and store its outcome: one round trip.

    For PostgreSQL; a statement of SQLite writes into one table. Returns None, and writes nothing,
    if one of these is not there, if the request has an outcome, or if keys and SIS ids of courses
    stand side by side. Raises IntegrityError, and writes nothing, if the request gets an outcome
    meanwhile, or the roster loses a row.
    """
    by_key = {isinstance(course_id, int) for course_id in course_ids}
    if len(by_key) > 1:
        return None
    statement = _enroll_at_once(isinstance(student_id, int), by_key.pop())
    given = {
        "request_id": request_id,
        "fingerprint": fingerprint,
        "student": student_id,
        "student_sis_id": student_id if isinstance(student_id, str) else None,
        "courses": array_literal(String(), course_ids),
        "asked": len(course_ids),
        "now": now,
    }
    row = connection.execute(statement, given).one_or_none()
    if row is None:
        return None
    student, courses, already = row
    return EnrolledAtOnce(student, [Described(*course) for course in courses], already)


@cache
def _enroll_at_once(student_by_key: bool, courses_by_key: bool) -> Any:  # noqa: FBT001 - for the cache
    whose = "id" if student_by_key else "sis_id"
    which, type_ = ("id", "integer") if courses_by_key else ("sis_id", "varchar")
    # The names and the type are ours, the values are parameters.
    statement = f"""
        WITH course AS (
            SELECT id, sis_id, title, array_position(CAST(:courses AS {type_}[]), {which}) AS place
            FROM courses WHERE {which} = ANY (CAST(:courses AS {type_}[]))
        ), student AS (
            SELECT id FROM students
            WHERE {whose} = :student AND (SELECT count(*) FROM course) = :asked AND NOT EXISTS (
                SELECT FROM enrollment_results WHERE request_id = :request_id
            )
        ), added AS (
            INSERT INTO student_courses (student_id, course_id, enrolled_at)
            SELECT student.id, course.id, :now FROM student, course ORDER BY course.id
            ON CONFLICT DO NOTHING
            RETURNING course_id
        )
        INSERT INTO enrollment_results (
            request_id, fingerprint, student_id, student_sis_id, status,
            enrolled, already, errors, completed_at
        )
        SELECT
            :request_id, :fingerprint, id, :student_sis_id, 'enrolled',
            (SELECT json_agg(id ORDER BY place) FROM course),
            (
                SELECT coalesce(json_agg(id ORDER BY place), '[]') FROM course
                WHERE id NOT IN (SELECT course_id FROM added)
            ),
            '[]', :now
        FROM student
        RETURNING
            student_id,
            (SELECT json_agg(json_build_array(id, sis_id, title) ORDER BY place) FROM course),
            already
    """  # noqa: S608
    return text(statement)


def add_enrolled(
    connection: Connection, outcomes: Sequence[Outcome], batch_id: str, now: datetime
) -> None:
    """Store what became of requests of a batch that were wholly enrolled.

    Raises IntegrityError if one of them has an outcome already.
    """
    if connection.dialect.name == "postgresql" and len(outcomes) >= COPY_ROWS:
        copy.copy_enrolled(connection, outcomes, batch_id, now)
        return
    same = (batch_id, now)
    add_results(
        connection,
        (
            Result(
                request_id,
                None,
                student,
                asked if isinstance(asked, str) else None,
                "enrolled",
                enrolled,
                already,
                [],
                *same,
            )
            for request_id, student, asked, enrolled, already in outcomes
        ),
    )


def delete_result(connection: Connection, request_id: str) -> None:
    """Forget the outcome of a request that is tried once more."""
    connection.execute(delete(EnrollmentResult).where(EnrollmentResult.request_id == request_id))
