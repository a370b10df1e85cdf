"""Start to apply a plan, unless another snapshot of its data set comes before it or replaces it."""

from sqlalchemy import Connection

from producer.contract.plans import PlanState
from worker.data_sets.repository import begin_sweep
from worker.database.enrollment_lock import lock_enrollments
from worker.plans.holder import Holder
from worker.plans.repository import (
    find_ongoing_snapshot,
    find_waiting_snapshots,
    finish,
    lock_data_set,
    update_plan,
)
from worker.plans.snapshot_rules import problem_of_age
from worker.plans.times import BLOCKED


def start_applying(holder: Holder) -> None:
    """Change an approved plan to one that is being applied, in one transaction.

    A snapshot then is the newest one of its data set: older requests of the data set open nothing
    from now on, and older snapshots that wait for a decision are discarded. It waits while another
    one is being applied, and is discarded if it is older than the last one. Raises LeaseLost,
    DBAPIError.
    """
    start = _start_snapshot if holder.plan.request["snapshot"] else _start
    holder.do(lambda connection: start(connection, holder))


def _start(connection: Connection, holder: Holder) -> None:
    now = holder.now(connection)
    holder.change(connection, state=PlanState.APPLYING, due_at=now, detail=None)


def _start_snapshot(connection: Connection, holder: Holder) -> None:
    plan = holder.plan
    # The lock on all enrollments comes first, as in every transaction that drops.
    lock_enrollments(connection, exclusive=True)
    swept_at = lock_data_set(connection, plan.data_set)
    if find_ongoing_snapshot(connection, plan.data_set, plan.id) is not None:
        holder.change(connection, due_at=holder.now(connection) + BLOCKED)
        return
    if (problem := problem_of_age(plan.data_set_name, plan.moment, swept_at)) is not None:
        holder.finish(connection, PlanState.DISCARDED, detail=problem)
        return
    begin_sweep(connection, plan.data_set, plan.moment)
    _start(connection, holder)
    for older in find_waiting_snapshots(connection, plan.data_set, plan.moment):
        detail = (
            f"A newer snapshot of the data set {plan.data_set_name}, the plan {plan.id}, has"
            " already been applied, or is being applied. Nothing of this one was applied."
        )
        now = holder.now(connection)
        values = finish(connection, older, PlanState.DISCARDED, now, detail=detail)
        update_plan(connection, older.id, values)
