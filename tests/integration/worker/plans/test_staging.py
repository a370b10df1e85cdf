"""Chunks of a planned submission: stored once, whatever order they come in, and never mixed up."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from producer.contract.chunks import CheckedColumns, Chunk, EnrollmentChunk, RefusedLine, Tally
from producer.contract.headers import BatchOrigin
from producer.contract.plan_requests import PlanPurpose
from producer.contract.plans import PlanState
from producer.schemas import Kind
from support.chunks import apply_chunk, chunk, pairs, status
from support.staging import MOMENT, advance, chunks_of, request, stage
from worker.batches.apply import ChunkOutcome
from worker.batches.repository import find_chunk
from worker.batches.together import ReceivedChunk, apply_together
from worker.database.engine import Database
from worker.models import Base
from worker.plan_models import DataSet, PlanRow, StagedChunk
from worker.plans.reports.lookups import plan_status
from worker.plans.repository import find_members
from worker.plans.staging import StagingConflict

pytestmark = pytest.mark.usefixtures("roster")

CONFLICT = ChunkOutcome.CONFLICT
HELD = request(hold="always")
SNAPSHOT = request(snapshot=True)


def count(database: Database, model: type[Base]) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(model)) or 0


def add_data_set(database: Database, name: str, **fields: Any) -> None:
    row = {"id": 1, "name": name, "snapshots": True, "created_at": MOMENT, **fields}
    with database.writing() as connection:
        connection.execute(insert(DataSet).values(**row))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_chunks_may_come_in_any_order_and_twice(database: Database, order: list[int]) -> None:
    chunks = chunks_of(HELD, [pairs("A", "M1")], [pairs("A", "M2")], [pairs("B", "M1")])
    stored = [stage(database, chunks[number]) for number in order for _ in range(2)]
    assert [each.is_stored for each in stored] == [True, False] * 3
    assert [each.is_complete for each in stored].count(True) == 1
    assert plan_status(database, "b").state is PlanState.STAGED
    assert count(database, StagedChunk) == 3
    held = advance(database)
    assert held.state is PlanState.HELD
    assert held.batches[0].books.enrolled == 3


def other_records(plan: Any) -> Chunk:
    return chunks_of(plan, [pairs("B", "M2")], [])[0]


def other_plan(_: Any) -> Chunk:
    return chunks_of(request(), [pairs("A", "M1")], [], [])[1]


def after_the_last(plan: Any) -> Chunk:
    return chunks_of(plan, [], [], [], [])[3]


def another_last(plan: Any) -> Chunk:
    return chunks_of(plan, [pairs("A", "M1")])[0].model_copy(update={"number": 1})


def other_data_set(plan: Any) -> Chunk:
    return chunks_of(plan, [], [pairs("A", "M2")], [], data_set="other")[1]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (other_records, "a different chunk was stored under its batch id and number"),
        (other_plan, "describe it differently"),
        (after_the_last, "the batch ends with its chunk 2"),
        (another_last, "the batch ends with its chunk 2"),
        (other_data_set, "belongs to the data set sis"),
    ],
)
def test_a_chunk_that_does_not_fit_is_a_conflict(
    database: Database, make: Callable[[Any], Chunk], reason: str
) -> None:
    first, _, last = chunks_of(HELD, [pairs("A", "M1")], [], [pairs("B", "M1")], data_set="sis")
    stage(database, first)
    stage(database, last)
    before = plan_status(database, "b")
    with pytest.raises(StagingConflict, match=reason):
        stage(database, make(HELD))
    assert plan_status(database, "b") == before
    assert count(database, StagedChunk) == 2


def test_the_header_of_a_file_is_stored_once_and_not_read_for_each_chunk(
    database: Database,
) -> None:
    first, last = chunks_of(HELD, [pairs("A", "M1")], [pairs("B", "M1")], columns=("a", "b"))
    stage(database, first)
    stage(database, last)
    assert status(database).columns == ("a", "b")
    with database.reading() as connection:
        (member,) = find_members(connection, "b")
    assert {"columns", "form"}.isdisjoint(member._fields)


def test_a_last_chunk_before_one_that_is_stored_is_a_conflict(database: Database) -> None:
    stage(database, chunks_of(HELD, [], [], [pairs("A", "M1")], [])[2])
    with pytest.raises(StagingConflict, match="the batch has a chunk 2"):
        stage(database, chunks_of(HELD, [], [pairs("A", "M1")])[1])


def test_a_batch_belongs_to_one_plan_only(database: Database) -> None:
    package = request(("s", Kind.STUDENTS), ("b", Kind.ENROLLMENTS))
    (students,) = chunks_of(package, [{"sis_id": "C"}], batch_id="s")
    stage(database, students, Kind.STUDENTS)
    other = request(("s", Kind.STUDENTS), ("c", Kind.ENROLLMENTS))
    with pytest.raises(StagingConflict, match="the batch s already belongs to a plan other than"):
        stage(database, chunks_of(other, [], batch_id="c")[0])
    assert plan_status(database, "c").state is PlanState.UNKNOWN
    with pytest.raises(StagingConflict, match="does not list the batch x of enrollments"):
        stage(database, chunks_of(package, [], batch_id="x")[0])


def test_a_batch_that_was_applied_without_a_plan_is_not_planned_any_more(
    database: Database,
) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1")))
    with pytest.raises(StagingConflict, match="already applied without a plan"):
        stage(database, chunks_of(HELD, [pairs("A", "M1")])[0])
    assert count(database, PlanRow) == 0


@pytest.mark.parametrize("purpose", [None, *PlanPurpose])
@pytest.mark.parametrize("data_set", [None, "sis"])
def test_a_chunk_without_the_plan_of_its_batch_is_a_conflict_and_changes_nothing(
    database: Database, purpose: PlanPurpose | None, data_set: str | None
) -> None:
    """It would be applied although the status says that nothing is, and block the plan."""
    package = ("s", Kind.STUDENTS), ("b", Kind.ENROLLMENTS)
    plan = request(*package, purpose=purpose or PlanPurpose.APPLY)
    stage(database, chunks_of(plan, [pairs("C", "M1")])[0])
    if purpose is not None:
        stage(database, chunks_of(plan, [{"sis_id": "C"}], batch_id="s")[0], Kind.STUDENTS)
    before = advance(database)

    stray = chunk(pairs("B", "M2"), number=1, data_set=data_set)
    alone = apply_chunk(database, Kind.ENROLLMENTS, stray)
    small = ReceivedChunk(stray, 1, BatchOrigin(None, None))
    together = [each.outcome for each in apply_together(database, [small])]
    roster = apply_chunk(database, Kind.STUDENTS, chunk({"sis_id": "D"}, batch_id="s", number=7))

    assert (alone, together, roster) == (CONFLICT, [CONFLICT], CONFLICT)
    assert advance(database) == before
    with database.reading() as connection:
        assert find_chunk(connection, "b", 1) is None
        assert find_chunk(connection, "s", 7) is None


@pytest.mark.parametrize("purpose", list(PlanPurpose))
def test_after_the_end_a_repeat_changes_nothing_and_another_chunk_is_a_conflict(
    database: Database, purpose: PlanPurpose
) -> None:
    plan = request(purpose=purpose)
    (only,) = chunks_of(plan, [pairs("A", "M1")])
    stage(database, only)
    ended = advance(database)
    assert ended.state in (PlanState.PLANNED, PlanState.DONE)
    assert count(database, StagedChunk) == 0
    assert not stage(database, only).is_stored
    with pytest.raises(StagingConflict, match=f"its plan is already {ended.state}"):
        stage(database, chunks_of(plan, [pairs("B", "M1")])[0])
    assert plan_status(database, "b") == ended


def test_two_submissions_under_one_id_are_never_planned(database: Database) -> None:
    """Each fills a number of the other, and there are too few rows."""
    (first, _) = chunks_of(HELD, [pairs("A", "M1", "M2")], [])
    last = chunks_of(HELD, [], [pairs("B", "M1")])[1]
    stage(database, first)
    stage(database, last.model_copy(update={"before": Tally(requests=5, rows=5)}))
    status = advance(database)
    assert status.state is PlanState.STAGED
    assert "do not belong together" in str(status.advice)


def drops() -> Chunk:
    return chunks_of(SNAPSHOT, [{"student_id": "A", "drop_course_ids": ["M1"]}], data_set="sis")[0]


def actions() -> Chunk:
    return chunks_of(SNAPSHOT, [pairs("A", "M1")], data_set="sis", ordered=True)[0]


def dropped_columns() -> Chunk:
    columns = CheckedColumns(student_ids=("A",), drop_course_ids=(("M1",),), atomic=False)
    return EnrollmentChunk(
        batch_id="b", number=0, last=True, plan=SNAPSHOT, data_set="sis", requests=columns
    )


def nameless() -> Chunk:
    return chunks_of(SNAPSHOT, [pairs("A", "M1")])[0]


def unknown() -> Chunk:
    return chunks_of(SNAPSHOT, [pairs("A", "M1")], data_set="siss")[0]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (drops, "has drops or an action"),
        (dropped_columns, "has drops or an action"),
        (actions, "has drops or an action"),
        (nameless, "must name its data set"),
        (unknown, "enroll data-sets create siss"),
    ],
)
def test_a_snapshot_that_must_not_be_one_is_discarded_at_once(
    database: Database, make: Callable[[], Chunk], reason: str
) -> None:
    add_data_set(database, "sis")
    before = count(database, DataSet)
    assert not stage(database, make()).is_stored
    status = advance(database)
    assert status.state is PlanState.DISCARDED
    assert reason in str(status.advice)
    assert count(database, StagedChunk) == 0
    assert count(database, DataSet) == before


def test_a_data_set_that_only_batches_have_named_takes_no_snapshot(database: Database) -> None:
    add_data_set(database, "sis", snapshots=False)
    stage(database, chunks_of(SNAPSHOT, [pairs("A", "M1")], data_set="sis")[0])
    assert "enroll data-sets create sis" in str(plan_status(database, "b").advice)


def test_a_snapshot_with_a_moment_ahead_is_discarded(database: Database) -> None:
    add_data_set(database, "sis")
    (only,) = chunks_of(SNAPSHOT, [pairs("A", "M1")], data_set="sis")
    stage(database, only, moment=datetime.now(UTC) + timedelta(minutes=10))
    status = plan_status(database, "b")
    assert status.state is PlanState.DISCARDED
    assert "lies ahead of the clock" in str(status.advice)


def test_a_discarded_plan_takes_no_more_chunks(database: Database) -> None:
    first, second = chunks_of(SNAPSHOT, [pairs("A", "M1")], [pairs("B", "M1")], data_set="sis")
    stage(database, first)
    assert not stage(database, second).is_stored
    assert plan_status(database, "b").state is PlanState.DISCARDED
    assert count(database, StagedChunk) == 0


def test_bad_records_and_refused_lines_are_stored_as_they_came(database: Database) -> None:
    (only,) = chunks_of(
        HELD,
        ["what is this", pairs("A", "M1")],
        refused=(RefusedLine(line=9, message="not UTF-8"),),
    )
    stage(database, only)
    (batch,) = advance(database).batches
    assert batch.books.received == 3
    assert batch.books.rejected == 2
