"""SQL of the roster and of `student_courses`, set-based. It knows no rules and never commits.

Every function takes an open connection and whole sets.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import IntegrityError

from producer.contract.chunks import line_request_ids
from worker.database import copy
from worker.database.copy import Outcome, Pair
from worker.database.sets import (
    COPY_ROWS,
    Columns,
    add_rows,
    array_literal,
    columns_of,
    insert_into,
    is_among,
    list_parameter,
    row_parameters,
    rows_as_table,
    select_among,
)
from worker.models import (
    Batch,
    BatchChunk,
    BatchRefusal,
    Course,
    DeadLetter,
    EnrollmentResult,
    Instant,
    Student,
    StudentCourse,
)


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


FIRST_LINES = 5
SAMPLED = 20

_RESULT = [getattr(EnrollmentResult, name) for name in Result._fields]


def find_keys(
    connection: Connection, model: type[Student | Course], asked: Iterable[int | str | None]
) -> dict[int | str | None, int]:
    """The key of each student or course that exists, by the id that was asked."""
    dialect = connection.dialect.name
    found: dict[int | str | None, int] = {}
    keys, names = _by_type(asked)
    if keys:
        there = connection.scalars(
            select_among(dialect, model.id), list_parameter(dialect, keys)
        ).all()
        found.update(zip(there, there, strict=True))
    if names:
        found.update(
            connection.scalar(_select_keys(dialect, model), list_parameter(dialect, names)) or {}
        )
    return found


@cache
def _select_keys(dialect: str, model: type[Student | Course]) -> Any:
    # One document: of thousands of rows each would cost more than what is in it.
    as_object = func.json_object_agg if dialect == "postgresql" else func.json_group_object
    found = as_object(model.sis_id, model.id, type_=JSON())
    return select(found).where(is_among(dialect, model.sis_id))


def _by_type(asked: Iterable[int | str | None]) -> tuple[list[int], list[str]]:
    """Keys and SIS ids, each once."""
    ids = set(asked)
    return [i for i in ids if isinstance(i, int)], [i for i in ids if isinstance(i, str)]


class Described(NamedTuple):
    """A course as answers show it."""

    id: int
    sis_id: str
    title: str | None


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


def upsert_roster(
    connection: Connection, model: type[Student | Course], records: Sequence[Mapping[str, Any]]
) -> int:
    """Write roster records, at most one a SIS id; a field that is None keeps what is stored.

    Returns how many were added or changed. Rows are written in the order of their SIS ids, so
    that two chunks at once cannot deadlock, and unchanged rows use up no primary key.
    """
    if not records:
        return 0
    dialect = connection.dialect.name
    columns = _roster_columns(model)
    rows = [[record.get(name) for name in columns] for record in records]
    statement = _upsert(dialect, model)
    return len(connection.execute(statement, row_parameters(dialect, columns, rows)).all())


def _roster_columns(model: type[Student | Course]) -> Columns:
    names = [c.name for c in model.__table__.columns if c.name not in ("id", "sis_id")]
    return dict.fromkeys(["sis_id", *names], String())


@cache
def _upsert(dialect: str, model: type[Student | Course]) -> Any:
    columns = _roster_columns(model)
    fields = [name for name in columns if name != "sis_id"]
    source = rows_as_table(dialect, columns)
    stored = model.__table__.alias("stored")
    new = {name: func.coalesce(source.c[name], stored.c[name]) for name in fields}
    changed = or_(*(new[name].is_distinct_from(stored.c[name]) for name in fields))
    wanted = (
        select(source.c.sis_id, *new.values())
        .select_from(source.outerjoin(stored, stored.c.sis_id == source.c.sis_id))
        .where(or_(stored.c.id.is_(None), changed))
        .order_by(source.c.sis_id)
    )
    new_rows = insert_into(dialect, model).from_select(list(columns), wanted)
    # A row that another transaction wrote meanwhile is compared once more.
    merged = {n: func.coalesce(new_rows.excluded[n], getattr(model, n)) for n in fields}
    return new_rows.on_conflict_do_update(
        index_elements=["sis_id"],
        set_=merged,
        where=or_(*(merged[n].is_distinct_from(getattr(model, n)) for n in fields)),
    ).returning(model.sis_id)


def enroll_student_in_courses(
    connection: Connection, student_id: int, course_ids: Iterable[int], now: datetime
) -> set[int]:
    """Enroll one student by key; returns the courses whose row was not there before."""
    pairs = {(student_id, course_id) for course_id in course_ids}
    return {course_id for _, course_id in enroll_students_in_courses(connection, pairs, now)}


def enroll_students_in_courses(
    connection: Connection, pairs: Iterable[Pair], now: datetime
) -> list[Pair]:
    """Write `student_courses` rows; returns the pairs whose row was not there before.

    Rows are written in the order of their key, so that two chunks at once cannot deadlock.
    """
    # Of a dictionary and not a set: that keeps their order, which is often nearly the right one.
    wanted = sorted(dict.fromkeys(pairs))
    if not wanted:
        return []
    dialect = connection.dialect.name
    if dialect == "postgresql" and len(wanted) >= COPY_ROWS:
        # Of a fresh chunk none is there; a few tell whether it is one.
        sample = wanted[:: len(wanted) // SAMPLED]
        new = wanted
        if len(_find_missing(connection, sample)) < len(sample):
            new = sorted(_find_missing(connection, wanted))
        if not new:
            return []
        try:
            with connection.begin_nested():
                copy.copy_enrollments(connection, new, now)
        except IntegrityError:
            pass  # The sample or another transaction deceived us: each row is tried by itself.
        else:
            return new
    rows = [(*pair, now) for pair in wanted]
    added = connection.execute(_enroll(dialect), row_parameters(dialect, _PAIR_COLUMNS, rows))
    return [(student, course) for student, course in added.all()]


@cache
def _enroll(dialect: str) -> Any:
    source = rows_as_table(dialect, _PAIR_COLUMNS)
    wanted = select(*source.c).order_by(source.c.student_id, source.c.course_id)
    return (
        insert_into(dialect, StudentCourse)
        .from_select(list(_PAIR_COLUMNS), wanted)
        .on_conflict_do_nothing()
        .returning(StudentCourse.student_id, StudentCourse.course_id)
    )


def _find_missing(connection: Connection, pairs: Sequence[Pair]) -> list[Pair]:
    """Those of which there is no row: of a chunk that comes again there are few or none."""
    dialect = connection.dialect.name
    missing = connection.execute(
        _select_missing(dialect), row_parameters(dialect, _PAIR_KEY, pairs)
    )
    return [(student, course) for student, course in missing.all()]


@cache
def _select_missing(dialect: str) -> Any:
    source = rows_as_table(dialect, _PAIR_KEY)
    there = (
        select(StudentCourse.student_id)
        .where(
            StudentCourse.student_id == source.c.student_id,
            StudentCourse.course_id == source.c.course_id,
        )
        .exists()
    )
    return select(*source.c).where(~there)


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


def describe_courses(connection: Connection, keys: Iterable[int]) -> dict[int, Any]:
    """SIS id and title of courses, by key."""
    dialect = connection.dialect.name
    statement = select_among(dialect, Course.id, Course.sis_id, Course.title)
    return {
        row.id: row for row in connection.execute(statement, list_parameter(dialect, set(keys)))
    }


def describe_students(connection: Connection, keys: Iterable[int]) -> list[Any]:
    """Students by key, in no order."""
    dialect = connection.dialect.name
    statement = select_among(dialect, Student.id, Student.sis_id, Student.name, Student.email)
    return list(connection.execute(statement, list_parameter(dialect, set(keys))))


def courses_of_students(connection: Connection, keys: Iterable[int]) -> list[Any]:
    """The enrollments of these students with their courses, ordered by SIS id."""
    dialect = connection.dialect.name
    return list(connection.execute(_select_courses(dialect), list_parameter(dialect, set(keys))))


@cache
def _select_courses(dialect: str) -> Any:
    course = (Course.id, Course.sis_id, Course.title)
    return (
        select(StudentCourse.student_id, *course, StudentCourse.enrolled_at)
        .join(Course, Course.id == StudentCourse.course_id)
        .where(is_among(dialect, StudentCourse.student_id))
        .order_by(Course.sis_id)
    )


def find_chunk(connection: Connection, batch_id: str, number: int) -> Any | None:
    """The ledger's entry of a chunk with the kind of its batch, if it was applied."""
    return connection.execute(_CHUNK, {"batch": batch_id, "chunk": number}).one_or_none()


