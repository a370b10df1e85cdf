"""Say what a plan waits for and what to do: pure functions, for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from producer.contract.plans import PlanState, Reason
from worker.batches.state import STALLED_SECONDS
from worker.plans.members import has_all_chunks, is_mixed

_RESUME = "submit it again under the same batch id (`enroll submit --resume` does that)"


def advice_on(
    plan: Any, members: Sequence[Any], reasons: Sequence[Reason], now: datetime
) -> str | None:
    """Return what to do about a plan, or why it was discarded; None if nothing is wrong."""
    match PlanState(plan.state):
        case PlanState.HELD:
            why = " ".join(reason.message for reason in reasons)
            return (
                f"{why} Nothing of it is applied. Look at the report, then approve or discard it"
                f" (`enroll approve {plan.id}`, `enroll discard {plan.id}`)."
            ).strip()
        case PlanState.STAGED:
            return _of_staged(plan, members, now)
        case PlanState.DISCARDED:
            return f"{plan.detail or 'It was discarded.'} Nothing more of it will be applied."
        case PlanState.APPLYING | PlanState.SWEEPING | PlanState.APPROVED if plan.detail:
            return f"It cannot go on: {plan.detail}"
        case _:
            return None


def is_stalled(plan: Any, members: Sequence[Any], now: datetime) -> bool:
    """Return whether a plan is incomplete, and nothing has arrived for it for long."""
    if plan.state != PlanState.STAGED:
        return False
    if any(map(is_mixed, members)):
        return True
    newest = max(m.staged_at or plan.staged_at for m in members)
    is_quiet = (now - newest).total_seconds() >= STALLED_SECONDS
    return is_quiet and not all(map(has_all_chunks, members))


def _of_staged(plan: Any, members: Sequence[Any], now: datetime) -> str | None:
    for member in members:
        if is_mixed(member):
            return (
                f"The chunks of the batch {member.batch_id} do not belong together: two different"
                " submissions used this batch id. Submit the right file again under another one."
            )
    if not is_stalled(plan, members, now):
        return plan.detail and f"The plan could not be made yet: {plan.detail}"
    missing = [member.batch_id for member in members if not has_all_chunks(member)]
    return (
        f"Chunks of {', '.join(missing)} are missing, and nothing has arrived for"
        f" {STALLED_SECONDS:.0f} s. Nothing is planned or applied before all have arrived:"
        f" {_RESUME}."
    )
