"""Decide about plans that wait: approve or discard each, once, and only as it was shown."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from producer.contract.plans import Decision, PlanState
from worker.data_sets.repository import find_data_set
from worker.database.engine import Database, transaction
from worker.moments import Clock, own_clock
from worker.plans.remedies import cause_in
from worker.plans.repository import (
    find_plans_of,
    finish,
    lock_plan,
    time_now,
    update_plan,
)
from worker.plans.requests import request_of
from worker.plans.snapshot_rules import problem_of_age

DISCARDED = "It was discarded by a decision."

_NOT_HELD = {
    PlanState.STAGED: "its report is not made yet; wait until it is held",
    PlanState.PLANNED: "it is a dry run, which is never applied; submit the file with `--hold"
    " always` to decide about it",
    PlanState.APPROVED: "it is already approved; a worker is about to apply it",
    PlanState.APPLYING: "it is already being applied",
    PlanState.SWEEPING: "it is already being applied",
    PlanState.DONE: "it is already applied",
}
"""Why a plan in a state cannot be decided about."""


class DecisionRefused(Exception):
    """A decision has no effect; the message says why, for the person who decided."""


def decide(
    database: Database,
    plan_id: str,
    decision: Decision,
    digest: str | None,
    *,
    clock: Clock = own_clock,
) -> None:
    """Approve or discard a plan.

    `digest` is that of the report that was shown; it may only be None for the operator, who may
    also discard a plan that has no report yet, or that cannot be finished. Raises DecisionRefused,
    DBAPIError.
    """

    def work(connection: Connection) -> None:
        plan = lock_plan(connection, plan_id)
        if plan is None:
            others = find_plans_of(connection, plan_id)
            hint = (
                f"It is a part of the plan {others[0]}: use that id." if others else "Check the id."
            )
            raise DecisionRefused(f"There is no plan {plan_id}. {hint}")
        now = time_now(connection, clock)
        by_operator = decision is Decision.DISCARD and digest is None and may_be_discarded(plan)
        if not by_operator:
            _require_held(plan, digest)
        if decision is Decision.DISCARD:
            values = finish(connection, plan, PlanState.DISCARDED, now, detail=_detail(plan))
        else:
            _require_newest(connection, plan)
            values = {"state": PlanState.APPROVED, "due_at": now, "attempts": 0}
        update_plan(connection, plan_id, {**values, "decided_at": now})

    transaction(database, work)


def may_be_discarded(plan: Any) -> bool:
    """Return whether the operator may discard a plan: nothing of it is applied, or it is stuck."""
    if plan.state == PlanState.APPLYING:
        return plan.detail is not None
    return plan.state in (PlanState.STAGED, PlanState.HELD, PlanState.APPROVED)


def _detail(plan: Any) -> str:
    if plan.state != PlanState.APPLYING:
        return f"{DISCARDED} Nothing was applied."
    return (
        f"{DISCARDED} What had been applied stays, and no enrollment was dropped for being absent"
        f" from the file. The plan could not be finished: {cause_in(plan.detail)}"
    )


def _require_held(plan: Any, digest: str | None) -> None:
    """Check that a plan waits for a decision about this very report. Raises DecisionRefused."""
    if plan.state == PlanState.DISCARDED:
        raise DecisionRefused(f"The plan {plan.id} is discarded. {plan.detail or ''}".strip())
    if plan.state != PlanState.HELD:
        reason = _NOT_HELD[PlanState(plan.state)]
        raise DecisionRefused(f"The plan {plan.id} does not wait for a decision: {reason}.")
    if plan.digest != digest:
        raise DecisionRefused(
            f"The plan {plan.id} was made again after the report was shown, or the digest belongs"
            " to another report. Look at the current report, then decide again."
        )


def _require_newest(connection: Connection, plan: Any) -> None:
    """Check that no newer snapshot of the data set was applied. Raises DecisionRefused."""
    if not request_of(plan).snapshot or plan.data_set_name is None:
        return
    data_set = find_data_set(connection, plan.data_set_name)
    swept_at: datetime | None = data_set and data_set.swept_at
    if (problem := problem_of_age(plan.data_set_name, plan.moment, swept_at)) is not None:
        raise DecisionRefused(f"The plan {plan.id} cannot be approved. {problem}")