_CHUNK = (
    select(Batch.kind, *BatchChunk.__table__.columns)
    .join(BatchChunk, BatchChunk.batch_id == Batch.id)
    .where(Batch.id == bindparam("batch"), BatchChunk.number == bindparam("chunk"))
)


def open_batch(
    connection: Connection, batch_id: str, kind: str, columns: Sequence[str] | None
) -> str:
    """Note a batch at its first chunk; returns the kind under which it is known."""
    known = find_kind(connection, batch_id)
    if known is None:
        new = insert_into(connection.dialect.name, Batch).values(
            id=batch_id, kind=kind, columns=columns
        )
        connection.execute(new.on_conflict_do_nothing())
        known = connection.execute(_KIND, {"batch": batch_id}).scalar_one()
    return known


def add_chunk(connection: Connection, **entry: Any) -> None:
    """Enter an applied chunk. Raises IntegrityError if it was entered already."""
    connection.execute(_ADD_CHUNK, entry)


_ADD_CHUNK = insert(BatchChunk)


def find_chunks(connection: Connection, batch_id: str, numbers: Iterable[int]) -> dict[int, Any]:
    """Of these chunks of a batch, the fingerprints of those that were applied."""
    dialect = connection.dialect.name
    statement = select(BatchChunk.number, BatchChunk.fingerprint).where(
        BatchChunk.batch_id == batch_id, is_among(dialect, BatchChunk.number)
    )
    rows = connection.execute(statement, list_parameter(dialect, set(numbers)))
    return {row.number: row.fingerprint for row in rows}


