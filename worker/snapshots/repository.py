"""Read and write in SQL what snapshots do not name, and what becomes of it.

Every function takes an open connection. Most of them are for the connection on which a plan is
made: they read the real tables, and write temporary ones that `create_tables` makes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    bindparam,
    case,
    column,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.schema import CreateTable

from producer.contract.plans import PlanState
from worker.database import copy
from worker.database.planning import real_table
from worker.database.sets import (
    COPY_ROWS,
    Columns,
    is_among,
    list_parameter,
    row_parameters,
    rows_as_table,
)
from worker.models import Course, Instant, Pair, StudentCourse
from worker.plan_models import AlsoEnrolledBy, DataSet, PlanRow
from worker.snapshots.recognizing import Doubt
from worker.snapshots.values import LISTED, CourseLoss, Doubts, Fate, OtherOwner

_TEMPORARY: Final = MetaData()


def _temporary(name: str, *columns: Column[Any]) -> Table:
    return Table(name, _TEMPORARY, *columns, prefixes=["TEMPORARY"])


def _key(name: str, **options: Any) -> Column[Any]:
    return Column(name, Integer, **{"nullable": False, **options})


_NAMED = _temporary("snapshot_named", _key("student_id"), _key("course_id"))
"""The pairs that the file names; some may be listed twice."""
_NAMED_STUDENTS = _temporary("snapshot_named_students", _key("student_id"), _key("pairs"))
"""The students of whom the file names all that the data set owns, with the number of these pairs;
some may be listed twice, and their pairs need not be in `snapshot_named`."""
_DOUBTS = _temporary(
    "snapshot_doubts",
    _key("student_id", nullable=True),
    _key("course_id", nullable=True),
    _key("lines"),
)
"""What is recognized of its refused lines."""
_ABSENT = _temporary(
    "snapshot_absent",
    _key("student_id", primary_key=True, autoincrement=False),
    _key("course_id", primary_key=True, autoincrement=False),
    Column("fate", String(16), nullable=False),
)
"""The enrollments of the data set that the file does not name, and what is planned for them."""

_PAIR: Final[Columns] = {"student_id": Integer(), "course_id": Integer()}
_STUDENT: Final[Columns] = {"student_id": Integer(), "pairs": Integer()}
_DOUBT: Final[Columns] = {**_PAIR, "lines": Integer()}


def create_tables(connection: Connection) -> None:
    """Create the temporary tables; nothing may have been planned on this connection before."""
    for table in (_NAMED, _NAMED_STUDENTS, _DOUBTS, _ABSENT):
        connection.execute(CreateTable(table))
    if connection.dialect.name == "sqlite":
        # SQLite would compare each enrollment with each pair; PostgreSQL makes a hash table.
        connection.exec_driver_sql(
            "CREATE INDEX temp.snapshot_named_pair ON snapshot_named (student_id, course_id)"
        )
        connection.exec_driver_sql(
            "CREATE INDEX temp.snapshot_named_student ON snapshot_named_students (student_id)"
        )


def add_named(connection: Connection, pairs: Collection[Pair], doubts: Mapping[Doubt, int]) -> None:
    """Add what a chunk names."""
    named = list(pairs)
    if connection.dialect.name == "postgresql" and len(named) >= COPY_ROWS:
        copy.copy_pairs(connection, _NAMED.name, tuple(_PAIR), named)
    else:
        _add(connection, _NAMED, _PAIR, sorted(named))
    _add(connection, _DOUBTS, _DOUBT, [(*doubt, lines) for doubt, lines in doubts.items()])


def add_named_students(
    connection: Connection, students: Sequence[int], pairs: Sequence[int]
) -> None:
    """Add students of whom chunks name all that the data set owns, with the numbers of pairs."""
    if connection.dialect.name == "postgresql" and len(students) >= COPY_ROWS:
        columns = (students, pairs)
        copy.copy_numbers(connection, _NAMED_STUDENTS.name, tuple(_STUDENT), columns)
    else:
        rows = list(zip(students, pairs, strict=True))
        _add(connection, _NAMED_STUDENTS, _STUDENT, rows)


def _add(
    connection: Connection, table: Table, columns: Columns, rows: Sequence[tuple[Any, ...]]
) -> None:
    if not rows:
        return
    dialect = connection.dialect.name
    if dialect == "postgresql" and len(rows) >= COPY_ROWS:
        copy.copy_rows(connection, table.name, tuple(columns), rows)
        return
    source = rows_as_table(dialect, columns)
    values: Any = select(*(column(name) for name in columns)).select_from(source)
    new = insert(table).from_select(list(columns), values)
    connection.execute(new, row_parameters(dialect, columns, rows))


def prepare_to_compare(connection: Connection) -> None:
    """Let PostgreSQL read the tables as a whole: a hash table is faster than a million look-ups.

    It collects no statistics of temporary tables by itself, and would look up each named pair.
    Compiling the statements would take longer than it saves.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(_READ_WHOLE_TABLES))
        connection.execute(text(f"ANALYZE {_NAMED.name}, {_NAMED_STUDENTS.name}, {_DOUBTS.name}"))


