"""Plans from their chunks to their end, by the work list in the database alone."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from producer.contract.batches import BatchState
from producer.contract.plan_requests import PlanPurpose
from producer.contract.plans import Decision, PlanState
from producer.schemas import Kind
from support.chunks import apply_chunk, books, chunk, pairs, status
from support.staging import MOMENT, advance, chunks_of, make_due, request, stage, work_on
from worker.database.engine import Database
from worker.models import StudentCourse
from worker.moments import own_clock
from worker.plan_models import PlanMember, PlanRow
from worker.plans.advance import advance_next
from worker.plans.applying import StoredChunk
from worker.plans.decisions import DecisionRefused, decide
from worker.plans.helping import FEWEST, help_apply
from worker.plans.holder import take_next
from worker.plans.reports.lookups import plan_status
from worker.plans.repository import LeaseLost
from worker.plans.times import Expiry

pytestmark = pytest.mark.usefixtures("roster")

HELD = request(hold="always")


def enrolled(database: Database) -> set[tuple[int, int]]:
    with database.reading() as connection:
        rows = connection.execute(select(StudentCourse.student_id, StudentCourse.course_id))
        return {(student, course) for student, course in rows}


def age(database: Database, days: int) -> None:
    """Make all plans older, as if nothing had happened for days."""
    before = timedelta(days=days)
    with database.writing() as connection:
        for row in connection.execute(select(PlanRow.id, PlanRow.staged_at, PlanRow.planned_at)):
            planned_at = row.planned_at and row.planned_at - before
            connection.execute(
                update(PlanRow).values(staged_at=row.staged_at - before, planned_at=planned_at)
            )
            connection.execute(update(PlanMember).values(staged_at=row.staged_at - before))
    make_due(database)


def test_a_plan_without_a_reason_to_hold_it_is_applied(database: Database) -> None:
    for each in chunks_of(request(), [pairs("A", "M1")], [pairs("B", "M1", "X")]):
        stage(database, each)
    done = advance(database)
    assert done.state is PlanState.DONE
    assert done.differences == ()
    assert enrolled(database) == {(1, 1), (2, 1)}
    assert books(database) == {"received": 3, "enrolled": 2, "rejected": 1}
    found = status(database)
    assert (found.state, found.plan_id) == (BatchState.DONE, "b")
    assert found.submitted_at == MOMENT


def test_a_dry_run_is_only_a_report(database: Database) -> None:
    (only,) = chunks_of(request(purpose=PlanPurpose.REPORT), [pairs("A", "M1"), pairs("Z", "M1")])
    stage(database, only)
    planned = advance(database)
    assert planned.state is PlanState.PLANNED
    (batch,) = planned.batches
    assert (batch.books.enrolled, batch.books.rejected) == (1, 1)
    assert enrolled(database) == set()
    assert status(database).state is BatchState.PLANNED


def test_a_package_is_one_plan_and_its_roster_is_applied_first(database: Database) -> None:
    package = request(("s", Kind.STUDENTS), ("b", Kind.ENROLLMENTS), hold="always")
    (enrollments,) = chunks_of(package, [pairs("C", "M1")])
    stage(database, enrollments)
    assert advance(database).state is PlanState.STAGED
    (students,) = chunks_of(package, [{"sis_id": "C"}], batch_id="s")
    stage(database, students, Kind.STUDENTS)
    held = advance(database)
    assert held.state is PlanState.HELD
    assert [b.books.rejected for b in held.batches] == [0, 0]
    assert {status(database, each).state for each in ("s", "b")} == {BatchState.HELD}
    decide(database, "b", Decision.APPROVE, held.digest)
    assert advance(database).state is PlanState.DONE
    assert enrolled(database) == {(3, 1)}
    assert {status(database, each).state for each in ("s", "b")} == {BatchState.DONE}


def test_what_differs_from_the_plan_is_said_at_the_end(database: Database) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")])[0])
    held = advance(database)
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1"), batch_id="other"))
    decide(database, "b", Decision.APPROVE, held.digest)
    done = advance(database)
    assert [difference.partition(",")[0] for difference in done.differences] == [
        "b: 0 rows were enrolled instead of 1 as planned",
        "b: 1 rows were already enrolled instead of 0 as planned",
    ]


@pytest.mark.parametrize("state", [PlanState.STAGED, PlanState.APPROVED, PlanState.APPLYING])
def test_a_worker_that_is_lost_only_delays_a_plan(database: Database, state: PlanState) -> None:
    for each in chunks_of(request(), [pairs("A", "M1")], [pairs("B", "M1")]):
        stage(database, each)
    work = work_on(database)
    while plan_status(database, "b").state is not state:
        assert advance_next(work)
    lost = take_next(database, work.clock)
    assert lost is not None
    assert not advance_next(work)  # Another worker waits until the lease ends.
    make_due(database)
    assert advance(database).state is PlanState.DONE
    with pytest.raises(LeaseLost):  # What the lost one does after all has no effect.
        lost.do(lambda connection: lost.change(connection, state=PlanState.DISCARDED))
    assert enrolled(database) == {(1, 1), (2, 1)}


def test_a_chunk_that_was_applied_before_its_worker_died_is_not_applied_twice(
    database: Database,
) -> None:
    for each in chunks_of(request(), [pairs("A", "M1")], [pairs("B", "M1")]):
        stage(database, each)
    work = work_on(database)

    def die_after(stored: StoredChunk) -> str | None:
        work.apply(stored)
        raise SystemExit

    while plan_status(database, "b").state is not PlanState.APPLYING:
        advance_next(work)
    for _ in range(2):
        with pytest.raises(SystemExit):
            advance_next(work._replace(apply=die_after))
        make_due(database)
    # A client that waits for the batch must not find its plan unfinished afterwards.
    assert (status(database).state, books(database)["enrolled"]) == (BatchState.RUNNING, 2)
    assert advance(database).state is PlanState.DONE
    assert status(database).state is BatchState.DONE
    assert books(database) == {"received": 2, "enrolled": 2}


def test_the_chunk_that_was_next_when_a_worker_was_lost_is_suspected(database: Database) -> None:
    for each in chunks_of(request(), [pairs("A", "M1")], [pairs("B", "M1")]):
        stage(database, each)
    work = work_on(database)
    while plan_status(database, "b").state is not PlanState.APPLYING:
        advance_next(work)
    assert take_next(database, work.clock) is not None
    make_due(database)
    suspected = []

    def apply(stored: StoredChunk) -> str | None:
        suspected.append(stored.may_have_killed)
        return work.apply(stored)

    assert advance_next(work._replace(apply=apply))
    assert suspected == [True, False]


def test_another_process_helps_to_apply_the_chunks_that_come_last(database: Database) -> None:
    for each in chunks_of(request(), *([pairs("A", "M1", f"X{n}")] for n in range(8))):
        stage(database, each)
    work = work_on(database)
    assert not help_apply(work)  # Nothing is applied yet.
    while plan_status(database, "b").state is not PlanState.APPLYING:
        advance_next(work)
    assert not help_apply(work)  # No process holds the plan, which may wait for something.
    applied: list[int] = []

    def apply(stored: StoredChunk) -> str | None:
        while stored.number == 0 and help_apply(work._replace(apply=note)):
            pass
        return note(stored)

    def note(stored: StoredChunk) -> str | None:
        applied.append(stored.number)
        return work.apply(stored)

    advance_next(work._replace(apply=apply))
    by_helper = applied[: applied.index(0)]
    assert len(by_helper) == 8 - FEWEST + 1
    assert sorted(applied) == list(range(8))
    assert advance(database).differences == ()
    assert books(database) == {
        "received": 16,
        "enrolled": 1,
        "already_enrolled": 7,
        "rejected": 8,
    }


def test_nothing_is_applied_out_of_order_while_a_roster_is_not(database: Database) -> None:
    plan = request(("s", Kind.STUDENTS), ("b", Kind.ENROLLMENTS))
    records = [[{"sis_id": f"N{n}"}] for n in range(2)]
    for each in chunks_of(plan, *records, batch_id="s"):
        stage(database, each, Kind.STUDENTS)
    for each in chunks_of(plan, *([pairs("N1", "M1")] for _ in range(5))):
        stage(database, each)
    work = work_on(database)
    while plan_status(database, "b").state is not PlanState.APPLYING:
        advance_next(work)
    helped: list[tuple[str, bool]] = []

    def apply(stored: StoredChunk) -> str | None:
        helped.append((stored.batch_id, help_apply(work)))
        return work.apply(stored)

    advance_next(work._replace(apply=apply))
    assert helped[:3] == [("s", False), ("s", False), ("b", True)]
    assert advance(database).differences == ()


def test_workers_that_are_lost_while_they_make_a_plan_leave_longer_pauses_and_advice(
    database: Database,
) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")])[0])
    pauses = []
    for _ in range(6):
        make_due(database)
        lost = take_next(database, own_clock)
        assert lost is not None
        with database.reading() as connection:
            due_at = connection.scalar(select(PlanRow.due_at))
            assert due_at is not None
            pauses.append((due_at - lost.now(connection)).total_seconds())
    assert pauses[0] < pauses[3] < pauses[5] < 1000
    assert "started to make this plan 6 times" in str(plan_status(database, "b").advice)
    make_due(database)
    assert advance(database).state is PlanState.HELD


def test_a_chunk_that_cannot_be_applied_holds_up_the_rest_until_it_was_retried(
    database: Database,
) -> None:
    for each in chunks_of(request(), [pairs("A", "M1")], [pairs("B", "M1")]):
        stage(database, each)
    work = work_on(database)
    while plan_status(database, "b").state is not PlanState.APPLYING:
        advance_next(work)
    advance_next(work._replace(apply=lambda _: "it killed its worker"))
    stuck = plan_status(database, "b")
    assert stuck.state is PlanState.APPLYING
    assert "chunk 0 of the batch b could not be applied" in str(stuck.advice)
    assert enrolled(database) == set()
    make_due(database)
    done = advance(database)
    assert (done.state, done.advice) == (PlanState.DONE, None)


def test_the_operator_may_discard_a_plan_that_cannot_be_finished(database: Database) -> None:
    first, second = chunks_of(request(), [pairs("A", "M1")], [pairs("B", "M1")])
    stage(database, first)
    stage(database, second)
    work = work_on(database)
    while plan_status(database, "b").state is not PlanState.APPLYING:
        advance_next(work)
    with pytest.raises(DecisionRefused, match="already being applied"):
        decide(database, "b", Decision.DISCARD, None)
    advance_next(work._replace(apply=lambda stored: "no" if stored.number else work.apply(stored)))
    assert "then the plan continues by itself" in str(plan_status(database, "b").advice)
    decide(database, "b", Decision.DISCARD, None)
    status_of_plan = plan_status(database, "b")
    assert status_of_plan.state is PlanState.DISCARDED
    assert "What had been applied stays" in str(status_of_plan.advice)
    assert str(status_of_plan.advice).endswith("became a dead letter (no).")
    assert enrolled(database) == {(1, 1)}
    assert status(database).state is BatchState.DISCARDED
    assert status(database).advice == status_of_plan.advice


def test_no_end_is_foretold_of_a_batch_that_does_not_go_on(database: Database) -> None:
    for each in chunks_of(request(), *[[pairs(name, "M1")] for name in ("A", "B", "C")]):
        stage(database, each)
    work = work_on(database)
    while plan_status(database, "b").state is not PlanState.APPLYING:
        advance_next(work)
    left: list[float | None] = []

    def apply(stored: StoredChunk) -> str | None:
        if stored.number < 2:
            return work.apply(stored)
        left.append(status(database).seconds_left)
        return "no"

    advance_next(work._replace(apply=apply))
    assert left != [None]
    assert status(database).seconds_left is None
    decide(database, "b", Decision.DISCARD, None)
    assert status(database).seconds_left is None


def test_other_chunks_under_the_id_of_a_planned_batch_are_never_mixed_with_its_own(
    database: Database,
) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")])[0])
    held = advance(database)
    # As if it had been applied in the very moment in which the plan was stored.
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("B", "M2"), plan=HELD))
    decide(database, "b", Decision.APPROVE, held.digest)
    stuck = advance(database)
    assert stuck.state is PlanState.APPLYING
    assert "the chunks that were applied under the batch id b are not" in str(stuck.advice)
    assert enrolled(database) == {(2, 2)}
    decide(database, "b", Decision.DISCARD, None)


@pytest.mark.parametrize(
    ("expiry", "days", "is_expired"),
    [
        (Expiry(), 29, False),
        (Expiry(), 31, True),
        (Expiry(held=timedelta(days=40)), 31, False),
        (Expiry(held=timedelta(days=40)), 41, True),
    ],
)
def test_a_held_plan_expires(
    database: Database, expiry: Expiry, days: int, is_expired: bool
) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")])[0])
    advance(database)
    age(database, days)
    aged = advance(database, expiry=expiry)
    assert aged.state is (PlanState.DISCARDED if is_expired else PlanState.HELD)
    assert ("expired because there was no decision" in str(aged.advice)) is is_expired
    assert (aged.expires_at is None) is is_expired


@pytest.mark.parametrize(("days", "is_expired"), [(6, False), (8, True)])
def test_an_incomplete_plan_is_stalled_and_then_expires(
    database: Database, days: int, is_expired: bool
) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")], [pairs("B", "M1")])[0])
    assert advance(database).advice is None
    assert status(database).state is BatchState.STAGED
    age(database, days)
    aged = advance(database)
    assert aged.state is (PlanState.DISCARDED if is_expired else PlanState.STAGED)
    expected = "It expired because" if is_expired else "Chunks of b are missing"
    assert expected in str(aged.advice)
    state = BatchState.DISCARDED if is_expired else BatchState.STALLED
    assert status(database).state is state


def test_each_decision_has_one_clear_answer(database: Database) -> None:
    def refusal(decision: Decision, digest: str | None, plan_id: str = "b") -> str:
        with pytest.raises(DecisionRefused) as refused:
            decide(database, plan_id, decision, digest)
        return str(refused.value)

    assert refusal(Decision.APPROVE, "0" * 64, "x") == "There is no plan x. Check the id."
    stage(database, chunks_of(HELD, [pairs("A", "M1")])[0])
    assert "its report is not made yet" in refusal(Decision.APPROVE, "0" * 64)
    held = advance(database)
    assert "made again after the report was shown" in refusal(Decision.DISCARD, "0" * 64)
    assert "made again after the report was shown" in refusal(Decision.APPROVE, None)
    decide(database, "b", Decision.APPROVE, held.digest)
    assert "already approved" in refusal(Decision.APPROVE, held.digest)
    assert "already approved" in refusal(Decision.DISCARD, held.digest)
    assert advance(database).state is PlanState.DONE
    assert "already applied" in refusal(Decision.APPROVE, held.digest)


def test_a_discarded_plan_stays_discarded(database: Database) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")])[0])
    held = advance(database)
    decide(database, "b", Decision.DISCARD, held.digest)
    with pytest.raises(DecisionRefused, match="is discarded"):
        decide(database, "b", Decision.APPROVE, held.digest)
    make_due(database)
    assert advance(database).state is PlanState.DISCARDED
    assert enrolled(database) == set()
    found = status(database)
    assert found.state is BatchState.DISCARDED
    assert found.books.not_applied == found.books.received == 1


def test_a_plan_that_is_made_again_has_another_digest(database: Database) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")])[0])
    first = advance(database)
    with database.writing() as connection:
        connection.execute(update(PlanRow).values(state=PlanState.STAGED, due_at=MOMENT))
    second = advance(database)
    assert second.state is PlanState.HELD
    assert second.digest != first.digest
    with pytest.raises(DecisionRefused, match="made again"):
        decide(database, "b", Decision.APPROVE, first.digest)


def test_a_decided_plan_takes_turns_with_those_that_are_still_to_be_made(
    database: Database,
) -> None:
    """A plan is put back after each part of it; others that were due earlier may be many."""
    for name in ("first", "second", "decided"):
        purpose = PlanPurpose.APPLY if name == "decided" else PlanPurpose.REPORT
        (only,) = chunks_of(
            request((name, Kind.ENROLLMENTS), purpose=purpose), [pairs("A", "M1")], batch_id=name
        )
        stage(database, only)
    with database.writing() as connection:
        decided = update(PlanRow).where(PlanRow.id == "decided")
        connection.execute(decided.values(due_at=MOMENT))
    assert advance_next(work_on(database))  # Its report is made.
    with database.writing() as connection:
        connection.execute(decided.values(due_at=own_clock()))

    def states() -> list[str]:
        return [plan_status(database, name).state for name in ("first", "second", "decided")]

    assert states() == ["staged", "staged", "approved"]
    assert advance_next(work_on(database)._replace(decided_first=True))
    assert states() == ["staged", "staged", "applying"]
    assert advance_next(work_on(database))
    assert states() == ["planned", "staged", "applying"]
    assert advance_next(work_on(database)._replace(decided_first=True))
    assert states() == ["planned", "staged", "done"]
