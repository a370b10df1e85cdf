"""Undo of batches that belong to plans: what waits, what is applied, and snapshots."""

from datetime import datetime

import pytest
from sqlalchemy import select, update

from producer.contract.plan_requests import PlanPurpose
from producer.contract.plans import Decision, PlanState
from support.databases import store_roster
from support.staging import MOMENT, advance, chunks_of, request, stage, work_on
from support.undoing import COURSES, STUDENTS, apply, at, owners, pairs, undone
from support.undoing import request as line
from worker.data_sets.repository import allow_snapshots, data_set_key
from worker.database.engine import Database
from worker.plan_models import AlsoEnrolledBy, PlanRow
from worker.plans.advance import advance_next
from worker.plans.decisions import decide
from worker.plans.reports.lookups import plan_status
from worker.undo.run import rehearse
from worker.undo.values import CannotUndo


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    store_roster(database, STUDENTS, COURSES)


def test_a_plan_that_waits_is_discarded_instead(database: Database) -> None:
    (chunk,) = chunks_of(request(hold="always"), [line("A", enroll=["M1"])])
    stage(database, chunk)
    advance(database)
    assert rehearse(database, "b").discarded_plan == "b"
    assert plan_status(database, "b").state is PlanState.HELD
    assert undone(database).discarded_plan == "b"
    assert plan_status(database, "b").state is PlanState.DISCARDED
    with pytest.raises(CannotUndo, match="No part of the batch b was applied: its plan b is"):
        undone(database)
    assert pairs(database) == set()


def test_a_plan_that_is_being_applied_is_not_interrupted(database: Database) -> None:
    (chunk,) = chunks_of(request(), [line("A", enroll=["M1"])])
    stage(database, chunk)
    advance(database)
    for state in (PlanState.APPLYING, PlanState.SWEEPING):
        with database.writing() as connection:
            connection.execute(update(PlanRow).values(state=state.value))
        with pytest.raises(CannotUndo, match="plan b of the batch b is being applied"):
            undone(database)
    assert pairs(database) == {("A", "M1")}


def test_what_a_discarded_plan_had_applied_is_undone(database: Database) -> None:
    """The operator may discard a plan that cannot continue; what was applied stays at first."""
    for chunk in chunks_of(request(), [line("A", enroll=["M1"])], [line("B", enroll=["M1"])]):
        stage(database, chunk)
    work = work_on(database)
    while plan_status(database, "b").state is not PlanState.APPLYING:
        advance_next(work)
    advance_next(work._replace(apply=lambda stored: "no" if stored.number else work.apply(stored)))
    decide(database, "b", Decision.DISCARD, None)
    assert pairs(database) == {("A", "M1")}
    assert rehearse(database, "b").counts["dropped"] == 1
    assert undone(database).counts["dropped"] == 1
    assert pairs(database) == set()
    assert plan_status(database, "b").state is PlanState.DISCARDED


def test_a_dry_run_has_nothing_to_undo(database: Database) -> None:
    plan = request(purpose=PlanPurpose.REPORT)
    stage(database, chunks_of(plan, [line("A", enroll=["M1"])])[0])
    advance(database)
    with pytest.raises(CannotUndo, match="its plan b is planned"):
        undone(database)


def notes(database: Database) -> list[tuple[int, datetime]]:
    with database.reading() as connection:
        rows = connection.execute(select(AlsoEnrolledBy.data_set, AlsoEnrolledBy.moment))
        return [(row.data_set, row.moment) for row in rows]


def test_the_notes_of_other_data_sets_are_restored(database: Database) -> None:
    """A drop removes them, but the results of those who named the pair are still there."""
    apply(database, line("A", enroll=["M1"]), batch_id="owner", data_set="sis", moment=at(0))
    apply(database, line("A", enroll=["M1"]), batch_id="other", data_set="lms", moment=at(1))
    before = (owners(database), notes(database))
    assert len(before[1]) == 1
    apply(database, line("A", drop=["M1"]), moment=at(2))
    assert (pairs(database), notes(database)) == (set(), [])
    undone(database)
    assert (owners(database), notes(database)) == before


def test_the_drops_of_a_snapshot_are_undone_with_their_owner(database: Database) -> None:
    with database.writing() as connection:
        key = data_set_key(connection, "sis", MOMENT)
        allow_snapshots(connection, key)
    before = {**dict.fromkeys([("A", course) for course in COURSES], key), ("B", "M1"): None}
    apply(database, line("A", enroll=COURSES), batch_id="first", data_set="sis", moment=MOMENT)
    apply(database, line("B", enroll=["M1"]), batch_id="other", moment=MOMENT)
    assert owners(database) == before
    (chunk,) = chunks_of(
        request(snapshot=True), [line("A", ["M1"]), line("B", ["M2"])], data_set="sis"
    )
    stage(database, chunk, moment=None)
    held = advance(database)
    assert held.state is PlanState.HELD
    decide(database, "b", Decision.APPROVE, held.digest)
    assert advance(database).state is PlanState.DONE
    assert owners(database) == {("A", "M1"): key, ("B", "M1"): None, ("B", "M2"): key}
    report = undone(database)
    assert owners(database) == before
    assert (report.counts["enrolled"], report.counts["dropped"]) == (2, 1)
