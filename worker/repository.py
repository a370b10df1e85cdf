"""Read and write the roster and `student_courses` in SQL, a whole set at a time.

Every function takes an open connection. Nothing here knows the rules or commits.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar, cast

from sqlalchemy import JSON, Connection, Integer, String, bindparam, func, select
from sqlalchemy.exc import IntegrityError

from worker.database import copy
from worker.database.planning import planning_on
from worker.database.sets import (
    COPY_ROWS,
    Columns,
    RowsUpTo,
    columns_of,
    insert_into,
    is_among,
    list_parameter,
    row_parameters,
    rows_as_table,
    rows_up_to,
    select_among,
    select_up_to,
)
from worker.models import Base, Course, Pair, PlacedPair, Student, StudentCourse

SAMPLE_SIZE = 20
"""About how many pairs are looked up to see whether a chunk is new."""

MIN_COURSES = 2
"""With so many pairs for each student, all rows of the students are read instead of each pair's."""

SMALL_ROSTER = 50_000
"""Up to this largest key, a roster is small enough to be read as a whole."""

AnyRow = TypeVar("AnyRow", Pair, PlacedPair)

NO_OWNERS: Mapping[Pair, int] = MappingProxyType({})

_PAIR_COLUMNS = columns_of(StudentCourse, "student_id", "course_id", "enrolled_at")
_PLACED_COLUMNS = columns_of(
    StudentCourse, "student_id", "course_id", "enrolled_at", "chunk", "position"
)
_OWNER_COLUMN = columns_of(StudentCourse, "data_set")
_PAIR_KEY = columns_of(StudentCourse, "student_id", "course_id")


def find_keys(
    connection: Connection, model: type[Student | Course], ids: Iterable[int | str | None]
) -> dict[int | str | None, int]:
    """Return the keys of the students or courses that exist, by the ids given."""
    dialect = connection.dialect.name
    keys_by_id: dict[int | str | None, int] = {}
    keys, sis_ids = by_type(ids)
    if keys:
        existing = connection.scalars(
            select_among(dialect, model.id), list_parameter(dialect, keys)
        ).all()
        keys_by_id.update(zip(existing, existing, strict=True))
    if sis_ids:
        keys_by_id.update(
            connection.scalar(_select_keys(dialect, model), list_parameter(dialect, sis_ids)) or {}
        )
    return keys_by_id


@cache
def _select_keys(dialect: str, model: type[Student | Course]) -> Any:
    # One JSON document: thousands of rows would each cost more than the values in them.
    as_object = func.json_object_agg if dialect == "postgresql" else func.json_group_object
    document = as_object(model.sis_id, model.id, type_=JSON())
    return select(document).where(is_among(dialect, model.sis_id))


def find_least_and_largest(
    connection: Connection,
    model: type[Student | Course],
    ranges: Sequence[tuple[str, str, str]],
) -> dict[str, list[str]]:
    """Return the least and the largest SIS id in ranges of numbers, by the name of the range.

    A range is a name, a least and a largest number, which have the same length. Ranges may share a
    name. Each SIS id is returned once.
    """
    dialect = connection.dialect.name
    found: dict[str, list[str]] = {}
    rows = connection.execute(_select_ends(dialect, model), row_parameters(dialect, _RANGE, ranges))
    for name, *ends in rows:
        numbers = found.setdefault(name, [])
        numbers += {i for i in ends if i is not None and i.isdecimal()}
    return found


_RANGE: Columns = dict.fromkeys(["name", "least", "most"], String())


@cache
def _select_ends(dialect: str, model: type[Student | Course]) -> Any:
    source = rows_as_table(dialect, _RANGE)

    def end(of: Any) -> Any:
        within = model.sis_id.between(source.c.least, source.c.most)
        same_length = func.length(model.sis_id) == func.length(source.c.least)
        return select(of(model.sis_id)).where(within, same_length).scalar_subquery()

    least, most = end(func.min).label("least"), end(func.max).label("most")
    return select(source.c.name, least, most)


def sis_ids_of_small_roster(connection: Connection, model: type[Student | Course]) -> Sequence[str]:
    """Return all SIS ids of the students or courses; none if there may be many."""
    # Where a plan is made, there are only those that it names, and keys do not say how many.
    size = func.max(model.id) if planning_on(connection) is None else func.count()
    if (connection.scalar(select(size).select_from(model)) or 0) > SMALL_ROSTER:
        return []
    return connection.scalars(select(model.sis_id)).all()


def by_type(ids: Iterable[int | str | None]) -> tuple[list[int], list[str]]:
    """Return the keys and the SIS ids among these ids, each once."""
    unique = set(ids)
    if set(map(type, unique)) == {str}:
        return [], cast("list[str]", list(unique))
    return [i for i in unique if isinstance(i, int)], [i for i in unique if isinstance(i, str)]


