"""Look up plans for the queue, the commands and the metrics. Reads only; knows no Celery."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from producer.contract.batches import AppliedChunks, BatchState, BatchStatus
from producer.contract.plans import (
    UNKNOWN_PLAN,
    AbsentRows,
    CourseDrops,
    PlannedBatch,
    PlannedDrop,
    PlannedDropsPage,
    PlanState,
    PlanStatus,
    Reason,
)
from producer.schemas import Kind
from worker.batches.members.arrival import all_chunks_arrived
from worker.batches.members.repository import find_waits_for, members_of_plans
from worker.batches.state import DeadChunks
from worker.database.engine import Database
from worker.dead_letters.repository import count_dead_chunks
from worker.intervals.undone.repository import find_undos
from worker.moments import Clock, own_clock
from worker.plans.advice import advice_on
from worker.plans.reports.repository import find_drops
from worker.plans.repository import find_members, find_plan, staged_fingerprints, time_now
from worker.plans.requests import request_of

_BEFORE_FIRST_CHUNK = frozenset({BatchState.QUEUED, BatchState.STAGED, BatchState.STALLED})
_QUEUED = (
    "The batch with this id waits in the queue. If it was submitted with a plan, the plan begins"
    " once a worker takes its first chunk; look again later."
)


def plan_status(database: Database, plan_id: str, *, clock: Clock = own_clock) -> PlanStatus:
    """Return the state of a plan, and its report once it is made."""
    with database.reading() as connection:
        plan = find_plan(connection, plan_id)
        if plan is None:
            return PlanStatus(
                plan_id=plan_id,
                state=PlanState.UNKNOWN,
                advice=UNKNOWN_PLAN,
            )
        members = find_members(connection, plan_id)
        now = time_now(connection, clock)
        waits_for = find_waits_for(connection, plan_id)
        dead = count_dead_chunks(connection, [member.batch_id for member in members])
        undo = find_undos(connection, [plan_id]).get(plan_id)
    reasons = tuple(map(Reason.model_validate, (plan.report or {}).get("reasons", ())))
    dead_chunks = [DeadChunks(*counts) for _, counts in sorted(dead.items())]
    status = _status(plan, members, reasons).model_copy(
        update={"advice": advice_on(plan, members, reasons, now, waits_for, dead_chunks)}
    )
    if undo is None:
        return status
    return status.model_copy(update={"undone_by": undo.batch_id, "undone_at": undo.begun_at})


def plan_or_queued(
    database: Database,
    plan_id: str,
    find_batch: Callable[[], BatchStatus | None],
    *,
    clock: Clock = own_clock,
) -> PlanStatus:
    """Return the state of a plan, of which every chunk may still wait in the queue.

    `find_batch` returns the status of the batch with the plan's id, or None if Redis has no mark of
    it. It does not say whether the batch has a plan: only its chunks do. A worker may take the
    first one between the two reads, so a plan that is still unknown is looked for again.
    """
    status = plan_status(database, plan_id, clock=clock)
    if status.state is not PlanState.UNKNOWN:
        return status
    batch = find_batch()
    if batch is not None and not batch.chunks_applied and batch.state in _BEFORE_FIRST_CHUNK:
        facts = {"state": PlanState.STAGED, "advice": batch.advice or _QUEUED}
        return status.model_copy(update={**facts, "submitted_at": batch.submitted_at})
    return plan_status(database, plan_id, clock=clock)


def _status(plan: Any, members: list[Any], reasons: tuple[Reason, ...]) -> PlanStatus:
    request = request_of(plan)
    report, applied = plan.report or {}, plan.applied or {}
    shown = report.get("batches") or [
        {"batch_id": m.batch_id, "kind": m.kind, "requests": m.requests} for m in members
    ]
    return PlanStatus(
        plan_id=plan.id,
        state=PlanState(plan.state),
        purpose=request.purpose,
        snapshot=request.snapshot,
        data_set=plan.data_set_name,
        file_name=plan.file_name,
        submitter=plan.submitter,
        reasons=reasons,
        digest=plan.digest,
        batches=tuple(PlannedBatch.model_validate(each) for each in shown),
        owned_before=report.get("owned_before", 0),
        absent=AbsentRows.model_validate(report.get("absent", {})),
        courses=tuple(_courses(report.get("courses", ()), applied.get("courses"))),
        applied=applied.get("absent") and AbsentRows.model_validate(applied["absent"]),
        differences=tuple(applied.get("differences", ())),
        submitted_at=plan.moment,
        planned_at=plan.planned_at,
        decided_at=plan.decided_at,
        expires_at=plan.due_at if _expires(plan, members) else None,
        finished_at=plan.finished_at,
    )


def _courses(
    planned: Iterable[Mapping[str, Any]], dropped: Mapping[str, int] | None
) -> Iterator[CourseDrops]:
    """Yield the courses with planned drops; `dropped` says how many there were, by course."""
    for each in planned:
        course = CourseDrops.model_validate(each)
        done = None if dropped is None else dropped.get(str(course.course_id), 0)
        yield course.model_copy(update={"dropped": done})


def _expires(plan: Any, members: list[Any]) -> bool:
    """Return whether `due_at` is when a plan expires; else a worker is to do something then."""
    is_incomplete = plan.state == PlanState.STAGED and not all_chunks_arrived(members)
    return is_incomplete or plan.state == PlanState.HELD


def planned_drops(
    database: Database, plan_id: str, after: tuple[int, int] | None, size: int
) -> PlannedDropsPage:
    """Return a page of the planned drops of a plan, in the order of their keys.

    While the report of a plan is being made, a part of its drops may be stored: none is returned.
    """
    with database.reading() as connection:
        plan = find_plan(connection, plan_id)
        if plan is None:
            return PlannedDropsPage(state=PlanState.UNKNOWN)
        if plan.state == PlanState.STAGED:
            return PlannedDropsPage(state=PlanState.STAGED)
        rows = find_drops(connection, plan_id, after, size + 1)
    page = rows[:size]
    return PlannedDropsPage(
        state=PlanState(plan.state),
        planned_at=plan.planned_at,
        drops=tuple(PlannedDrop(**row._asdict()) for row in page),
        next=(page[-1].student_id, page[-1].course_id) if len(rows) > size else None,
    )


def with_stored_chunks(
    database: Database, batch_id: str, numbers: Sequence[int], applied: AppliedChunks
) -> AppliedChunks:
    """Add the chunks that are stored for a plan to those of a batch that were applied.

    `applied` has the fingerprints of the chunks with these numbers. A submission that is resumed
    sends neither again. Those of a plan that ended without being applied count, too.
    """
    if None not in applied.fingerprints:
        return applied
    with database.reading() as connection:
        planned = members_of_plans(connection, [batch_id]).get(batch_id)
        if planned is None:
            return applied
        known = staged_fingerprints(connection, batch_id)
        member, _ = planned
        plan = find_plan(connection, member.plan_id)
    ended = ((plan and plan.progress) or {}).get("fingerprints", {}).get(batch_id, {})
    known |= {int(number): fingerprint for number, fingerprint in ended.items()}
    fingerprints = tuple(
        own if own is not None else known.get(number)
        for number, own in zip(numbers, applied.fingerprints, strict=True)
    )
    return applied.model_copy(update={"kind": Kind(member.kind), "fingerprints": fingerprints})