_READ_WHOLE_TABLES: Final = (
    "SELECT set_config('enable_seqscan', 'on', true), set_config('jit', 'off', true)"
)


def count_owned(connection: Connection, data_set: int) -> dict[int, int]:
    """Return how many students a data set owns in each course, by the course's key."""
    row = real_table(connection, StudentCourse).c
    counted = select(row.course_id, func.count()).where(row.data_set == data_set)
    rows: Any = connection.execute(counted.group_by(row.course_id))
    return dict(rows.all())


def find_absent(connection: Connection, data_set: int, moment: datetime) -> None:
    """Find the enrollments that a data set owns and the file does not name.

    Results that confirm them are not looked at.
    """
    row = real_table(connection, StudentCourse).c
    note = real_table(connection, AlsoEnrolledBy).c
    is_noted = and_(is_pair(note, row), note.data_set != data_set, is_current(connection, note))
    fate = case(
        (exists().where(is_pair(_DOUBTS.c, row)), literal(Fate.KEPT_REFUSED.value, String())),
        (
            row.enrolled_at >= bindparam("moment", moment, type_=Instant()),
            literal(Fate.KEPT_NEWER.value, String()),
        ),
        (exists().where(is_noted), literal(Fate.PASSED_ON.value, String())),
        else_=literal(Fate.DROPPED.value, String()),
    )
    absent = select(row.student_id, row.course_id, fate).where(
        row.data_set == data_set,
        ~exists().where(_NAMED_STUDENTS.c.student_id == row.student_id),
        ~exists().where(is_pair(_NAMED.c, row)),
    )
    connection.execute(insert(_ABSENT).from_select(_ABSENT.c.keys(), absent))


def count_compared(connection: Connection, data_set: int) -> int:
    """Return how many enrollments of a data set the file names or was found not to name.

    They are all that it owns, unless it owns more of a student of whom the file was said to name
    all: then `find_absent` missed some.
    """
    row = real_table(connection, StudentCourse).c
    is_whole = exists().where(_NAMED_STUDENTS.c.student_id == row.student_id)
    is_named = exists().where(is_pair(_NAMED.c, row))
    counts = (
        select(func.sum(_whole_students().c.pairs)),
        select(func.count()).select_from(_ABSENT),
        select(func.count()).where(row.data_set == data_set, ~is_whole, is_named),
    )
    return sum(connection.scalar(count) or 0 for count in counts)


def _whole_students() -> Any:
    """Select the students of whom the file names all, each once, with the number of pairs."""
    student = _NAMED_STUDENTS.c.student_id
    pairs = func.max(_NAMED_STUDENTS.c.pairs).label("pairs")
    return select(student, pairs).group_by(student).subquery()


def take_grown_students(connection: Connection, data_set: int) -> set[int]:
    """Remove and return students of whom the data set owns more than the file was said to name.

    What was found to be absent is forgotten.
    """
    row, whole = real_table(connection, StudentCourse).c, _whole_students()
    owned = (
        select(row.student_id, func.count().label("pairs"))
        .where(row.data_set == data_set)
        .group_by(row.student_id)
        .subquery()
    )
    grown = select(owned.c.student_id).join(whole, whole.c.student_id == owned.c.student_id)
    found = set(connection.scalars(grown.where(owned.c.pairs > whole.c.pairs)))
    dialect = connection.dialect.name
    is_grown = is_among(dialect, _NAMED_STUDENTS.c.student_id)
    connection.execute(delete(_NAMED_STUDENTS).where(is_grown), list_parameter(dialect, found))
    connection.execute(delete(_ABSENT))
    return found


def is_pair(left: Any, right: Any) -> Any:
    return and_(left.student_id == right.student_id, left.course_id == right.course_id)


def is_current(connection: Connection, note: Any) -> Any:
    """Return the condition that a note is not older than the last snapshot of its data set.

    While that is being applied, all of them count: it may name the pair in a later chunk.
    """
    owner, plan = real_table(connection, DataSet).c, real_table(connection, PlanRow).c
    is_outdated = exists().where(owner.id == note.data_set, owner.swept_at > note.moment)
    is_ongoing = exists().where(
        plan.data_set == note.data_set,
        plan.state.in_([PlanState.APPLYING.value, PlanState.SWEEPING.value]),
    )
    return or_(~is_outdated, is_ongoing)


def students_in_doubt(connection: Connection, after: int, limit: int) -> list[int]:
    """Return the keys of students with an enrollment that is to be dropped or passed on."""
    listed = [fate.value for fate in LISTED]
    students = select(_ABSENT.c.student_id).where(
        _ABSENT.c.fate.in_(listed), _ABSENT.c.student_id > after
    )
    page = students.distinct().order_by(_ABSENT.c.student_id).limit(limit)
    return list(connection.scalars(page))


