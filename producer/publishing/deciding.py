"""Find out whether a decision about a plan counted, and whether it is known what a plan drops."""

from collections.abc import Mapping
from typing import Final

from producer.contract.plans import Decision, PlannedDropsPage, PlanState, PlanStatus
from producer.errors import AnswerNotUnderstood, DecisionRefused, DropsNotKnown, LookupFailed

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


def decided(
    status: PlanStatus, decision: Decision | str, digest: str, failure: LookupFailed | None = None
) -> PlanStatus:
    """Return the status of a plan after a decision that counted. Raises DecisionRefused.

    `failure` is what a worker reported. The decision may have counted all the same, because its
    message may arrive twice: so a repeated decision does no harm.
    """
    if status.state is PlanState.UNKNOWN:
        raise DecisionRefused(unknown_plan(status.plan_id), is_unknown=True)
    if status.digest in (None, digest) and status.state in _AFTER[Decision(decision)]:
        return status
    if failure is not None:
        raise DecisionRefused(reason_of(failure)) from failure
    if status.digest not in (None, digest):
        raise DecisionRefused(
            f"The report of the plan {status.plan_id} has another digest: the plan was made again,"
            " or the digest is that of another plan. Nothing was decided; look at the current"
            " report, then decide again."
        )
    state = f"The plan {status.plan_id} is {status.state}"
    advice = (status.advice or "").removeprefix(f"{state}. ")
    raise DecisionRefused(
        f"{state}, so the decision to {Decision(decision)} it does not count. {advice}".strip()
    )


def unknown_plan(plan_id: str) -> str:
    """Say that no plan has an id."""
    return (
        f"No plan with the id {plan_id} is known. Check the id: it is that of the last batch of the"
        " submission."
    )


def known_drops(plan_id: str, page: PlannedDropsPage) -> PlannedDropsPage:
    """Return a page of the drops of a plan. Raises DropsNotKnown if there is no report."""
    if page.state is not None:
        check_report(plan_id, page)
    return page


def check_report(plan_id: str, plan: PlannedDropsPage | PlanStatus) -> None:
    """Raise DropsNotKnown unless the plan has a report, which says what it drops."""
    match plan.state:
        case PlanState.UNKNOWN:
            raise DropsNotKnown(unknown_plan(plan_id), is_unknown=True)
        case PlanState.STAGED:
            raise DropsNotKnown(
                f"The report of the plan {plan_id} is not made yet, so it is not known what it"
                " drops. Look the plan up, and try again once its state has changed."
            )
    if plan.planned_at is None:
        raise DropsNotKnown(
            f"The plan {plan_id} is {plan.state} and was never made, so it is not known what it"
            " would have dropped. Look up the plan: it says why."
        )


def reason_of(failure: LookupFailed) -> str:
    """Return what a worker reported about a decision.

    Raises AnswerNotUnderstood if the failure is one.
    """
    if isinstance(failure, AnswerNotUnderstood):
        raise failure
    return str(failure).removeprefix("The worker could not answer: ")