def enroll_student_in_courses(
    connection: Connection, student_id: int, course_ids: Iterable[int], now: datetime
) -> set[int]:
    """Enroll one student by key; return the courses whose row is new. `now` is the moment."""
    rows = {(student_id, course_id): now for course_id in course_ids}
    return {course_id for _, course_id in insert_enrollments(connection, rows)}


def insert_enrollments(
    connection: Connection, rows: Mapping[Pair, datetime], owners: Mapping[Pair, int] = NO_OWNERS
) -> Sequence[Pair]:
    """Write rows of `student_courses` with their moments; return the pairs whose row is new.

    `owners` has the data sets of those rows that belong to one. Rows are written in the order of
    their keys, so that two concurrent chunks cannot deadlock.
    """
    wanted = sorted(rows)
    dialect = connection.dialect.name
    if dialect == "postgresql" and len(wanted) >= COPY_ROWS:

        def write(new: Sequence[Pair]) -> None:
            data_sets = [owners.get(pair) for pair in new] if owners else None
            copy.copy_enrollments(connection, new, [rows[pair] for pair in new], data_sets)

        copied = _copy_new(connection, wanted, write)
        if copied is not None:
            return copied
    if owners:
        values = [(*pair, rows[pair], owners.get(pair)) for pair in wanted]
        return _insert(connection, {**_PAIR_COLUMNS, **_OWNER_COLUMN}, values)
    return _insert(connection, _PAIR_COLUMNS, [(*pair, rows[pair]) for pair in wanted])


def insert_placed_enrollments(
    connection: Connection,
    wanted: Sequence[PlacedPair],
    moment: datetime,
    chunk: int,
    data_set: int | None = None,
) -> Sequence[PlacedPair]:
    """Do what `insert_enrollments` does for the requests of one chunk, with their positions.

    Each pair is named once, and the rows are in the order of their keys. All of them belong to the
    data set, if one is given.
    """
    dialect = connection.dialect.name
    if dialect == "postgresql" and len(wanted) >= COPY_ROWS:

        def write(new: Sequence[PlacedPair]) -> None:
            copy.copy_placed_enrollments(connection, new, moment, chunk, data_set)

        copied = _copy_new(connection, wanted, write)
        if copied is not None:
            return copied
    columns = _PLACED_COLUMNS if data_set is None else {**_PLACED_COLUMNS, **_OWNER_COLUMN}
    shared = () if data_set is None else (data_set,)
    values = [(*row[:2], moment, chunk, row[2], *shared) for row in wanted]
    added = set(_insert(connection, columns, values))
    return [row for row in wanted if row[:2] in added]


def _copy_new(
    connection: Connection, wanted: Sequence[AnyRow], write: Callable[[Sequence[AnyRow]], None]
) -> Sequence[AnyRow] | None:
    """Copy the new ones of these rows; return them, or None if that did not succeed.

    `write` copies rows, which begin with their pair and are in the order of their keys.
    """
    new = wanted
    if are_some_enrolled(connection, wanted):
        missing = set(find_missing(connection, wanted))
        new = [row for row in wanted if row[:2] in missing]
    elif planning_on(connection) and (existing := _find_existing(connection, wanted)):
        new = [row for row in wanted if row[:2] not in existing]
    if not new:
        return []
    if planning_on(connection):
        # Only this transaction writes here, so it needs no savepoint. A savepoint for each of many
        # chunks would slow down all other transactions, which look these up until the plan is made.
        write(new)
        return new
    try:
        with connection.begin_nested():
            write(new)
    except IntegrityError:
        return None  # The sample missed a row, or another transaction added one.
    return new


def _insert(
    connection: Connection, columns: Columns, rows: Sequence[Sequence[Any]]
) -> Sequence[Pair]:
    if not rows:
        return []
    dialect = connection.dialect.name
    statement = _enroll(dialect, tuple(columns))
    added = connection.execute(statement, row_parameters(dialect, columns, rows))
    return [(student, course) for student, course in added.all()]


@cache
def _enroll(dialect: str, names: tuple[str, ...]) -> Any:
    source = rows_as_table(dialect, columns_of(StudentCourse, *names))
    wanted = select(*source.c).order_by(source.c.student_id, source.c.course_id)
    return (
        insert_into(dialect, StudentCourse)
        .from_select(list(names), wanted)
        .on_conflict_do_nothing()
        .returning(StudentCourse.student_id, StudentCourse.course_id)
    )