def keep_confirmed(connection: Connection, pairs: Iterable[Pair]) -> None:
    """Keep those of these pairs that are to be dropped or passed on."""
    rows = sorted(pairs)
    if not rows:
        return
    dialect = connection.dialect.name
    source = rows_as_table(dialect, _PAIR)
    kept = (
        update(_ABSENT)
        .where(_ABSENT.c.fate.in_([fate.value for fate in LISTED]))
        .where(tuple_(_ABSENT.c.student_id, _ABSENT.c.course_id).in_(select(*source.c)))
        .values(fate=Fate.KEPT_NEWER.value)
    )
    connection.execute(kept, row_parameters(dialect, _PAIR, rows))


def count_fates(connection: Connection) -> dict[str, int]:
    """Return how many absent enrollments have each fate."""
    counted = select(_ABSENT.c.fate, func.count()).group_by(_ABSENT.c.fate)
    rows: Any = connection.execute(counted)
    return dict(rows.all())


def find_losses(connection: Connection, owned: Mapping[int, int]) -> list[CourseLoss]:
    """Return the courses with planned drops, the one with the most first."""
    course = real_table(connection, Course).c
    drops = func.count()
    counted = (
        select(course.id, course.sis_id, course.title, drops)
        .join(_ABSENT, _ABSENT.c.course_id == course.id)
        .where(_ABSENT.c.fate == Fate.DROPPED.value)
        .group_by(course.id, course.sis_id, course.title)
        .order_by(drops.desc(), course.id)
    )
    return [
        CourseLoss(key, sis_id, title, owned.get(key, 0), count)
        for key, sis_id, title, count in connection.execute(counted)
    ]


def count_named(connection: Connection, data_set: int) -> int:
    """Return how many pairs the file names."""
    pairs = select(_NAMED.c.student_id, _NAMED.c.course_id).distinct().subquery()
    listed = connection.scalar(select(func.count()).select_from(pairs)) or 0
    row = real_table(connection, StudentCourse).c
    others = select(func.count()).where(
        row.data_set == data_set,
        exists().where(_NAMED_STUDENTS.c.student_id == row.student_id),
        ~exists().where(is_pair(_NAMED.c, row)),
    )
    return listed + (connection.scalar(others) or 0)


def count_owners(connection: Connection, data_set: int) -> tuple[int, list[OtherOwner]]:
    """Return who else owns enrollments that the file names, apart from its own data set.

    That is how many of them have no owner, and the other data sets that own some, the one with the
    most first.
    """
    row, note = (real_table(connection, table).c for table in (StudentCourse, AlsoEnrolledBy))
    owner = real_table(connection, DataSet)
    is_noted = exists().where(is_pair(note, row), note.data_set == data_set)
    named = (
        select(row.data_set, case((is_noted, 0), else_=1).label("is_new"))
        .where(row.data_set.is_distinct_from(data_set), exists().where(is_pair(_NAMED.c, row)))
        .subquery()
    )
    pairs = func.count()
    counted = (
        select(owner.c.name, pairs, func.sum(named.c.is_new))
        .select_from(named.outerjoin(owner, owner.c.id == named.c.data_set))
        .group_by(owner.c.name)
        .order_by(pairs.desc(), owner.c.name)
    )
    rows = connection.execute(counted).all()
    not_owned = sum(count for name, count, _ in rows if name is None)
    return not_owned, [OtherOwner(*row) for row in rows if row.name is not None]


def count_doubts(connection: Connection) -> Doubts:
    """Return how many refused lines may be about enrollments that are to be dropped."""
    doubt = _DOUBTS.c
    lines = func.coalesce(func.sum(doubt.lines), 0)
    has_student, has_course = doubt.student_id.is_not(None), doubt.course_id.is_not(None)
    is_dropped = _ABSENT.c.fate == Fate.DROPPED.value
    of_student = exists().where(_ABSENT.c.student_id == doubt.student_id, is_dropped)
    of_course = exists().where(_ABSENT.c.course_id == doubt.course_id, is_dropped)
    half = or_(
        and_(has_student, ~has_course, of_student), and_(~has_student, has_course, of_course)
    )
    counts = [select(lines).where(condition) for condition in (half, ~has_student & ~has_course)]
    return Doubts(*(int(connection.scalar(count) or 0) for count in counts))


def planned_rows(
    connection: Connection, after: Pair | None, limit: int
) -> list[tuple[int, int, str]]:
    """Return enrollments to be dropped or passed on, with their fates, by the keys of the pairs.

    Only those after the pair `after` are returned.
    """
    rows = select(*_ABSENT.c).where(_ABSENT.c.fate.in_([fate.value for fate in LISTED]))
    key = (_ABSENT.c.student_id, _ABSENT.c.course_id)
    if after is not None:
        rows = rows.where(tuple_(*key) > tuple_(*map(literal, after)))
    return [tuple(row) for row in connection.execute(rows.order_by(*key).limit(limit))]
