"""The advice on a plan names the next step for this kind of plan, in every state."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import PlanState
from producer.schemas import Kind
from worker.batches.state import STALLED_SECONDS
from worker.plans.advice import advice_on
from worker.plans.deaths import Deaths
from worker.plans.poison import way_out
from worker.plans.times import MANY_ATTEMPTS

NOW = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
QUIET = NOW - timedelta(seconds=STALLED_SECONDS + 1)


def request(purpose: PlanPurpose = PlanPurpose.APPLY, *, snapshot: bool = False) -> PlanRequest:
    members = (PlanMember(batch_id="b", kind=Kind.ENROLLMENTS),)
    return PlanRequest(id="b", members=members, purpose=purpose, snapshot=snapshot)


DRY_RUN = request(PlanPurpose.REPORT)
DRY_RUN_OF_SNAPSHOT = request(PlanPurpose.REPORT, snapshot=True)
SNAPSHOT = request(snapshot=True)
HELD = request()
WITHOUT_PLAN = "Submit the file without a plan"


def advice(plan: PlanRequest, state: PlanState, *, arrived: int = 2, **fields: Any) -> str:
    row = {"id": "b", "state": state, "detail": None, "attempts": 0, **fields}
    row |= {"data_set_name": "sis", "request": plan.model_dump(mode="json")}
    member = SimpleNamespace(
        batch_id="b", chunks=2, staged=arrived, rows=2, rows_through=2, staged_at=QUIET
    )
    return advice_on(SimpleNamespace(**row), [member], (), NOW) or ""


@pytest.mark.parametrize("plan", [DRY_RUN, DRY_RUN_OF_SNAPSHOT, SNAPSHOT, HELD])
@pytest.mark.parametrize(
    ("state", "fields", "words"),
    [
        (PlanState.STAGED, {}, ""),
        (PlanState.STAGED, {"arrived": 1}, "Nothing is planned or applied before all have arrived"),
        (PlanState.STAGED, {"attempts": MANY_ATTEMPTS + 1}, "`enroll discard b`"),
        (PlanState.STAGED, {"detail": "no right."}, "could not be made yet: no right."),
        (PlanState.HELD, {}, "`enroll approve b`, `enroll discard b`"),
        (PlanState.APPROVED, {}, ""),
        (PlanState.APPLYING, {}, ""),
        (PlanState.APPLYING, {"detail": "a dead letter."}, "It cannot continue: a dead letter."),
        (PlanState.SWEEPING, {}, ""),
        (PlanState.PLANNED, {}, ""),
        (PlanState.DONE, {}, ""),
        (PlanState.DISCARDED, {"detail": "It expired."}, "It expired."),
    ],
)
def test_the_advice_fits_the_state(
    plan: PlanRequest, state: PlanState, fields: dict[str, Any], words: str
) -> None:
    found = advice(plan, state, **fields)
    assert words in found
    assert bool(words) == bool(found)


@pytest.mark.parametrize(
    ("plan", "may_go_without_plan", "words"),
    [
        (DRY_RUN, False, "plan the file again under another batch id"),
        (DRY_RUN_OF_SNAPSHOT, False, "plan the file again under another batch id"),
        (SNAPSHOT, False, "submit the snapshot again under another batch id"),
        (HELD, True, "without a plan, under another batch id"),
    ],
)
def test_what_must_not_be_applied_alone_is_not_to_be_submitted_without_a_plan(
    plan: PlanRequest, may_go_without_plan: bool, words: str
) -> None:
    lost = advice(plan, PlanState.STAGED, attempts=MANY_ATTEMPTS + 1)
    given_up = Deaths(("b", 1), 3).problem(plan)
    for text in (lost, str(given_up), way_out(plan)):
        assert words in text
        assert (WITHOUT_PLAN in text) == may_go_without_plan