def are_some_enrolled(connection: Connection, rows: Sequence[AnyRow]) -> bool:
    """Return whether some pairs of a sample have rows: a fresh chunk has none of its rows yet.

    The given rows begin with their pairs.
    """
    sample = rows[:: max(1, len(rows) // SAMPLE_SIZE)]
    return len(find_missing(connection, sample)) < len(sample)


def find_missing(connection: Connection, rows: Sequence[AnyRow]) -> list[Pair]:
    """Return the pairs that have no row: few or none if the chunk was delivered before."""
    dialect = connection.dialect.name
    pairs = [row[:2] for row in rows]
    if (students := shared_students(pairs)) is not None:
        known = find_pairs_of(connection, students)
        return [pair for pair in pairs if pair not in known]
    missing = connection.execute(
        _select_missing(dialect), row_parameters(dialect, _PAIR_KEY, pairs)
    )
    return [(student, course) for student, course in missing.all()]


def shared_students(pairs: Collection[Pair]) -> set[int] | None:
    """Return the students that pairs name if all rows of these are read faster than each pair's."""
    students = {student for student, _ in pairs}
    return students if len(pairs) >= MIN_COURSES * len(students) else None


def find_pairs_of(
    connection: Connection, students: Collection[int], data_set: int | None = None
) -> set[Pair]:
    """Return the pairs with rows of some students, perhaps only those that a data set owns.

    The rows of a student lie beside each other in the index: to look up each of a student's pairs
    takes several times as long.
    """
    dialect = connection.dialect.name
    parameters: dict[str, Any] = list_parameter(dialect, students)
    if data_set is not None:
        parameters["owner"] = data_set
    statement = _select_pairs_of(dialect, of_data_set=data_set is not None)
    keys, courses = connection.execute(statement, parameters).one()
    return set(zip(keys or (), courses or (), strict=True))


@cache
def _select_pairs_of(dialect: str, *, of_data_set: bool) -> Any:
    # Two JSON documents, for the same reason as for keys.
    as_array = func.json_agg if dialect == "postgresql" else func.json_group_array
    columns = (StudentCourse.student_id, StudentCourse.course_id)
    statement = select(*(as_array(column, type_=JSON()) for column in columns))
    if of_data_set:
        owner = bindparam("owner", type_=Integer())
        statement = statement.where(StudentCourse.data_set == owner)
    return statement.where(is_among(dialect, StudentCourse.student_id))


def _find_existing(connection: Connection, rows: Sequence[AnyRow]) -> set[Pair]:
    """Return the pairs that have a row: few or none if the chunk is new.

    Others of the same students may be among them.
    """
    dialect = connection.dialect.name
    pairs = [row[:2] for row in rows]
    if (students := shared_students(pairs)) is not None:
        return find_pairs_of(connection, students)
    existing = connection.execute(
        _select_missing(dialect, negated=True), row_parameters(dialect, _PAIR_KEY, pairs)
    )
    return {(student, course) for student, course in existing}


@cache
def _select_missing(dialect: str, *, negated: bool = False) -> Any:
    source = rows_as_table(dialect, _PAIR_KEY)
    existing = (
        select(StudentCourse.student_id)
        .where(
            StudentCourse.student_id == source.c.student_id,
            StudentCourse.course_id == source.c.course_id,
        )
        .exists()
    )
    return select(*source.c).where(existing if negated else ~existing)


def describe_students(connection: Connection, keys: Iterable[int]) -> list[Any]:
    """Return the students with these keys, in no particular order."""
    dialect = connection.dialect.name
    statement = select_among(dialect, Student.id, Student.sis_id, Student.name, Student.email)
    return list(connection.execute(statement, list_parameter(dialect, set(keys))))


def courses_of_students(connection: Connection, keys: Iterable[int], most: int) -> RowsUpTo:
    """Return the enrollments of these students with their courses, ordered by SIS id.

    The list ends once the texts of the courses have `most` characters.
    """
    dialect = connection.dialect.name
    parameters = list_parameter(dialect, set(keys))
    return rows_up_to(connection, _select_courses(dialect), parameters, most)


@cache
def _select_courses(dialect: str) -> Any:
    course = (Course.id, Course.sis_id, Course.title)
    page = (
        select(StudentCourse.student_id, *course, StudentCourse.enrolled_at)
        .join(Course, Course.id == StudentCourse.course_id)
        .where(is_among(dialect, StudentCourse.student_id))
        .subquery()
    )
    return select_up_to(page, ["sis_id", "title"], page.c.sis_id, page.c.student_id)


def count_rows(connection: Connection, *models: type[Base]) -> list[int]:
    """Return how many rows each of these tables has; large tables are read as a whole."""
    counts = (select(func.count()).select_from(model).scalar_subquery() for model in models)
    return list(connection.execute(select(*counts)).one())
