"""Read and write in SQL what becomes of the enrollments that an applied snapshot does not name.

Every function takes an open connection. Nothing here knows the rules or commits.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Integer, bindparam, delete, func, select, tuple_, update

from worker.database.sets import Columns, row_parameters, rows_as_table
from worker.models import Pair, StudentCourse
from worker.plan_models import ADOPTED, AlsoEnrolledBy, PlannedDropRow
from worker.snapshots.repository import is_current, is_pair
from worker.snapshots.values import Fate

_PAIR: Final[Columns] = {"student_id": Integer(), "course_id": Integer()}


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
    return select(*source.c, row.data_set).join(row, is_pair(row, source.c))


def find_heirs(connection: Connection, pairs: Collection[Pair], data_set: int) -> dict[Pair, int]:
    """Return the other data sets that name pairs, the one that did so last for each."""
    dialect = connection.dialect.name
    source, note = rows_as_table(dialect, _PAIR), AlsoEnrolledBy
    notes: Any = (
        select(*source.c, note.data_set)
        .join(note, is_pair(note, source.c))
        .where(note.data_set != data_set, is_current(connection, note))
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
