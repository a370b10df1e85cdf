"""Plans and `enroll prune`: what has not ended holds history back, and what has ended goes."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, insert, select, update

from producer.contract.plan_requests import PlanPurpose
from producer.contract.plans import Decision, PlanState
from producer.schemas import Kind
from support.chunks import pairs
from support.databases import store_roster
from support.operator import run
from support.staging import MOMENT, advance, chunks_of, request, stage
from worker.database.engine import Database
from worker.plan_models import PlanMember, PlannedRefusal, PlanRow
from worker.plans.decisions import decide
from worker.plans.reports.lookups import plan_status
from worker.retention.prune import Limit, find_limit, prune

LATER = MOMENT + timedelta(days=10)


@pytest.fixture(autouse=True)
def held(database: Database) -> None:
    """A plan that waits for a decision, of a batch that counts at `MOMENT`."""
    store_roster(database, ["A"], ["M1"])
    stage(database, chunks_of(request(hold="always"), [pairs("A", "M1"), pairs("Z", "M1")])[0])
    advance(database)


def count(database: Database, model: type) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(model)) or 0


def test_a_plan_that_has_not_ended_holds_the_limit_back(database: Database) -> None:
    assert find_limit(database, LATER) == Limit(MOMENT, "b", PlanState.HELD)
    assert find_limit(database, MOMENT) == Limit(MOMENT)
    age = f"{(datetime.now(UTC) - LATER).days}d"
    _, err = run(database, "prune", "--older-than", age, "--dry-run")
    assert "The plan b is not done and counts at 2026-09-01" in err
    assert "(`enroll approve b`, `enroll discard b`)" in err
    decide(database, "b", Decision.DISCARD, plan_status(database, "b").digest)
    assert find_limit(database, LATER) == Limit(LATER)


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        (PlanState.STAGED, "Discard it if it is not needed (`enroll discard b`)"),
        (PlanState.APPLYING, "see how far it is with `enroll plan b`"),
    ],
)
def test_a_plan_that_is_not_held_is_not_to_be_approved(
    database: Database, state: PlanState, advice: str
) -> None:
    with database.writing() as connection:
        connection.execute(update(PlanRow).values(state=state))
    age = f"{(datetime.now(UTC) - LATER).days}d"
    _, err = run(database, "prune", "--older-than", age, "--dry-run")
    assert advice in err
    assert "enroll approve" not in err


def test_plans_are_removed_once_they_ended_long_ago(database: Database) -> None:
    dry = request(("d", Kind.ENROLLMENTS), purpose=PlanPurpose.REPORT)
    (only,) = chunks_of(dry, [pairs("Z", "M1")] * 5, batch_id="d")
    stage(database, only)
    advance(database, "d")
    assert count(database, PlannedRefusal) == 6
    assert prune(database, LATER)["plans"] == 0
    with database.writing() as connection:
        connection.execute(
            update(PlanRow).where(PlanRow.id == "d").values(finished_at=LATER - timedelta(days=1))
        )
    assert prune(database, LATER, dry_run=True)["plans"] == 1
    assert prune(database, LATER, page=2)["plans"] == 1
    assert (count(database, PlanRow), count(database, PlanMember)) == (1, 1)
    assert count(database, PlannedRefusal) == 1


def test_many_small_plans_are_removed_together(database: Database) -> None:
    dry = {"request": {}, "moment": MOMENT, "staged_at": MOMENT, "state": PlanState.PLANNED}
    ended = LATER - timedelta(days=1)
    plans = [{"id": f"d{number}", "finished_at": ended, **dry} for number in range(30)]
    with database.writing() as connection:
        connection.execute(insert(PlanRow), plans)
    pages: list[int] = []
    removed = prune(database, LATER, page=1_000, on_page=lambda: pages.append(1))
    assert removed["plans"] == 30
    assert count(database, PlanRow) == 1
    assert len(pages) < 30
