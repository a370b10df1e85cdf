"""Define the tasks about plans: two lookups, and decisions."""

from functools import partial
from typing import Any

from celery import Celery

from producer.contract.batches import BatchStatus
from producer.contract.lookup_arguments import (
    LIMIT,
    PAIR_CURSOR,
    TEXT,
    InvalidArgument,
    checked_decision,
)
from producer.contract.plans import PlannedDropsPage, PlanState, PlanStatus
from producer.contract.routing import TaskName
from producer.fields import MAX_LOOKUP
from worker.plans.decisions import DecisionRefused, decide
from worker.plans.reports.lookups import plan_or_queued, plan_status, planned_drops
from worker.tasks.asking import Unanswerable, answered, checked, registering
from worker.tasks.lookups import statuses_of
from worker.tasks.services import Services


def register_plans(app: Celery, services: Services) -> None:
    """Register the lookups of plans, and the task for decisions.

    A decision is answered like a lookup: its client waits for the state that follows from it. If
    it has no effect, the state shows that, and `advice` says why. It only gets here from the queue
    of decisions (`worker.messaging.envelope.check_queue`).
    """
    lookup = registering(app, services)
    answer = partial(answered, services)
    database, clock = services.database, services.clock

    @lookup(name=TaskName.PLAN.value)
    def plan(plan_id: Any) -> Any:
        checked_id = checked(TEXT, plan_id, "plan_id")
        return answer(lambda: _status(services, checked_id))

    @lookup(name=TaskName.PLANNED_DROPS.value)
    def drops(plan_id: Any, *, after: Any = None, limit: Any = MAX_LOOKUP) -> Any:
        checked_id = checked(TEXT, plan_id, "plan_id")
        last, page_size = checked(PAIR_CURSOR, after, "after"), checked(LIMIT, limit, "limit")
        return answer(lambda: _drops(services, checked_id, last, page_size))

    @lookup(name=TaskName.DECIDE.value)
    def decision(message: Any) -> Any:
        try:
            wanted = checked_decision(message)
        except InvalidArgument as error:
            raise Unanswerable(str(error)) from None

        def do() -> PlanStatus:
            refusal: dict[str, str] = {}
            try:
                decide(database, wanted.plan_id, wanted.decision, wanted.digest, clock=clock)
            except DecisionRefused as error:
                refusal["advice"] = str(error)
            else:
                services.cached.begin_generation()  # Copies say that its batches still wait.
            status = plan_status(database, wanted.plan_id, clock=clock)
            return status.model_copy(update=refusal)

        status = answer(do)
        services.plans_due.set()
        return status


def _drops(
    services: Services, plan_id: str, after: tuple[int, int] | None, size: int
) -> PlannedDropsPage:
    """Return a page of drops; every chunk of the plan may still wait in the queue."""
    page = planned_drops(services.database, plan_id, after, size)
    if page.state is not PlanState.UNKNOWN:
        return page
    state = _status(services, plan_id).state
    if state in {PlanState.UNKNOWN, PlanState.STAGED}:
        return PlannedDropsPage(state=state)
    return planned_drops(services.database, plan_id, after, size)


def _status(services: Services, plan_id: str) -> PlanStatus:
    """Return the status of a plan, of which every chunk may still wait in the queue."""
    find_batch = partial(_batch, services, plan_id)
    return plan_or_queued(services.database, plan_id, find_batch, clock=services.clock)


def _batch(services: Services, batch_id: str) -> BatchStatus | None:
    """Return the status of a batch; None if there is no mark of it."""
    if not (marks := services.marks.of_batches([batch_id])):
        return None
    (batch,) = statuses_of(services, [batch_id], marks, refusals=False, with_files=False)
    return batch
