"""Plans are taken in turns of their submitters, so that no flood of plans holds up all others."""

from datetime import timedelta

from sqlalchemy import Select, insert, text, update

from producer.contract.plan_requests import PlanPurpose
from producer.schemas import Kind
from support.chunks import pairs
from support.staging import MOMENT, chunks_of, request, stage, work_on
from worker.database.engine import Database
from worker.moments import own_clock
from worker.plan_models import PlanRow
from worker.plans.advance import advance_next
from worker.plans.holder import Turns, catch_up, take_next
from worker.plans.repository import due_in_turn

FLOOD = "flood"


def stage_dry_run(database: Database, name: str, submitter: str | None) -> None:
    plan = request((name, Kind.ENROLLMENTS), purpose=PlanPurpose.REPORT)
    (only,) = chunks_of(plan, [pairs("A", "M1")], batch_id=name)
    stage(database, only, submitter=submitter)


def taken(database: Database, turns: Turns, *, decided_first: bool = False) -> str:
    holder = take_next(database, own_clock, turns, decided_first=decided_first)
    assert holder is not None
    return str(holder.plan.id)


def test_each_submitter_has_a_turn_before_one_has_a_second(database: Database) -> None:
    for number in range(4):
        stage_dry_run(database, f"f{number}", FLOOD)
    others = [("n", None), ("r1", "registrar"), ("r2", "registrar"), ("a", "admin"), ("e", "")]
    for name, submitter in others:
        stage_dry_run(database, name, submitter)
    turns = Turns()
    order = [taken(database, turns) for _ in range(9)]
    assert order == ["e", "a", "f0", "r1", "n", "f1", "r2", "f2", "f3"]
    assert take_next(database, own_clock, turns) is None


def test_a_plan_that_is_to_be_applied_comes_between_the_turns(database: Database) -> None:
    for submitter in ("a", "b", "c"):
        stage_dry_run(database, submitter, submitter)
    (only,) = chunks_of(request(("z", Kind.ENROLLMENTS)), [pairs("A", "M1")], batch_id="z")
    stage(database, only, submitter="z")
    turns = Turns()
    assert advance_next(work_on(database)._replace(turns=turns))  # The report of a.
    turns.last = "y"
    assert advance_next(work_on(database)._replace(turns=turns))  # The one of z, which is approved.
    turns.last = "a"
    assert taken(database, turns, decided_first=True) == "z"
    assert taken(database, turns) == "b"
    assert taken(database, turns, decided_first=True) == "c"  # None is left that is to be applied.


def explained(database: Database, statement: Select[tuple[object, ...]]) -> str:
    """Return how the database reads what a statement selects."""
    dialect = database.engine.dialect
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    verb = "EXPLAIN QUERY PLAN" if dialect.name == "sqlite" else "EXPLAIN"
    with database.reading() as connection:
        rows = connection.exec_driver_sql(f"{verb} {compiled}".replace("%", "%%"))
        return "\n".join(str(row[-1]) for row in rows)


def test_the_next_plan_is_found_by_index(database: Database) -> None:
    due_at = {"done": None, "staged": MOMENT, "held": own_clock() + timedelta(days=30)}
    fields = {"request": {}, "submitter": FLOOD, "moment": MOMENT, "staged_at": MOMENT}
    plans = [
        {"id": f"{state}{n}", "state": state, "due_at": due, **fields}
        for state, due in due_at.items()
        for n in range(1_000)
    ]
    with database.writing() as connection:
        connection.execute(insert(PlanRow), plans)
    with database.writing() as connection:
        connection.execute(text("ANALYZE plans"))
    statements = [*due_in_turn(own_clock(), FLOOD, decided_first=True)]
    for statement in (*statements, *due_in_turn(own_clock(), None)):
        found = explained(database, statement)
        assert "ix_plans_" in found
        assert "Seq Scan" not in found
        assert "SCAN plans" not in found or "USING INDEX" in found


def test_plans_do_not_wait_for_a_clock_that_was_set_back(database: Database) -> None:
    two = request(("s", Kind.STUDENTS), ("incomplete", Kind.ENROLLMENTS))
    stage(database, chunks_of(two, [{"sis_id": "A"}], batch_id="s")[0], Kind.STUDENTS)
    for name in ("approved", "held", "staged"):
        stage_dry_run(database, name, None)
    ahead = own_clock() + timedelta(hours=1)
    with database.writing() as connection:
        for name in ("approved", "held", "staged"):
            later = update(PlanRow).where(PlanRow.id == name).values(state=name, due_at=ahead)
            connection.execute(later)
    assert take_next(database, own_clock) is None
    assert sorted(catch_up(database, own_clock)) == ["approved", "staged"]
    turns = Turns()
    assert sorted(taken(database, turns) for _ in range(2)) == ["approved", "staged"]
    assert take_next(database, own_clock) is None
    assert catch_up(database, own_clock) == []
