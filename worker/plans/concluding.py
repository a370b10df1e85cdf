"""Make the plan of a batch, and decide whether it is only shown, held or applied at once."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from producer.contract.plan_requests import PlanPurpose, PlanRequest
from producer.contract.plans import PlanState, Reason
from producer.schemas import Kind
from worker.data_sets.repository import find_data_set
from worker.database.engine import Database
from worker.database.planning import PlanRefused
from worker.database.temporary_tables import TablesRewritten
from worker.moments import Clock
from worker.plans.applying import chunks_of, origin_of
from worker.plans.deaths import Deaths
from worker.plans.heartbeat import beating
from worker.plans.holder import Holder
from worker.plans.repository import LeaseLost, find_ongoing_snapshot
from worker.plans.requests import request_of
from worker.plans.snapshot_rules import problem_of_age, problem_of_data_set
from worker.plans.stored import Stored
from worker.plans.temporary.making import MadePlan, PlanInput, StagedBatch, make_plan
from worker.plans.temporary.report import PlanOvertaken
from worker.plans.times import BLOCKED, Expiry
from worker.snapshots.hold import reasons_to_hold
from worker.snapshots.rules import read_rules

log = logging.getLogger(__name__)


class PlanOutdated(Exception):
    """Another snapshot of the data set began to be applied while this plan was made."""


def plan_chunks(
    database: Database, holder: Holder, members: Sequence[Any], clock: Clock, expiry: Expiry
) -> None:
    """Make the plan of stored chunks, and change its state.

    It waits while another snapshot of its data set is being applied. A plan that cannot be made is
    discarded, with the reason. Raises LeaseLost, DBAPIError.
    """
    request = request_of(holder.plan)
    name = holder.plan.data_set_name
    with database.reading() as connection:
        data_set = None if name is None else find_data_set(connection, name)
        blocked = _is_blocked(connection, holder, request, data_set)
    if blocked:
        _wait(holder)
        return
    deaths = Deaths.of(holder.plan)
    problem = _problem(holder.plan, data_set) if request.snapshot else None
    if (problem := problem or deaths.problem(request)) is not None:
        holder.do(lambda c: holder.finish(c, PlanState.DISCARDED, detail=problem))
        return
    batches = [_batch(database, holder, member, deaths) for member in members]
    own, moment = data_set and data_set.id, holder.plan.moment
    # Once a worker was lost, the chunk that is planned is the one that the next may die of.
    reads_ahead = not holder.plan.attempts
    plan = PlanInput(holder.plan.id, request, moment, batches, own, reads_ahead)
    conclude = partial(_conclude, holder=holder, request=request, data_set=data_set, expiry=expiry)
    try:
        with beating(holder) as stop_beating:
            make_plan(
                database,
                plan,
                conclude,
                on_chunk=holder.renew,
                before_conclusion=stop_beating,
                clock=clock,
            )
    except PlanRefused as error:
        detail = f"The plan could not be made: {error}"
        holder.do(lambda c: holder.finish(c, PlanState.DISCARDED, detail=detail))
    except PlanOvertaken as error:
        raise LeaseLost(holder.plan.id) from error
    except (PlanOutdated, TablesRewritten) as error:
        log.info("The plan %s is made again: %s", holder.plan.id, error)
        _wait(holder)


def _batch(database: Database, holder: Holder, member: Any, deaths: Deaths) -> StagedBatch:
    def chunks(*, changing: bool = False) -> Iterator[Stored]:
        numbered = chunks_of(database, holder, member, changing=changing)
        return deaths.watch(holder, member.batch_id, numbered)

    kind, origin = Kind(member.kind), origin_of(member)
    return StagedBatch(member.batch_id, kind, origin, chunks, partial(chunks, changing=True))


def _wait(holder: Holder) -> None:
    """Release the plan for a moment, for example until another one of its data set is done."""
    holder.do(lambda c: holder.change(c, due_at=holder.now(c) + BLOCKED, detail=None))


def _is_blocked(
    connection: Connection, holder: Holder, request: PlanRequest, data_set: Any | None
) -> bool:
    """Return whether another snapshot of the data set is being applied."""
    if not request.snapshot or data_set is None:
        return False
    return find_ongoing_snapshot(connection, data_set.id, holder.plan.id) is not None


def _problem(plan: Any, data_set: Any | None) -> str | None:
    """Return why a snapshot cannot be planned any more, or None."""
    problem = problem_of_data_set(plan.data_set_name, data_set)
    if problem is not None or data_set is None:
        return problem
    return problem_of_age(plan.data_set_name, plan.moment, data_set.swept_at)


def _conclude(
    connection: Connection,
    made: MadePlan,
    *,
    holder: Holder,
    request: PlanRequest,
    data_set: Any | None,
    expiry: Expiry,
) -> None:
    """Store the report of a plan and its next state. Raises LeaseLost, PlanOutdated."""
    if request.snapshot and data_set is not None:
        present = find_data_set(connection, data_set.name)
        is_ongoing = _is_blocked(connection, holder, request, data_set)
        if is_ongoing or present is None or present.swept_at != data_set.swept_at:
            raise PlanOutdated("another snapshot of its data set began to be applied")
    reasons = _reasons(request, made, data_set)
    report = _report(made, reasons)
    now = holder.now(connection)
    values = {
        "report": report,
        "digest": digest_of(made.digest, report),
        "planned_at": made.planned_at,
        "data_set": data_set and data_set.id,
        "detail": None,
    }
    if request.purpose is PlanPurpose.REPORT:
        holder.finish(connection, PlanState.PLANNED, **values)
    elif reasons:
        due_at = made.planned_at + expiry.held
        holder.change(connection, state=PlanState.HELD, due_at=due_at, progress=None, **values)
    else:
        holder.change(connection, state=PlanState.APPROVED, due_at=now, progress=None, **values)


def _reasons(request: PlanRequest, made: MadePlan, data_set: Any | None) -> Sequence[Reason]:
    """Return why a plan has to be held; empty if it may be applied at once."""
    rules = read_rules(None if data_set is None else data_set.rules)
    return reasons_to_hold(request, rules, made.absence, made.batches[-1])


def _report(made: MadePlan, reasons: Sequence[Reason]) -> dict[str, Any]:
    """Return the report of a plan as it is stored and shown."""
    report: dict[str, Any] = {
        "reasons": [reason.model_dump(mode="json") for reason in reasons],
        "batches": [batch.model_dump(mode="json") for batch in made.batches],
    }
    if made.absence is None:
        return report
    return report | {
        "owned_before": made.absence.owned_before,
        "absent": made.absence.absent.model_dump(mode="json"),
        "courses": [course.model_dump(mode="json") for course in made.absence.courses],
    }


def digest_of(made: str, report: dict[str, Any]) -> str:
    """Return the digest that decisions name: of what the plan does, and of why it is held."""
    text = json.dumps([made, report], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
