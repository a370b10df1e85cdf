"""Read and write in SQL what snapshots do not name, and what becomes of it.

Every function takes an open connection. Most of them are for the connection on which a plan is
made: they read the real tables, and write temporary ones that `create_tables` makes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
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
    row_parameters,
    rows_as_table,
)
from worker.models import Course, Instant, Pair, StudentCourse
from worker.plan_models import ADOPTED, AlsoEnrolledBy, DataSet, PlannedDropRow, PlanRow
from worker.snapshots.recognizing import Doubt
from worker.snapshots.values import LISTED, CourseLoss, Doubts, Fate, OtherOwner

_TEMPORARY: Final = MetaData()


def _temporary(name: str, *columns: Column[Any]) -> Table:
    return Table(name, _TEMPORARY, *columns, prefixes=["TEMPORARY"])


def _key(name: str, **options: Any) -> Column[Any]:
    return Column(name, Integer, **{"nullable": False, **options})


_NAMED = _temporary("snapshot_named", _key("student_id"), _key("course_id"))
"""The pairs that the file names; some may be listed twice."""
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
_DOUBT: Final[Columns] = {**_PAIR, "lines": Integer()}


def create_tables(connection: Connection) -> None:
    """Create the temporary tables; nothing may have been planned on this connection before."""
    for table in (_NAMED, _DOUBTS, _ABSENT):
        connection.execute(CreateTable(table))
    if connection.dialect.name == "sqlite":
        # SQLite would compare each enrollment with each pair; PostgreSQL makes a hash table.
        connection.exec_driver_sql(
            "CREATE INDEX temp.snapshot_named_pair ON snapshot_named (student_id, course_id)"
        )


def add_named(connection: Connection, pairs: Collection[Pair], doubts: Mapping[Doubt, int]) -> None:
    """Add what a chunk names."""
    named = list(pairs)
    if connection.dialect.name == "postgresql" and len(named) >= COPY_ROWS:
        copy.copy_pairs(connection, _NAMED.name, tuple(_PAIR), named)
    else:
        _add(connection, _NAMED, _PAIR, sorted(named))
    _add(connection, _DOUBTS, _DOUBT, [(*doubt, lines) for doubt, lines in doubts.items()])


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
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT set_config('enable_seqscan', 'on', true)"))
        connection.execute(text(f"ANALYZE {_NAMED.name}, {_DOUBTS.name}"))


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
    is_noted = and_(_is_pair(note, row), note.data_set != data_set, _counts(connection, note))
    fate = case(
        (exists().where(_is_pair(_DOUBTS.c, row)), literal(Fate.KEPT_REFUSED.value, String())),
        (
            row.enrolled_at >= bindparam("moment", moment, type_=Instant()),
            literal(Fate.KEPT_NEWER.value, String()),
        ),
        (exists().where(is_noted), literal(Fate.PASSED_ON.value, String())),
        else_=literal(Fate.DROPPED.value, String()),
    )
    absent = select(row.student_id, row.course_id, fate).where(
        row.data_set == data_set, ~exists().where(_is_pair(_NAMED.c, row))
    )
    connection.execute(insert(_ABSENT).from_select(_ABSENT.c.keys(), absent))


def _is_pair(left: Any, right: Any) -> Any:
    return and_(left.student_id == right.student_id, left.course_id == right.course_id)


def _counts(connection: Connection, note: Any) -> Any:
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


def count_named(connection: Connection) -> int:
    """Return how many pairs the file names."""
    pairs = select(_NAMED.c.student_id, _NAMED.c.course_id).distinct().subquery()
    return connection.scalar(select(func.count()).select_from(pairs)) or 0


def count_owners(connection: Connection, data_set: int) -> tuple[int, list[OtherOwner]]:
    """Return who else owns enrollments that the file names, apart from its own data set.

    That is how many of them have no owner, and the other data sets that own some, the one with the
    most first.
    """
    row, note = (real_table(connection, table).c for table in (StudentCourse, AlsoEnrolledBy))
    owner = real_table(connection, DataSet)
    is_noted = exists().where(_is_pair(note, row), note.data_set == data_set)
    named = (
        select(row.data_set, case((is_noted, 0), else_=1).label("is_new"))
        .where(row.data_set.is_distinct_from(data_set), exists().where(_is_pair(_NAMED.c, row)))
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


# --- the sweep --------------------------------------------------------------------------------


def next_planned(connection: Connection, plan_id: str, limit: int) -> dict[Pair, Fate]:
    """Return planned drops that were not tried yet, in the order of their keys."""
    rows = connection.execute(_NEXT_PLANNED, {"plan": plan_id, "limit": limit})
    return {(student, course): Fate(expected) for student, course, expected in rows}


_ROW = PlannedDropRow
_NEXT_PLANNED = (
    select(_ROW.student_id, _ROW.course_id, _ROW.expected)
    .where(_ROW.plan_id == bindparam("plan"), _ROW.outcome.is_(None))
    .order_by(_ROW.student_id, _ROW.course_id)
    .limit(bindparam("limit", type_=Integer()))
)


def find_owners(connection: Connection, pairs: Collection[Pair]) -> dict[Pair, int | None]:
    """Return the data sets that own the enrollments of pairs; a pair without one is not listed."""
    dialect = connection.dialect.name
    rows = connection.execute(
        _select_owners(dialect), row_parameters(dialect, _PAIR, sorted(pairs))
    )
    return {(student, course): owner for student, course, owner in rows}


@cache
def _select_owners(dialect: str) -> Any:
    source, row = rows_as_table(dialect, _PAIR), StudentCourse
    return select(*source.c, row.data_set).join(row, _is_pair(row, source.c))


def find_heirs(connection: Connection, pairs: Collection[Pair], data_set: int) -> dict[Pair, int]:
    """Return the other data sets that name pairs, the one that did so last for each."""
    dialect = connection.dialect.name
    source, note = rows_as_table(dialect, _PAIR), AlsoEnrolledBy
    notes: Any = (
        select(*source.c, note.data_set)
        .join(note, _is_pair(note, source.c))
        .where(note.data_set != data_set, _counts(connection, note))
        .order_by(note.moment, note.data_set.desc())
    )
    rows = connection.execute(notes, row_parameters(dialect, _PAIR, sorted(pairs)))
    return {(student, course): heir for student, course, heir in rows}


def pass_on(connection: Connection, heirs: Mapping[Pair, int]) -> None:
    """Let other data sets own the enrollments of pairs; the notes that say so are not needed."""
    for heir in sorted(set(heirs.values())):
        pairs = sorted(pair for pair, owner in heirs.items() if owner == heir)
        dialect = connection.dialect.name
        values = {**row_parameters(dialect, _PAIR, pairs), "heir": heir}
        connection.execute(_give_to_heir(dialect), values)
        connection.execute(_forget_note(dialect), values)


@cache
def _give_to_heir(dialect: str) -> Any:
    source, row = rows_as_table(dialect, _PAIR), StudentCourse
    is_listed = tuple_(row.student_id, row.course_id).in_(select(*source.c))
    return update(row).where(is_listed).values(data_set=bindparam("heir", type_=Integer()))


@cache
def _forget_note(dialect: str) -> Any:
    source, note = rows_as_table(dialect, _PAIR), AlsoEnrolledBy
    is_listed = tuple_(note.student_id, note.course_id).in_(select(*source.c))
    return delete(note).where(is_listed, note.data_set == bindparam("heir"))


def set_outcomes(connection: Connection, plan_id: str, outcomes: Mapping[Pair, Fate]) -> None:
    """Store what became of planned drops."""
    dialect = connection.dialect.name
    for fate in sorted(set(outcomes.values())):
        pairs = sorted(pair for pair, outcome in outcomes.items() if outcome is fate)
        values = {"plan": plan_id, "fate": fate.value}
        connection.execute(_set_outcome(dialect), row_parameters(dialect, _PAIR, pairs) | values)


@cache
def _set_outcome(dialect: str) -> Any:
    source, row = rows_as_table(dialect, _PAIR), PlannedDropRow
    # A join with the source would let SQLite read all of it for each drop of the plan.
    is_listed = tuple_(row.student_id, row.course_id).in_(select(*source.c))
    return (
        update(row)
        .where(row.plan_id == bindparam("plan"), is_listed)
        .values(outcome=bindparam("fate"))
    )


def count_outcomes(connection: Connection, plan_id: str) -> dict[tuple[str, str], int]:
    """Return the number of planned drops by what was expected of them and what became of them."""
    row = PlannedDropRow
    counted = select(row.expected, row.outcome, func.count()).where(
        row.plan_id == plan_id, row.expected != ADOPTED
    )
    rows = connection.execute(counted.group_by(row.expected, row.outcome))
    return {(expected, outcome or expected): count for expected, outcome, count in rows}


def count_dropped_by_course(connection: Connection, plan_id: str) -> dict[int, int]:
    """Return how many students of each course a plan has dropped, by the key of the course."""
    row = PlannedDropRow
    counted = select(row.course_id, func.count()).where(
        row.plan_id == plan_id, row.outcome == Fate.DROPPED.value
    )
    rows: Any = connection.execute(counted.group_by(row.course_id))
    return dict(rows.all())
