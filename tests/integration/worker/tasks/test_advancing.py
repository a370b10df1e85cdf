"""A stored chunk is applied although its plan may end meanwhile. On both databases."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import delete, event

from producer.contract.keys import Keys
from producer.contract.plans import PlanState
from producer.schemas import Kind
from support.databases import dead_letters, store_roster
from support.snapshots import Feeds, chunk_of
from support.staging import MOMENT, advance, request, stage, work_on
from worker.data_sets.repository import allow_snapshots, data_set_key
from worker.database.engine import Database
from worker.messaging.attempts import Attempts
from worker.moments import own_clock
from worker.monitoring.events import Events
from worker.monitoring.metrics import Metrics
from worker.plan_models import StagedChunk
from worker.plans.advance import PlanWork, advance_next
from worker.plans.applying import StoredChunk, apply_unchanged
from worker.plans.reports.lookups import plan_status
from worker.recovery import retry_policy
from worker.tasks import advancing


def send(database: Database, batch_id: str, days: int, courses: dict[str, list[str]]) -> None:
    """Store a snapshot."""
    plan = request((batch_id, Kind.ENROLLMENTS), snapshot=True)
    records = [{"student_id": s, "course_ids": named} for s, named in courses.items()]
    chunk = chunk_of(batch_id, data_set="sis", records=records, plan=plan)
    stage(database, chunk, moment=MOMENT + timedelta(days=days))


@pytest.fixture
def repeated(database: Database) -> Database:
    """A database in which a snapshot was applied; another one is stored that repeats most of it."""
    store_roster(database, ["A", "B", "C"], ["M1", "M2", "M3"])
    with database.writing() as connection:
        allow_snapshots(connection, data_set_key(connection, "sis", MOMENT))
    same = {name: ["M1", "M2"] for name in ("A", "B")}
    send(database, "first", 0, same)
    assert advance(database, "first").state is PlanState.DONE
    send(database, "again", 1, same | {"C": ["M1", "M3"]})
    return database


@pytest.fixture
def services(database: Database, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a pool process has to apply stored chunks."""
    monkeypatch.setattr(retry_policy, "FAILURE_PAUSE", 0)
    attempts = Attempts(broker_url, "advancing", 3, Keys())
    policy = retry_policy.RetryPolicy(
        database, attempts, 0, lambda _: None, lambda _: None, lambda: None
    )
    return SimpleNamespace(
        database=database,
        events=Events(Metrics()),
        clock=own_clock,
        attempts=attempts,
        retry_policy=policy,
    )


def begin(database: Database, work: PlanWork | None = None) -> None:
    """Make and approve the plan `again`, so that its chunks are applied next."""
    for _ in range(2):
        assert advance_next(work or work_on(database))
    assert plan_status(database, "again").state is PlanState.APPLYING


@pytest.mark.timeout(30)
def test_a_chunk_whose_plan_has_ended_is_left_alone(repeated: Database, services: Any) -> None:
    """A helper may read a chunk just before another process finishes its plan."""
    begin(repeated)
    refused: list[str | None] = []

    def apply(chunk: StoredChunk) -> str | None:
        with repeated.writing() as connection:
            connection.execute(delete(StagedChunk))
        refused.append(advancing._apply(services, chunk))  # noqa: SLF001 - for all who apply
        return refused[-1]

    advance_next(work_on(repeated)._replace(apply=apply))
    assert refused == [None]
    assert dead_letters(repeated) == []


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize("name", ["again", "whole"])
def test_a_stored_chunk_is_applied_with_one_connection(
    repeated: Database, name: str, *, is_lost: bool
) -> None:
    """A pooler may have no second one to lend, and all that have one would wait for another."""
    if name == "whole":
        advance(repeated)
        send(repeated, name, 2, {"A": ["M1", "M2"], "B": ["M1", "M2"], "C": ["M1", "M3"]})
    for _ in range(2):
        assert advance_next(work_on(repeated))
    if is_lost:
        Feeds(repeated).by_hand(MOMENT + timedelta(days=3), drop=[("B", "M2")])
    most = [0]

    def count(*_: Any) -> None:
        most[0] = max(most[0], repeated.engine.pool.checkedout())  # type: ignore[attr-defined]

    def apply(chunk: StoredChunk) -> str | None:
        assert chunk.stored.unchanged is not None
        event.listen(repeated.engine, "begin", count)
        apply_unchanged(repeated, chunk, own_clock)
        event.remove(repeated.engine, "begin", count)
        return work_on(repeated).apply(chunk)

    advance_next(work_on(repeated)._replace(apply=apply))
    assert advance(repeated, name).state is PlanState.DONE
    assert most == [1]