def find_kind(connection: Connection, batch_id: str) -> str | None:
    """The kind of a batch of which something was applied."""
    kind: str | None = connection.scalar(_KIND, {"batch": batch_id})
    return kind


_KIND = select(Batch.kind).where(Batch.id == bindparam("batch"))


def find_columns(connection: Connection, batch_ids: Iterable[str]) -> dict[str, Any]:
    """The header of the file that each batch was made of, where there was one."""
    dialect = connection.dialect.name
    statement = select_among(dialect, Batch.id, Batch.columns)
    rows = connection.execute(statement, list_parameter(dialect, set(batch_ids)))
    return {row.id: row.columns for row in rows}


def add_refusals(
    connection: Connection, batch_id: str, refusals: Iterable[Mapping[str, Any]]
) -> None:
    """Keep refused lines with their records."""
    rows = [(batch_id, *map(refusal.__getitem__, _REFUSAL)) for refusal in refusals]
    add_rows(connection, BatchRefusal, ("batch_id", *_REFUSAL), rows)


_REFUSAL = ("line", "code", "message", "record", "cells")


def find_refusals(
    connection: Connection, batch_id: str, after: tuple[int, int], limit: int
) -> list[Any]:
    """Refusals in the order of their lines, those behind a (line, id)."""
    refusal = BatchRefusal
    statement = (
        select(*refusal.__table__.columns)
        .where(refusal.batch_id == batch_id, tuple_(refusal.line, refusal.id) > tuple_(*after))
        .order_by(refusal.line, refusal.id)
        .limit(limit)
    )
    return list(connection.execute(statement))


