"""Say what a plan waits for and what to do: pure functions, for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from producer.contract.plans import PlanState, Reason
from producer.contract.printable import shell_argument
from worker.batches.members.arrival import advice_on_arrival, advice_on_waiting
from worker.batches.state import DeadChunks
from worker.plans.poison import way_out
from worker.plans.requests import request_of
from worker.plans.times import MANY_ATTEMPTS

_LOST = (
    "Workers have started to make this plan {} times, and none of them finished it. If they run"
    " out of memory, ask the operator to give them more. If a record kills them, ask the operator"
    " to discard the plan (`enroll discard {}`). {}"
)


def advice_on(
    plan: Any,
    members: Sequence[Any],
    reasons: Sequence[Reason],
    now: datetime,
    waits_for: str | None = None,
    dead_chunks: Sequence[DeadChunks] = (),
) -> str | None:
    """Return what to do about a plan, or why it was discarded; None if nothing is wrong.

    `waits_for` is the plan that comes before it, and `dead_chunks` are those of its batches.
    """
    waiting = advice_on_waiting(waits_for, plan.data_set_name)
    match PlanState(plan.state):
        case PlanState.HELD:
            why = " ".join(reason.message for reason in reasons)
            word = shell_argument(plan.id)
            return (
                f"{why} Nothing is applied yet. Look at the report, then approve or discard it"
                f" (`enroll approve {word}`, `enroll discard {word}`)."
            ).strip()
        case PlanState.STAGED:
            if plan.attempts > MANY_ATTEMPTS and plan.detail is None:
                request = request_of(plan)
                return _LOST.format(plan.attempts, shell_argument(plan.id), way_out(request))
            waits = plan.detail and f"The plan could not be made yet: {plan.detail}"
            parts = (advice_on_arrival(members, dead_chunks, now), waiting or waits)
            return " ".join(filter(None, parts)) or None
        case PlanState.DISCARDED:
            return plan.detail or "It was discarded."
        case PlanState.APPLYING | PlanState.SWEEPING | PlanState.APPROVED:
            return waiting or (plan.detail and f"It cannot continue: {plan.detail}")
        case _:
            return None
