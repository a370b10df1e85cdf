"""Decide from the status after a decision about a plan whether the decision counted."""

from collections.abc import Mapping
from typing import Final

from producer.contract.plans import Decision, PlanState, PlanStatus
from producer.errors import DecisionRefused

DECISION_HINT: Final = (
    "The decision may still count: look up the plan before you decide again. Check that a worker is"
    " running and serves the queue decisions."
)
"""What to do if no worker answered about a decision."""

_AFTER: Final[Mapping[Decision, frozenset[PlanState]]] = {
    Decision.APPROVE: frozenset(
        {PlanState.APPROVED, PlanState.APPLYING, PlanState.SWEEPING, PlanState.DONE}
    ),
    Decision.DISCARD: frozenset({PlanState.DISCARDED}),
}
"""The states in which a plan may be once a decision has counted."""


def decided(status: PlanStatus, decision: Decision | str, digest: str) -> PlanStatus:
    """Return the status of a plan after a decision that counted. Raises DecisionRefused."""
    after = _AFTER[Decision(decision)]
    plan = f"Plan {status.plan_id}"
    if status.state is PlanState.UNKNOWN:
        raise DecisionRefused(f"{plan} is not known. Check its id.")
    if status.digest not in (None, digest):
        raise DecisionRefused(
            f"{plan} was made again since, and its report has another digest. Nothing was decided;"
            " look at the new report, then decide again."
        )
    if status.state not in after:
        reason = f" {status.advice}" if status.advice else ""
        raise DecisionRefused(
            f"{plan} is {status.state}, so the decision to {Decision(decision)} it does not"
            f" count.{reason}"
        )
    return status
