"""SQL, set-based: the only module that builds statements. It decides nothing and never commits.

Every function takes an open connection and whole sets. The two dialects differ in one place:
how a set of values becomes a table (`_source`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    FromClause,
    Integer,
    String,
    bindparam,
    case,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from worker.models import (
    Batch,
    BatchChunk,
    BatchRefusal,
    Course,
    EnrollmentResult,
    Instant,
    Student,
    StudentCourse,
)


class Result(NamedTuple):
    """A row of `enrollment_results`: the outcome of one request."""

    request_id: str
    fingerprint: int
    student_id: int | None
    student_sis_id: str | None
    status: str
    enrolled: list[tuple[int, bool]]
    errors: list[dict[str, Any]]
    batch_id: str | None
    completed_at: datetime


Pair = tuple[int, int]
Columns = Mapping[str, TypeEngine[Any]]
FIRST_LINES = 5

_RESULT_COLUMNS: Columns = {
    "request_id": String(),
    "fingerprint": BigInteger(),
    "student_id": Integer(),
    "student_sis_id": String(),
    "status": String(),
    "enrolled": String(),
    "errors": String(),
}


def _source(connection: Connection, columns: Columns, rows: Sequence[Sequence[Any]]) -> FromClause:
    """The rows as a table: `unnest` of an array a column, or `json_each` of one document."""
    if connection.dialect.name == "postgresql":
        arrays = [
            bindparam(None, [row[place] for row in rows], type_=postgresql.ARRAY(type_))
            for place, type_ in enumerate(columns.values())
        ]
        named = [column(name, type_) for name, type_ in columns.items()]
        return func.unnest(*arrays).table_valued(*named, name="source").render_derived()
    document = bindparam(None, json.dumps(rows), type_=String())
    each = func.json_each(document).table_valued("key", "value")
    extracted = (
        type_coerce(func.json_extract(each.c.value, f"$[{place}]"), type_).label(name)
        for place, (name, type_) in enumerate(columns.items())
    )
    return select(*extracted).subquery("source")


def _values(connection: Connection, type_: TypeEngine[Any], values: Iterable[Any]) -> Any:
    return select(_source(connection, {"value": type_}, [(v,) for v in values]).c.value)


def _json(connection: Connection, text: Any) -> Any:
    """Text that is JSON, for a JSON column; SQLite keeps JSON as the text that it is."""
    return cast(text, JSON) if connection.dialect.name == "postgresql" else text


def _insert(connection: Connection, table: Any) -> Any:
    """`INSERT` with `ON CONFLICT`, which both dialects have under the same names."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


# --- the roster -----------------------------------------------------------------------------


def find_students(connection: Connection, asked: Iterable[int | str]) -> dict[int | str, int]:
    """The key of each student that exists, by the id that was asked."""
    return _find(connection, Student, asked)


def find_courses(connection: Connection, asked: Iterable[int | str]) -> dict[int | str, int]:
    """The key of each course that exists, by the id that was asked."""
    return _find(connection, Course, asked)


def _find(
    connection: Connection, model: type[Student | Course], asked: Iterable[int | str]
) -> dict[int | str, int]:
    ids = set(asked)
    keys = [i for i in ids if isinstance(i, int)]
    names = [i for i in ids if isinstance(i, str)]
    found: dict[int | str, int] = {}
    if keys:
        by_key = select(model.id).where(model.id.in_(_values(connection, Integer(), keys)))
        found.update((key, key) for key in connection.scalars(by_key))
    if names:
        by_name = select(model.sis_id, model.id).where(
            model.sis_id.in_(_values(connection, String(), names))
        )
        found.update((name, key) for name, key in connection.execute(by_name))
    return found


