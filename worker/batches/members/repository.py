"""Read the members of plans in SQL."""

from collections import defaultdict
from collections.abc import Collection
from functools import cache
from typing import Any

from sqlalchemy import Connection, ScalarSelect, bindparam, func, select
from sqlalchemy.orm import aliased

from producer.contract.plans import PlanState
from worker.database.sets import is_among, list_parameter
from worker.plan_models import PlanMember, PlanRow

_OF_PLAN = ("state", "request", "data_set_name", "detail")


def batches_of_plans(connection: Connection, batch_ids: Collection[str]) -> set[str]:
    """Return those of these batches that are members of plans, whatever became of the plans."""
    if not batch_ids:
        return set()
    dialect = connection.dialect.name
    parameters = list_parameter(dialect, set(batch_ids))
    return set(connection.scalars(_select_planned(dialect), parameters))


@cache
def _select_planned(dialect: str) -> Any:
    return select(PlanMember.batch_id).where(is_among(dialect, PlanMember.batch_id))


def members_of_plans(
    connection: Connection, batch_ids: Collection[str]
) -> dict[str, tuple[Any, list[Any]]]:
    """Return those of these batches that are members of plans, by id.

    Each comes with all members of its plan, in order. A row also has what its plan says: `state`,
    `request`, `data_set_name` and `detail`, and `waits_for` (`find_waits_for`).
    """
    dialect = connection.dialect.name
    rows = connection.execute(_select_members(dialect), list_parameter(dialect, set(batch_ids)))
    plans: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        plans[row.plan_id].append(row)
    wanted = set(batch_ids)
    return {
        row.batch_id: (row, members)
        for members in plans.values()
        for row in members
        if row.batch_id in wanted
    }


@cache
def _select_members(dialect: str) -> Any:
    member, plan = PlanMember, PlanRow
    wanted = select(member.plan_id).where(is_among(dialect, member.batch_id))
    return (
        select(
            *member.__table__.columns,
            *(getattr(plan, name) for name in _OF_PLAN),
            _select_waits_for().label("waits_for"),
        )
        .join(plan, plan.id == member.plan_id)
        .where(member.plan_id.in_(wanted))
        .order_by(member.plan_id, member.position)
    )


def find_waits_for(connection: Connection, plan_id: str) -> str | None:
    """Return the plan that comes before a snapshot; None if it need not wait.

    Of the snapshots of a data set, one at a time is applied, and meanwhile none is planned.
    """
    waits_for: str | None = connection.scalar(_WAITS_FOR, {"plan": plan_id})
    return waits_for


def _select_waits_for() -> ScalarSelect[Any]:
    plan, other = PlanRow, aliased(PlanRow)
    return (
        select(func.min(other.id))
        .where(
            plan.state.in_((PlanState.STAGED, PlanState.APPROVED)),
            plan.request["snapshot"].as_boolean(),
            other.state.in_((PlanState.APPLYING, PlanState.SWEEPING)),
            other.data_set_name == plan.data_set_name,
            other.request["snapshot"].as_boolean(),
        )
        .correlate(plan)
        .scalar_subquery()
    )


_WAITS_FOR = select(_select_waits_for()).where(PlanRow.id == bindparam("plan"))