def sum_chunks(connection: Connection, batch_ids: Iterable[str]) -> list[Any]:
    """The ledger of each batch that is known, summed over its applied chunks, in one statement."""
    dialect = connection.dialect.name
    return list(connection.execute(_sum_chunks(dialect), list_parameter(dialect, set(batch_ids))))


@cache
def _sum_chunks(dialect: str) -> Any:
    chunk = BatchChunk
    sums = (
        "requests",
        "requests_rejected",
        "rows",
        "enrolled",
        "already_enrolled",
        "upserted",
        "unchanged",
        "rejected",
    )
    return (
        select(
            Batch.id,
            Batch.kind,
            func.count().label("applied"),
            (func.max(chunk.number) + 1).label("known"),
            *(func.sum(getattr(chunk, name)).label(name) for name in sums),
            func.max(chunk.requests_through).label("requests_through"),
            func.max(chunk.rows_through).label("rows_through"),
            func.max(case((chunk.last, chunk.number + 1))).label("chunks"),
            func.min(chunk.applied_at).label("started_at"),
            func.max(chunk.applied_at).label("finished_at"),
        )
        .join(chunk, chunk.batch_id == Batch.id)
        .where(is_among(dialect, Batch.id))
        .group_by(Batch.id, Batch.kind)
    )


def newest_batches(connection: Connection, limit: int, *, unfinished: bool) -> list[str]:
    """The batches of which a chunk was applied last, the newest first."""
    chunk = BatchChunk
    statement = select(chunk.batch_id).group_by(chunk.batch_id)
    if unfinished:
        whole = func.max(case((chunk.last, chunk.number + 1)))
        mixed = exists().where(DeadLetter.batch_id == chunk.batch_id, DeadLetter.form != "record")
        lacks_rows = and_(func.sum(chunk.rows) < func.max(chunk.rows_through), mixed)
        statement = statement.having(or_(whole.is_(None), func.count() < whole, lacks_rows))
    newest = statement.order_by(func.max(chunk.applied_at).desc(), chunk.batch_id).limit(limit)
    return list(connection.scalars(newest))


def refused_batches(connection: Connection, limit: int) -> list[str]:
    """Batches of which nothing was applied, and a chunk is a dead letter; the newest first."""
    letter = DeadLetter
    known = exists().where(Batch.id == letter.batch_id)
    newest = (
        select(letter.batch_id)
        .where(letter.batch_id.is_not(None), ~known)
        .group_by(letter.batch_id)
        .order_by(func.max(letter.last_at).desc(), letter.batch_id)
    )
    return [str(batch_id) for batch_id in connection.scalars(newest.limit(limit))]


def group_refusals(connection: Connection, batch_id: str) -> list[Any]:
    """A batch's refusals by code: how many, and the first few lines with their messages."""
    refusal = BatchRefusal
    counted = select(refusal.code, func.count()).where(refusal.batch_id == batch_id)
    groups = []
    for code, count in connection.execute(counted.group_by(refusal.code).order_by(refusal.code)):
        first = (
            select(refusal.line, func.min(refusal.message).label("message"))
            .where(refusal.batch_id == batch_id, refusal.code == code)
            .group_by(refusal.line)
            .order_by(refusal.line)
            .limit(FIRST_LINES)
        )
        groups.append((code, count, connection.execute(first).all()))
    return groups


def delete_result(connection: Connection, request_id: str) -> None:
    """Forget the outcome of a request that is tried once more."""
    connection.execute(delete(EnrollmentResult).where(EnrollmentResult.request_id == request_id))


_PAIR_COLUMNS = columns_of(StudentCourse, "student_id", "course_id", "enrolled_at")
_PAIR_KEY = columns_of(StudentCourse, "student_id", "course_id")
