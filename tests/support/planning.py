"""Make plans as a worker does, and compare databases before and after."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import insert, inspect, select, text
from sqlalchemy.schema import Table

from producer.contract.chunks import fingerprint_of
from producer.contract.headers import BatchOrigin
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.schemas import Kind
from worker.database.engine import Database
from worker.models import Base
from worker.moments import Clock, own_clock
from worker.plan_models import PlannedRefusal, PlanRow
from worker.plans.stored import Stored, compressed
from worker.plans.temporary.making import MadePlan, PlanInput, StagedBatch, make_plan

OF_PLANS = ("plans", "staged_chunks", "planned_drops", "planned_refusals")
"""The tables that a plan may change."""


class Member:
    """A batch of a plan, with its chunks as texts."""

    def __init__(self, batch_id: str, kind: Kind, chunks: Sequence[str], moment: datetime) -> None:
        self.batch_id, self.kind, self.chunks = batch_id, kind, list(chunks)
        self.origin = BatchOrigin("file.csv", "registrar", moment)

    def stored(self) -> Iterator[Stored]:
        """Yield the chunks as they are stored."""
        for chunk in self.chunks:
            yield stored_chunk(chunk)


def stored_chunk(text: str) -> Stored:
    """Return what is stored of a chunk of which no unchanged requests are noted."""
    return Stored(partial(compressed, text), fingerprint_of(text))


def plan_input(
    members: Sequence[Member], moment: datetime, data_set: int | None = None, **fields: Any
) -> PlanInput:
    plan_id = members[-1].batch_id
    request = PlanRequest(
        id=plan_id,
        members=tuple(PlanMember(batch_id=m.batch_id, kind=m.kind) for m in members),
        purpose=PlanPurpose.REPORT,
        **fields,
    )
    batches = [StagedBatch(m.batch_id, m.kind, m.origin, m.stored, m.stored) for m in members]
    return PlanInput(plan_id, request, moment, batches, data_set)


def store_plan(database: Database, plan: PlanInput) -> None:
    """Store the row of a plan, as its first chunk does."""
    now = datetime.now(UTC)
    row = {
        "id": plan.plan_id,
        "state": "staged",
        "request": plan.request.model_dump(mode="json"),
        "moment": plan.moment,
        "staged_at": now,
    }
    with database.writing() as connection:
        connection.execute(insert(PlanRow).values(**row))


def planned(
    database: Database, plan: PlanInput, *, clock: Clock = own_clock, times: int = 1
) -> MadePlan:
    """Make a plan, perhaps several times; return what was made last, which was stored."""
    store_plan(database, plan)
    concluded: list[MadePlan] = []
    for _ in range(times):
        made = make_plan(
            database,
            plan,
            lambda _, made: concluded.append(made),
            on_chunk=lambda: None,
            clock=clock,
        )
        assert concluded[-1] == made
    return made


def stored_refusals(database: Database, batch_id: str, model: Any = PlannedRefusal) -> list[Any]:
    """Return the refusals of a batch: all but their ids and plan."""
    columns = [getattr(model, n) for n in ("line", "code", "message", "record", "cells")]
    statement = select(*columns).where(model.batch_id == batch_id).order_by(model.id)
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(statement)]


def everything(database: Database) -> dict[str, Any]:
    """Return all rows of all tables but those of plans, and the state of all other sequences."""
    tables: list[Table] = [t for t in Base.metadata.sorted_tables if t.name not in OF_PLANS]
    with database.reading() as connection:
        found: dict[str, Any] = {
            table.name: sorted(repr(tuple(row)) for row in connection.execute(select(table)))
            for table in tables
        }
        found["names"] = sorted(inspect(connection).get_table_names())
        if connection.dialect.name == "postgresql":
            rows = connection.execute(
                text(
                    "SELECT sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL"
                )
            )
            found["sequences"] = {
                name: value for name, value in rows if not name.startswith("planned_refusals")
            }
    return found
