"""Submit planned batches straight to a database, and do the steps of plans as a worker does."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import update

from producer.contract.chunks import Chunk
from producer.contract.headers import BatchOrigin
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import PlanStatus
from producer.schemas import Kind
from worker.batches.apply import apply_chunk, read_chunk
from worker.database.engine import Database
from worker.moments import own_clock
from worker.plan_models import PlanRow
from worker.plans.advance import PlanWork, advance_next
from worker.plans.applying import StoredChunk, apply_unchanged
from worker.plans.reports.lookups import plan_status
from worker.plans.staging import Delivered, Staging, stage_chunk
from worker.plans.times import Expiry

MOMENT = datetime(2026, 9, 1, tzinfo=UTC)


def request(*members: tuple[str, Kind], **fields: Any) -> PlanRequest:
    """Return a plan of these batches, by default of the batch `b` of enrollments."""
    listed = members or (("b", Kind.ENROLLMENTS),)
    return PlanRequest(
        id=listed[-1][0],
        members=tuple(PlanMember(batch_id=batch_id, kind=kind) for batch_id, kind in listed),
        **{"purpose": PlanPurpose.APPLY, **fields},
    )


def chunks_of(
    plan: PlanRequest, *groups: Sequence[Any], batch_id: str = "b", **fields: Any
) -> list[Chunk]:
    """Return the chunks of a batch of a plan, each with a group of records."""
    return [
        Chunk(
            batch_id=batch_id,
            number=number,
            last=number == len(groups) - 1,
            records=tuple(records),
            plan=plan,
            **fields,
        )
        for number, records in enumerate(groups)
    ]


def stage(
    database: Database,
    chunk: Chunk,
    kind: Kind = Kind.ENROLLMENTS,
    *,
    moment: datetime | None = MOMENT,
    submitter: str | None = "registrar",
) -> Staging:
    """Store a chunk as the task that receives it does."""
    text = chunk.model_dump_json(exclude_unset=True)
    parsed, fingerprint = read_chunk(kind, text)
    origin = BatchOrigin("file.csv", submitter, moment)
    return stage_chunk(database, Delivered(kind, parsed, fingerprint, text, origin))


def work_on(database: Database, expiry: Expiry = Expiry()) -> PlanWork:  # noqa: B008 - immutable
    """Return what a worker has to advance plans, with chunks that are applied at once."""

    def apply(chunk: StoredChunk) -> str | None:
        if apply_unchanged(database, chunk, own_clock) is None:
            apply_chunk(database, chunk.kind, chunk.text, origin=chunk.origin)
        return None

    return PlanWork(database, apply, own_clock, expiry)


def advance(database: Database, plan_id: str = "b", expiry: Expiry = Expiry()) -> PlanStatus:  # noqa: B008
    """Do all steps that are due; return the state of a plan."""
    work = work_on(database, expiry)
    for _ in range(100):
        if not advance_next(work):
            return plan_status(database, plan_id)
    raise AssertionError("the steps of a plan do not end")


def make_due(database: Database) -> None:
    """Let the leases end that a lost worker has left, and the times for which plans wait."""
    with database.writing() as connection:
        connection.execute(update(PlanRow).where(PlanRow.due_at.is_not(None)).values(due_at=MOMENT))
