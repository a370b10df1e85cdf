"""Answer the HTTP calls about plans: the report, the planned drops, and decisions."""

from typing import Annotated, Any

from fastapi import Depends
from pydantic import TypeAdapter

from producer.contract.lookups import PairCursor
from producer.contract.plans import PlanStatus
from producer.errors import DecisionRefused
from producer.files.planned_drops import csv_pages
from producer.publishing.deciding import check_report
from producer.web.access import CallerOfRoute
from producer.web.bodies import PlannedDrops
from producer.web.cursors import read_cursor, write_cursor
from producer.web.disclosing import Disclosing, Disclosures
from producer.web.downloads import CSV, paged_file
from producer.web.lookups import known_form
from producer.web.parameters import FrontServices
from producer.web.plan_parameters import (
    AcceptedDrops,
    DropCursor,
    DropLimit,
    GivenDecision,
    PlanIdInPath,
)
from producer.web.problems import Refused

_PLACE: TypeAdapter[PairCursor] = TypeAdapter(PairCursor)

UNKNOWN_PLAN = "unknown_plan"


async def _visible_plan(
    plan_id: PlanIdInPath, services: FrontServices, caller: CallerOfRoute
) -> PlanStatus:
    """Return the status of a plan that the caller may see. Raises Refused."""
    status = await services.owners.find_plan(caller, known_form(plan_id, "unknown_plan"))
    if status is None:
        raise Refused(404, UNKNOWN_PLAN, "No plan with this id is known. Check the id.")
    return status


VisiblePlan = Annotated[PlanStatus, Depends(_visible_plan)]


async def get_plan(status: VisiblePlan, disclosures: Disclosures) -> PlanStatus:
    """Return the state and the report of a plan.

    Without the scope `lookup`, only plans of the same caller are known.
    """
    await _record_plan(status, disclosures)
    return status


async def _record_plan(status: PlanStatus, disclosures: Disclosing) -> None:
    """Record that a report is about to be shown, if its refusals may quote ids."""
    if refusals := sum(batch.books.rejected for batch in status.batches):
        await disclosures.record("plan_report", plan=status.plan_id, refusals=refusals)


async def get_drops(
    status: VisiblePlan,
    services: FrontServices,
    disclosures: Disclosures,
    accept: AcceptedDrops = "application/json",
    limit: DropLimit = 100,
    cursor: DropCursor = None,
) -> Any:
    """Return a page of the enrollments that a plan drops; with `Accept: text/csv`, all as a file.

    The drops are in the order of the keys of students and courses. Before the report of the plan is
    made, they are not known, and the response is 409.
    """
    plan_id = status.plan_id
    check_report(plan_id, status)
    if CSV in accept:
        await disclosures.record("plan_drops", plan=plan_id, drops=status.absent.dropped)
        pages = csv_pages(services.blocking.planned_drops(plan_id))
        return await paged_file(pages, "drops.csv", f"{CSV}; charset=utf-8", services.downloads)
    after = None if cursor is None else read_cursor(_PLACE, cursor)
    page = await services.client.planned_drop_page(plan_id, after=after, limit=limit)
    shown = [drop.student_sis_id for drop in page.drops]
    await disclosures.record("plan_drops", shown, plan=plan_id)
    end = None if page.next is None else write_cursor(_PLACE, page.next)
    return PlannedDrops(drops=page.drops, next=end)


async def decide(
    plan_id: PlanIdInPath,
    decision: GivenDecision,
    services: FrontServices,
    disclosures: Disclosures,
) -> PlanStatus:
    """Approve or discard a plan that is held, and return its status afterwards.

    `digest` is that of the report that was shown. If the plan was made again since, if it is not
    held, or if another decision came first, the response is 409 and nothing happens.
    """
    await disclosures.check()
    own_id = known_form(plan_id, "unknown_plan")
    try:
        status = await services.client.decide(own_id, decision.decision, decision.digest)
    except DecisionRefused as error:
        if error.is_unknown:
            raise Refused(404, UNKNOWN_PLAN, str(error)) from None
        raise
    await _record_plan(status, disclosures)
    return status
