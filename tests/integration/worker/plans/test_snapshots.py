"""Snapshots from their chunks to the sweep: one at a time per data set, and the newest wins."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from producer.contract.batches import BatchState
from producer.contract.plans import Decision, PlanState, PlanStatus
from producer.schemas import Kind
from support.chunks import apply_chunk, books, chunk, pairs, status
from support.databases import enrolled_pairs, store_roster
from support.operator import REMAINS, run
from support.staging import MOMENT, advance, chunks_of, request, stage, work_on
from worker.data_sets.repository import allow_snapshots, data_set_key, find_data_set
from worker.database.engine import Database
from worker.models import PastEnrollment, StudentCourse
from worker.moments import own_clock
from worker.plan_models import PlanRow
from worker.plans.advance import advance_next
from worker.plans.decisions import DecisionRefused, decide
from worker.plans.holder import take_next
from worker.plans.reports.lookups import plan_status, planned_drops
from worker.undo.run import undo

STUDENTS = [f"S{n}" for n in range(20)]
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def data_set(database: Database) -> None:
    """Twenty students, two courses, and the data set `sis`, which an operator has created."""
    store_roster(database, STUDENTS, ["C1", "C2"])
    with database.writing() as connection:
        allow_snapshots(connection, data_set_key(connection, "sis", MOMENT))


def submit(
    database: Database, batch_id: str, students: list[str], *, day: int = 0, **fields: Any
) -> None:
    """Store a snapshot in which these students are enrolled in C1, in chunks of seven."""
    plan = request((batch_id, Kind.ENROLLMENTS), snapshot=True, **fields)
    groups = [students[at : at + 7] for at in range(0, len(students), 7)] or [[]]
    records = [[pairs(name, "C1") for name in group] for group in groups]
    for each in chunks_of(plan, *records, batch_id=batch_id, data_set="sis"):
        stage(database, each, moment=MOMENT + day * DAY)


def swept_at(database: Database) -> Any:
    with database.reading() as connection:
        row = find_data_set(connection, "sis")
    return row and row.swept_at


def in_c1(*students: str) -> set[tuple[str, str]]:
    return {(name, "C1") for name in students}


def make_due(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(update(PlanRow).where(PlanRow.due_at.is_not(None)).values(due_at=MOMENT))


def step_until(database: Database, plan_id: str, state: PlanState) -> None:
    work = work_on(database)
    while plan_status(database, plan_id).state is not state:
        assert advance_next(work)


def test_a_snapshot_drops_what_it_does_not_name_and_says_so(database: Database) -> None:
    submit(database, "first", STUDENTS)
    first = advance(database, "first")
    assert (first.state, first.owned_before) == (PlanState.DONE, 0)
    submit(database, "second", STUDENTS[1:], day=1)
    second = advance(database, "second")
    assert second.state is PlanState.DONE
    assert second.applied is not None
    assert (second.owned_before, second.absent.dropped, second.applied.dropped) == (20, 1, 1)
    assert second.differences == ()
    assert enrolled_pairs(database) == in_c1(*STUDENTS[1:])
    assert swept_at(database) == MOMENT + DAY
    assert books(database, "second") == {"received": 19, "already_enrolled": 19}
    drops = planned_drops(database, "second", None, 10).drops
    assert [(d.student_sis_id, d.course_sis_id, d.outcome) for d in drops] == [
        ("S0", "C1", "dropped")
    ]


def test_the_operator_sees_what_would_pass_to_another_data_set(database: Database) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    records = [pairs(name, "C1") for name in STUDENTS[:3]]
    plan = request(("also", Kind.ENROLLMENTS))
    (also,) = chunks_of(plan, records, batch_id="also", data_set="lms")
    stage(database, also, moment=MOMENT + DAY / 2)
    advance(database, "also")
    submit(database, "fewer", STUDENTS[5:], day=1, hold="always")
    held = advance(database, "fewer")
    assert (held.absent.dropped, held.absent.passed_on) == (2, 3)
    _, shown = run(database, "approve", "fewer", typed="n\n", expect=REMAINS)
    assert "does not name: 5 of 20; 2 would be dropped." in shown
    assert "Passed on to other data sets, because these name them: 3." in shown


def test_nine_of_ten_rows_gone_are_held_and_nothing_is_dropped(database: Database) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    submit(database, "half", STUDENTS[:2], day=1)
    held = advance(database, "half")
    assert held.state is PlanState.HELD
    assert {"many_drops", "most_drops"} & {reason.code for reason in held.reasons}
    assert held.absent.dropped == 18
    assert "enroll approve half" in str(held.advice)
    assert enrolled_pairs(database) == in_c1(*STUDENTS)
    assert status(database, "half").state is BatchState.HELD
    decide(database, "half", Decision.APPROVE, held.digest)
    assert advance(database, "half").state is PlanState.DONE
    assert enrolled_pairs(database) == in_c1(*STUDENTS[:2])


def test_a_finished_plan_says_what_was_dropped_of_each_course(database: Database) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    submit(database, "half", STUDENTS[:15], day=1, hold="always")
    (course,) = advance(database, "half").courses
    assert (course.sis_id, course.owned, course.drops, course.dropped) == ("C1", 20, 5, None)
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("S19", "C1"), batch_id="newer"))
    decide(database, "half", Decision.APPROVE, plan_status(database, "half").digest)
    done = advance(database, "half")
    (course,) = done.courses
    assert (course.drops, course.dropped) == (5, 4)
    assert any(
        "4 of the enrollments" in text and "instead of 5" in text for text in done.differences
    )


def test_an_undone_snapshot_and_its_undo_name_each_other(database: Database) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    assert (plan_status(database, "first").undone_by, status(database, "first").undoes) == (
        None,
        None,
    )
    undo(database, "first", clock=own_clock)
    shown, batch, its_undo = (
        plan_status(database, "first"),
        status(database, "first"),
        status(database, "undo:first"),
    )
    assert shown.undone_by == batch.undone_by == "undo:first"
    assert shown.undone_at == batch.undone_at is not None
    assert (its_undo.undoes, its_undo.undone_by) == ("first", None)
    undo(database, "undo:first", clock=own_clock)
    assert (plan_status(database, "first").undone_by, status(database, "first").undone_by) == (
        None,
        None,
    )
    assert status(database, "undo:first").undone_by == "undo:undo:first"


def test_a_truncated_file_is_never_planned(database: Database) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    plan = request(("cut", Kind.ENROLLMENTS), snapshot=True)
    first, *_ = chunks_of(
        plan, [pairs("S0", "C1")], [pairs("S1", "C1")], batch_id="cut", data_set="sis"
    )
    stage(database, first, moment=MOMENT + DAY)
    assert advance(database, "cut").state is PlanState.STAGED
    assert enrolled_pairs(database) == in_c1(*STUDENTS)


def test_requests_between_plan_and_approval_win(database: Database) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    submit(database, "half", STUDENTS[:8], day=1)
    held = advance(database, "half")
    kept = chunk(pairs("S19", "C1"), batch_id="by hand")
    apply_chunk(database, Kind.ENROLLMENTS, kept)  # It counts now, which is later.
    gone = chunk({"student_id": "S0", "course_ids": [], "drop_course_ids": ["C1"]}, batch_id="gone")
    apply_chunk(database, Kind.ENROLLMENTS, gone)
    decide(database, "half", Decision.APPROVE, held.digest)
    done = advance(database, "half")
    assert done.state is PlanState.DONE
    assert enrolled_pairs(database) == in_c1(*STUDENTS[1:8], "S19")
    assert done.applied is not None
    assert (done.absent.dropped, done.applied.dropped, done.applied.kept_newer) == (12, 11, 1)
    assert any("were dropped instead of 12 as planned" in text for text in done.differences)


def test_an_older_held_snapshot_is_discarded_when_a_newer_one_starts(database: Database) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    submit(database, "older", STUDENTS[:3], day=1)
    older = advance(database, "older")
    assert older.state is PlanState.HELD
    submit(database, "newer", STUDENTS[:4], day=2)
    newer = advance(database, "newer")
    assert newer.state is PlanState.HELD
    assert plan_status(database, "older").state is PlanState.HELD
    decide(database, "newer", Decision.APPROVE, newer.digest)
    assert advance(database, "newer").state is PlanState.DONE
    outdated = plan_status(database, "older")
    assert outdated.state is PlanState.DISCARDED
    assert outdated.advice == (
        "A newer snapshot of the data set sis, the plan newer, has already been applied, or is"
        " being applied. Nothing of this one was applied."
    )
    assert enrolled_pairs(database) == in_c1(*STUDENTS[:4])


def test_a_report_from_before_another_snapshot_says_what_stays(database: Database) -> None:
    """Two nights wait over the weekend, and the operator approves them in their order."""
    submit(database, "first", STUDENTS[:10])
    advance(database, "first")
    submit(database, "saturday", STUDENTS[:12], day=1, hold="always")
    submit(database, "sunday", STUDENTS[:11], day=2, hold="always")
    held = [advance(database, name) for name in ("saturday", "sunday")]
    for plan in held:
        decide(database, plan.plan_id, Decision.APPROVE, plan.digest)
        done = advance(database, plan.plan_id)
        assert done.state is PlanState.DONE
    assert enrolled_pairs(database) == in_c1(*STUDENTS[:12])  # The approved report has no drops.
    assert done.differences[0].startswith(
        "After the report was made, saturday of the same data set"
    )
    submit(database, "again", STUDENTS[:11], day=3)
    again = advance(database, "again")
    assert (again.state, again.differences) == (PlanState.DONE, ())
    assert enrolled_pairs(database) == in_c1(*STUDENTS[:11])


def test_a_snapshot_older_than_the_last_one_is_never_applied(database: Database) -> None:
    """Yesterday's file after today's; and one that was held, then overtaken."""
    submit(database, "today", STUDENTS, day=2)
    advance(database, "today")
    submit(database, "yesterday", STUDENTS[:3], day=1)
    late = advance(database, "yesterday")
    assert late.state is PlanState.DISCARDED
    assert "a newer one of the data set sis" in str(late.advice)
    assert enrolled_pairs(database) == in_c1(*STUDENTS)
    with database.writing() as connection:
        values = {"state": PlanState.HELD, "digest": "0" * 64, "planned_at": MOMENT}
        connection.execute(update(PlanRow).where(PlanRow.id == "yesterday").values(**values))
    with pytest.raises(DecisionRefused, match="has already been applied"):
        decide(database, "yesterday", Decision.APPROVE, "0" * 64)


def test_while_a_snapshot_is_applied_no_other_of_its_data_set_is_planned_or_started(
    database: Database,
) -> None:
    submit(database, "b", STUDENTS, hold="always")
    submit(database, "waits", STUDENTS[:19], day=1)
    held = advance(database, "b")
    planned = plan_status(database, "waits")
    assert planned.state is PlanState.DONE  # It was applied first, so the older one is outdated.
    assert plan_status(database, "b").state is PlanState.DISCARDED
    assert held.digest is not None
    submit(database, "now", STUDENTS, day=2)
    step_until(database, "now", PlanState.APPLYING)
    lost = take_next(database, own_clock)
    assert lost is not None
    assert lost.plan.id == "now"
    submit(database, "next", STUDENTS[1:], day=3)
    waits = advance(database, "next")
    assert waits.state is PlanState.STAGED
    says_why(database, waits)
    assert status(database, "now").advice is None
    with database.writing() as connection:
        connection.execute(
            update(PlanRow).where(PlanRow.id == "next").values(state=PlanState.APPROVED, data_set=1)
        )
    make_due_only(database, "next")
    waits = advance(database, "next")
    assert waits.state is PlanState.APPROVED
    says_why(database, waits)
    assert swept_at(database) == MOMENT + 2 * DAY


def says_why(database: Database, waits: PlanStatus) -> None:
    """Check that a plan, and its batch, name the plan that they wait for."""
    assert waits.advice == (
        "It waits until now, another snapshot of the data set sis, is applied, and then continues"
        " by itself. `enroll plan now` shows whether that one continues."
    )
    assert status(database, waits.plan_id).advice == waits.advice


def test_a_dry_run_or_another_data_set_makes_no_snapshot_wait(database: Database) -> None:
    plan = request(("other", Kind.ENROLLMENTS))
    submit(database, "dry", STUDENTS, purpose="report")
    submit(database, "waits", STUDENTS, day=1)
    for each in chunks_of(plan, [pairs("S1", "C2")], batch_id="other", data_set="sis"):
        stage(database, each)
    with database.writing() as connection:
        others = PlanRow.id.in_(("dry", "other"))
        connection.execute(update(PlanRow).where(others).values(state=PlanState.DONE))
        is_batch = PlanRow.id == "other"  # It is applied, but it is no snapshot.
        connection.execute(update(PlanRow).where(is_batch).values(state=PlanState.APPLYING))
    assert plan_status(database, "waits").advice is None


def make_due_only(database: Database, plan_id: str) -> None:
    with database.writing() as connection:
        connection.execute(update(PlanRow).where(PlanRow.id == plan_id).values(due_at=MOMENT))


def test_a_plan_that_was_overtaken_while_it_was_made_is_made_again(database: Database) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    submit(database, "slow", STUDENTS[:19], day=2)
    holder = take_next(database, own_clock)
    assert holder is not None
    with database.writing() as connection:  # Its worker has not read it yet.
        connection.execute(
            update(PlanRow).where(PlanRow.id == "slow").values(due_at=holder.plan.due_at)
        )
    submit(database, "quick", STUDENTS[:18], day=1)
    advance(database, "quick")
    done = plan_status(database, "slow")
    assert done.state is PlanState.DONE
    assert enrolled_pairs(database) == in_c1(*STUDENTS[:19])


@pytest.mark.parametrize("state", [PlanState.APPROVED, PlanState.APPLYING, PlanState.SWEEPING])
def test_a_worker_that_is_lost_only_delays_a_snapshot(database: Database, state: PlanState) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    submit(database, "second", STUDENTS[1:], day=1)
    step_until(database, "second", state)
    assert take_next(database, own_clock) is not None
    make_due(database)
    assert advance(database, "second").state is PlanState.DONE
    assert enrolled_pairs(database) == in_c1(*STUDENTS[1:])
    assert len(planned_drops(database, "second", None, 10).drops) == 1


def test_the_same_snapshot_twice_opens_and_closes_nothing(database: Database) -> None:
    submit(database, "first", STUDENTS)
    advance(database, "first")
    with database.reading() as connection:
        before = list(connection.execute(select(StudentCourse.__table__)))
    submit(database, "again", STUDENTS, day=1)
    done = advance(database, "again")
    assert done.state is PlanState.DONE
    with database.reading() as connection:
        assert list(connection.execute(select(StudentCourse.__table__))) == before
        assert list(connection.execute(select(PastEnrollment.__table__))) == []