def upsert_roster(
    connection: Connection, model: type[Student | Course], records: Sequence[Mapping[str, Any]]
) -> int:
    """Write roster records, at most one a SIS id; a field that is None keeps what is stored.

    Returns how many were added or changed. Rows are written in the order of their SIS ids, so
    that two chunks at once cannot deadlock, and unchanged rows use up no primary key.
    """
    if not records:
        return 0
    fields = [c.name for c in model.__table__.columns if c.name not in ("id", "sis_id")]
    columns: Columns = dict.fromkeys(["sis_id", *fields], String())
    source = _source(connection, columns, [[r.get(name) for name in columns] for r in records])
    stored = model.__table__.alias("stored")
    new = {name: func.coalesce(source.c[name], stored.c[name]) for name in fields}
    changed = or_(*(new[name].is_distinct_from(stored.c[name]) for name in fields))
    wanted = (
        select(source.c.sis_id, *new.values())
        .select_from(source.outerjoin(stored, stored.c.sis_id == source.c.sis_id))
        .where(or_(stored.c.id.is_(None), changed))
        .order_by(source.c.sis_id)
    )
    insert = _insert(connection, model).from_select(list(columns), wanted)
    # A row that another transaction wrote meanwhile is compared once more.
    merged = {n: func.coalesce(insert.excluded[n], getattr(model, n)) for n in fields}
    statement = insert.on_conflict_do_update(
        index_elements=["sis_id"],
        set_=merged,
        where=or_(*(merged[n].is_distinct_from(getattr(model, n)) for n in fields)),
    ).returning(model.sis_id)
    return len(connection.execute(statement).all())


# --- enrollments ----------------------------------------------------------------------------


def enroll_student_in_courses(
    connection: Connection, student_id: int, course_ids: Iterable[int], now: datetime
) -> set[int]:
    """Enroll one student by key; returns the courses whose row was not there before."""
    pairs = {(student_id, course_id) for course_id in course_ids}
    return {course_id for _, course_id in enroll_students_in_courses(connection, pairs, now)}


def enroll_students_in_courses(
    connection: Connection, pairs: Iterable[Pair], now: datetime
) -> set[Pair]:
    """Write `student_courses` rows; returns the pairs whose row was not there before.

    Rows are written in the order of their key, so that two chunks at once cannot deadlock.
    """
    rows = sorted(pairs)
    if not rows:
        return set()
    columns: Columns = {"student_id": Integer(), "course_id": Integer()}
    source = _source(connection, columns, rows)
    wanted = select(source.c.student_id, source.c.course_id, literal(now, Instant())).order_by(
        source.c.student_id, source.c.course_id
    )
    statement = (
        _insert(connection, StudentCourse)
        .from_select(["student_id", "course_id", "enrolled_at"], wanted)
        .on_conflict_do_nothing()
        .returning(StudentCourse.student_id, StudentCourse.course_id)
    )
    return {(student, course) for student, course in connection.execute(statement)}


# --- results --------------------------------------------------------------------------------


def find_results(connection: Connection, request_ids: Iterable[str]) -> list[Result]:
    """The stored outcomes of these requests, in no order."""
    wanted = _values(connection, String(), set(request_ids))
    return _results(connection, EnrollmentResult.request_id.in_(wanted))


def find_results_of_student(connection: Connection, asked: int | str, limit: int) -> list[Result]:
    """A student's outcomes, newest first; those of before it existed are among them."""
    if isinstance(asked, int):
        whose = EnrollmentResult.student_id == asked
    else:
        key = select(Student.id).where(Student.sis_id == asked).scalar_subquery()
        unresolved = EnrollmentResult.student_id.is_(None)
        whose = or_(
            EnrollmentResult.student_id == key,
            unresolved & (EnrollmentResult.student_sis_id == asked),
        )
    return _results(connection, whose, limit)


def _results(connection: Connection, where: Any, limit: int | None = None) -> list[Result]:
    columns = [getattr(EnrollmentResult, name) for name in Result._fields]
    newest = (EnrollmentResult.completed_at.desc(), EnrollmentResult.request_id.desc())
    statement = select(*columns).where(where).order_by(*newest).limit(limit)
    return list(map(Result._make, connection.execute(statement)))


def add_results(connection: Connection, results: Sequence[Result]) -> None:
    """Store outcomes of one transaction; all share its batch and its moment.

    Raises IntegrityError if one of the requests has an outcome already.
    """
    if not results:
        return
    rows = [
        (*result[:5], json.dumps(result.enrolled), json.dumps(result.errors)) for result in results
    ]
    source = _source(connection, _RESULT_COLUMNS, rows)
    wanted = select(
        *(_json(connection, c) if c.name in ("enrolled", "errors") else c for c in source.c),
        literal(results[0].batch_id, String()),
        literal(results[0].completed_at, Instant()),
    )
    names = list(Result._fields)
    connection.execute(_insert(connection, EnrollmentResult).from_select(names, wanted))


