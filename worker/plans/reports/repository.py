"""Read what is shown of plans in SQL."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, func, select, tuple_

from producer.contract.plans import FINAL_STATES, PlanState
from worker.models import Course, Student
from worker.plan_models import PlanMember, PlannedDropRow, PlanRow

UNFINISHED_STATES: Final = tuple(
    state for state in PlanState if state not in (PlanState.UNKNOWN, *FINAL_STATES)
)
"""The states of plans that workers or people have something to do with."""


class Oldest(NamedTuple):
    """The earliest moment at which a batch counts whose plan has not ended."""

    plan_id: str
    moment: datetime
    state: PlanState


_DROPPED: Final = "dropped"
"""What a plan expects of an enrollment that it drops (`worker.snapshots.values.Fate`)."""


def find_drops(
    connection: Connection, plan_id: str, after: tuple[int, int] | None, size: int
) -> list[Any]:
    """Return the next `size` planned drops after a pair of keys, with names."""
    drop = PlannedDropRow
    statement = (
        select(
            drop.student_id,
            Student.sis_id.label("student_sis_id"),
            Student.name.label("student_name"),
            drop.course_id,
            Course.sis_id.label("course_sis_id"),
            Course.title.label("course_title"),
            drop.outcome,
        )
        .join(Student, Student.id == drop.student_id)
        .join(Course, Course.id == drop.course_id)
        .where(drop.plan_id == plan_id, drop.expected == _DROPPED)
        .order_by(drop.student_id, drop.course_id)
        .limit(size)
    )
    if after is not None:
        statement = statement.where(tuple_(drop.student_id, drop.course_id) > tuple_(*after))
    return list(connection.execute(statement))


class Unfinished(NamedTuple):
    """The plans in a state, and since when the first of them was stored or planned."""

    state: str
    plans: int
    since: datetime


def count_unfinished(connection: Connection) -> list[Unfinished]:
    """Return how many plans have not ended, by state; states without plans are left out."""
    since = func.min(func.coalesce(PlanRow.planned_at, PlanRow.staged_at))
    counted = (
        select(PlanRow.state, func.count(), since)
        .where(PlanRow.state.in_(UNFINISHED_STATES))
        .group_by(PlanRow.state)
    )
    return [Unfinished(*row) for row in connection.execute(counted)]


class Hindered(NamedTuple):
    """How many plans cannot continue, and which of them is the first one, with the reason."""

    plans: int
    plan_id: str
    detail: str


def find_hindered(connection: Connection) -> Hindered | None:
    """Return the plans whose last attempt came to no end; None if there are none."""
    counted = func.count().over()
    found = (
        select(counted.label("plans"), PlanRow.id.label("plan_id"), PlanRow.detail)
        .where(PlanRow.state.in_(UNFINISHED_STATES), PlanRow.detail.is_not(None))
        .order_by(PlanRow.staged_at)
        .limit(1)
    )
    row = connection.execute(found).one_or_none()
    return None if row is None else Hindered(row.plans, row.plan_id, row.detail or "")


def oldest_unfinished(connection: Connection, before: datetime | None = None) -> Oldest | None:
    """Return the plan with the earliest moment that has not ended, or None.

    With `before`, only plans with an earlier moment count. The moment of a plan is the earliest of
    its batches.
    """
    member = PlanMember
    earliest = (
        select(member.plan_id, member.moment, PlanRow.state)
        .join(PlanRow, PlanRow.id == member.plan_id)
        .where(PlanRow.state.in_(UNFINISHED_STATES), member.moment.is_not(None))
        .order_by(member.moment)
        .limit(1)
    )
    if before is not None:
        earliest = earliest.where(member.moment < before)
    row = connection.execute(earliest).one_or_none()
    if row is None or row.moment is None:
        return None
    return Oldest(row.plan_id, row.moment, PlanState(row.state))
