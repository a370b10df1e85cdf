"""Read what is shown of plans in SQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, tuple_

from producer.contract.plans import PlanState
from worker.models import Course, Student
from worker.plan_models import PlannedDropRow, PlanRow

_DROPPED = "dropped"
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


def count_waiting(connection: Connection) -> tuple[int, datetime | None]:
    """Return how many plans wait for a decision, and since when the first of them does."""
    held = select(func.count(), func.min(PlanRow.planned_at)).where(PlanRow.state == PlanState.HELD)
    count, since = connection.execute(held).one()
    return count, since