def describe_courses(connection: Connection, keys: Iterable[int]) -> dict[int, Any]:
    """SIS id and title of courses, by key."""
    wanted = _values(connection, Integer(), set(keys))
    rows = connection.execute(
        select(Course.id, Course.sis_id, Course.title).where(Course.id.in_(wanted))
    )
    return {row.id: row for row in rows}


def describe_students(connection: Connection, keys: Iterable[int]) -> list[Any]:
    """Students by key, in no order."""
    wanted = _values(connection, Integer(), set(keys))
    return list(connection.execute(select(*Student.__table__.c).where(Student.id.in_(wanted))))


def courses_of_students(connection: Connection, keys: Iterable[int]) -> list[Any]:
    """The enrollments of these students with their courses, ordered by SIS id."""
    wanted = _values(connection, Integer(), set(keys))
    return list(
        connection.execute(
            select(
                StudentCourse.student_id,
                Course.id,
                Course.sis_id,
                Course.title,
                StudentCourse.enrolled_at,
            )
            .join(Course, Course.id == StudentCourse.course_id)
            .where(StudentCourse.student_id.in_(wanted))
            .order_by(Course.sis_id)
        )
    )


# --- the batch ledger -----------------------------------------------------------------------


def find_chunk(connection: Connection, batch_id: str, number: int) -> Any | None:
    """The ledger's entry of a chunk with the kind of its batch, if it was applied."""
    statement = (
        select(Batch.kind, *BatchChunk.__table__.columns)
        .join(BatchChunk, BatchChunk.batch_id == Batch.id)
        .where(Batch.id == batch_id, BatchChunk.number == number)
    )
    return connection.execute(statement).one_or_none()


def open_batch(connection: Connection, batch_id: str, kind: str) -> str:
    """Note a batch at its first chunk; returns the kind under which it is known."""
    new = _insert(connection, Batch).values(id=batch_id, kind=kind).on_conflict_do_nothing()
    connection.execute(new)
    known: str = connection.execute(select(Batch.kind).where(Batch.id == batch_id)).scalar_one()
    return known


def add_chunk(connection: Connection, **entry: Any) -> None:
    """Enter an applied chunk. Raises IntegrityError if it was entered already."""
    connection.execute(_insert(connection, BatchChunk).values(**entry))


def add_refusals(
    connection: Connection, batch_id: str, refusals: Sequence[Mapping[str, Any]]
) -> None:
    """Keep refused lines with their records."""
    if not refusals:
        return
    columns: Columns = {
        "line": BigInteger(),
        "code": String(),
        "message": String(),
        "record": String(),
    }
    rows = [[refusal[name] for name in columns] for refusal in refusals]
    source = _source(connection, columns, rows)
    wanted = select(
        literal(batch_id, String()),
        source.c.line,
        source.c.code,
        source.c.message,
        _json(connection, source.c.record),
    )
    names = ["batch_id", "line", "code", "message", "record"]
    connection.execute(_insert(connection, BatchRefusal).from_select(names, wanted))


def sum_chunks(connection: Connection, batch_ids: Iterable[str]) -> list[Any]:
    """The ledger of each batch that is known, summed over its applied chunks, in one statement."""
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
    statement = (
        select(
            Batch.id,
            Batch.kind,
            func.count().label("applied"),
            *(func.sum(getattr(chunk, name)).label(name) for name in sums),
            func.max(chunk.requests_through).label("requests_through"),
            func.max(chunk.rows_through).label("rows_through"),
            func.max(case((chunk.last, chunk.number + 1))).label("chunks"),
            func.min(chunk.applied_at).label("started_at"),
            func.max(chunk.applied_at).label("finished_at"),
        )
        .join(chunk, chunk.batch_id == Batch.id)
        .where(Batch.id.in_(_values(connection, String(), set(batch_ids))))
        .group_by(Batch.id, Batch.kind)
    )
    return list(connection.execute(statement))


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
