"""Read what the chunks of a stored plan say of it. Knows no SQL."""

from typing import Any

from pydantic import ValidationError

from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest


def request_of(plan: Any) -> PlanRequest:
    """Return what the chunks of a plan say of it.

    What another version of the worker has accepted and stored stays readable, although this one may
    refuse it in a message, or not know a field of it.
    """
    try:
        return PlanRequest.model_validate(plan.request, extra="ignore")
    except ValidationError:
        values = {name: plan.request.get(name) for name in ("id", "snapshot", "adopt", "hold")}
        members = tuple(
            PlanMember.model_validate(m, extra="ignore") for m in plan.request["members"]
        )
        purpose = PlanPurpose(plan.request["purpose"])
        return PlanRequest.model_construct(members=members, purpose=purpose, **values)
