"""Decide what undoing a batch means for its plan: discard it, wait for it, or nothing."""

from typing import Final

from sqlalchemy import Connection

from producer.contract.plans import Decision, PlanState
from producer.contract.printable import shell_argument
from worker.batches.members.repository import members_of_plans
from worker.database.engine import Database
from worker.moments import Clock
from worker.plans.decisions import DecisionRefused, decide
from worker.undo.repository import first_applied
from worker.undo.values import CannotUndo

_WAITING: Final = (PlanState.STAGED, PlanState.HELD, PlanState.APPROVED)
_APPLYING: Final = (PlanState.APPLYING, PlanState.SWEEPING)
_NOT_TO_APPLY: Final = (PlanState.PLANNED, PlanState.DISCARDED)


def waiting_plan(connection: Connection, batch_id: str) -> str | None:
    """Return the plan of a batch of which nothing is applied yet; None if there is no such plan.

    Raises CannotUndo for a plan that is being applied, or of which nothing ever was or will be. A
    plan that was discarded because it could not go on may have applied a part of the batch.
    """
    members = members_of_plans(connection, [batch_id])
    if batch_id not in members:
        return None
    member, _ = members[batch_id]
    if member.state == PlanState.APPLYING and member.detail is not None:
        raise CannotUndo(
            f"The plan {member.plan_id} of the batch {batch_id} cannot continue: {member.detail} To"
            f" undo what was applied, ask the operator to discard the plan (`enroll discard"
            f" {shell_argument(member.plan_id)}`); then undo the batch."
        )
    if member.state in _APPLYING:
        raise CannotUndo(
            f"The plan {member.plan_id} of the batch {batch_id} is being applied. Wait until it is"
            f" done (`enroll plan {shell_argument(member.plan_id)}`), then undo the batch."
        )
    if member.state in _NOT_TO_APPLY and first_applied(connection, batch_id) is None:
        raise CannotUndo(
            f"No part of the batch {batch_id} was applied: its plan {member.plan_id} is"
            f" {member.state}. There is nothing to undo."
        )
    return str(member.plan_id) if member.state in _WAITING else None


def discard(database: Database, plan_id: str, *, clock: Clock) -> None:
    """Discard a plan of which nothing is applied. Raises CannotUndo, DBAPIError."""
    try:
        decide(database, plan_id, Decision.DISCARD, None, clock=clock)
    except DecisionRefused as error:
        raise CannotUndo(f"The plan {plan_id} cannot be discarded: {error}") from None
