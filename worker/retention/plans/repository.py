"""Find and remove old plans in SQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, tuple_

from producer.contract.plans import FINAL_STATES
from worker.plan_models import PlanMember, PlannedDropRow, PlannedRefusal, PlanRow

_PARTS = (
    (PlannedRefusal, (PlannedRefusal.id,)),
    (PlannedDropRow, (PlannedDropRow.student_id, PlannedDropRow.course_id)),
)
"""What may be large of a plan, each table with its key within the plan."""


def count_old_plans(connection: Connection, before: datetime) -> int:
    """Count the plans that ended before a moment."""
    return connection.scalar(select(func.count()).where(*_has_ended(before))) or 0


def find_old_plans(connection: Connection, before: datetime, size: int) -> list[str]:
    """Return at most `size` plans that ended before a moment."""
    old = select(PlanRow.id).where(*_has_ended(before)).order_by(PlanRow.id).limit(size)
    return list(connection.scalars(old))


def _has_ended(before: datetime) -> tuple[Any, ...]:
    return PlanRow.state.in_(FINAL_STATES), PlanRow.finished_at < before


def delete_parts(connection: Connection, plan_id: str, size: int) -> int:
    """Remove at most `size` rows of each part of a plan; return how many were removed."""
    removed = 0
    for model, key in _PARTS:
        page = select(*key).where(model.plan_id == plan_id).order_by(*key).limit(size)
        condition = tuple_(*key).in_(page) if len(key) > 1 else key[0].in_(page)
        of_plan = delete(model).where(model.plan_id == plan_id, condition)
        removed += connection.execute(of_plan).rowcount
    return removed


def delete_plan(connection: Connection, plan_id: str) -> int:
    """Remove a plan whose parts are gone; return 1, or 0 if it is gone already."""
    connection.execute(delete(PlanMember).where(PlanMember.plan_id == plan_id))
    return connection.execute(delete(PlanRow).where(PlanRow.id == plan_id)).rowcount
