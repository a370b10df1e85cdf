"""Whatever is planned, held, decided and undone, the fake client says what the worker says."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, currently_in_test_context, event, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import EnrollmentChunk
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import PlanState, PlanStatus
from producer.contract.routing import KIND_TASKS
from producer.errors import UndoRefused
from producer.schemas import Kind
from producer.testing import FakeEnrollmentClient
from producer.testing.connection import MemoryBroker
from producer.testing.worker import MemoryWorker
from support.databases import opened_database, without_syncing
from support.sql_worker import SqlWorker

pytestmark = pytest.mark.one_database

STUDENTS = [f"S{number:02}" for number in range(24)]
COURSES = ["C1", "C2"]
DATA_SETS = ["sis", "other"]

Pairs = list[tuple[str, str]]


class Step(NamedTuple):
    """Something that clients and their workers do."""

    verb: str
    arguments: dict[str, Any]


students = st.sets(st.sampled_from(STUDENTS))
most_students = st.sets(st.sampled_from(STUDENTS), max_size=6).map(
    lambda missing: set(STUDENTS) - missing
)
pairs = st.tuples(most_students | students, most_students | most_students).map(
    lambda chosen: [
        (student, course)
        for course, own in zip(COURSES, chosen, strict=True)
        for student in sorted(own)
    ]
)
mistakes = st.lists(
    st.sampled_from([("ghost", "C1"), ("S01", "nope"), ("ghost", "nope")]), max_size=1
)
data_sets = st.sampled_from(DATA_SETS)
steps = st.one_of(
    st.builds(dict, pairs=pairs, data_set=data_sets | st.none()).map(lambda a: Step("batch", a)),
    st.builds(
        dict,
        pairs=pairs,
        mistakes=mistakes,
        data_set=data_sets,
        adopt=st.booleans(),
        hold=st.sampled_from([None, None, "always", "2%", "40%"]),
    ).map(lambda a: Step("snapshot", a)),
    st.builds(dict, pair=st.tuples(st.sampled_from(STUDENTS), st.sampled_from(COURSES))).map(
        lambda a: Step("drop", a)
    ),
    st.builds(dict, decision=st.sampled_from(["approve", "discard"])).map(
        lambda a: Step("decide", a)
    ),
    st.just(Step("undo", {})),
)


EVERYBODY = [(student, course) for course in COURSES for student in STUDENTS]
FIRST = Step(
    "snapshot",
    {"pairs": EVERYBODY, "mistakes": [], "data_set": "sis", "adopt": False, "hold": None},
)
"""A term begins with a file that names everybody."""


class Side:
    """A client with its worker, and what was submitted through it."""

    def __init__(self, worker: SqlWorker | MemoryWorker) -> None:
        self.client = FakeEnrollmentClient(broker=MemoryBroker(worker), timeout=1)
        for name in DATA_SETS:
            worker.create_data_set(name)
        self.client.submit_batch("students", [{"sis_id": each} for each in STUDENTS])
        self.client.submit_batch("courses", [{"sis_id": each} for each in COURSES])
        self.batches: list[str] = []
        self.is_any_undone = self.is_any_late = False
        self._worker = worker

    def receive(self, chunk: EnrollmentChunk) -> None:
        """Let the worker receive a chunk, as from the broker."""
        text = chunk.model_dump_json(exclude_unset=True)
        self._worker.run(KIND_TASKS[Kind.ENROLLMENTS], [text], {}, {})

    def do(self, step: Step) -> Any:
        """Do a step, and return what is the same for every client."""
        return getattr(self, step.verb)(**step.arguments)

    def _submit(self, pairs: Pairs, data_set: str | None, plan: PlanRequest | None = None) -> str:
        batch_id = plan.id if plan else f"b{len(self.batches)}"
        records = [{"student_id": student, "course_ids": [course]} for student, course in pairs]
        self.client.submit_batch(
            "enrollments", records, batch_id=batch_id, data_set=data_set, plan=plan
        )
        self.batches.append(batch_id)
        return batch_id

    def batch(self, pairs: Pairs, data_set: str | None) -> Any:
        return self.client.batch(self._submit(pairs, data_set)).books

    def reopen(self, pairs: Pairs, data_set: str | None) -> Any:
        """Apply an operation list that drops pairs and enrolls them again."""
        batch_id = f"b{len(self.batches)}"
        self.batches.append(batch_id)
        records = [{"student_id": s, "drop_course_ids": [c]} for s, c in pairs]
        records += [{"student_id": s, "course_ids": [c]} for s, c in pairs]
        self.receive(
            EnrollmentChunk(
                batch_id=batch_id,
                number=0,
                last=True,
                ordered=True,
                data_set=data_set,
                records=tuple(records),
            )
        )
        return self.client.batch(batch_id).books

    def undo_undo(self) -> Any:
        """Undo the undo of the newest batch."""
        undo = self.client.undo(f"undo:{self.batches[-1]}")
        return undo.state, undo.books

    def snapshot(
        self, pairs: Pairs, mistakes: Pairs, data_set: str, *, adopt: bool, hold: str | None
    ) -> Any:
        own_id = f"b{len(self.batches)}"
        plan = PlanRequest(
            id=own_id,
            members=(PlanMember(batch_id=own_id, kind=Kind.ENROLLMENTS),),
            purpose=PlanPurpose.APPLY,
            snapshot=True,
            adopt=adopt,
            hold=hold,
        )
        return self._shown(self._submit([*pairs, *mistakes], data_set, plan))

    def _shown(self, plan_id: str) -> Any:
        drops = self.client.planned_drops(plan_id)
        outcomes = [(drop.student_sis_id, drop.course_sis_id, drop.outcome) for drop in drops]
        return *_shown(self.client.plan(plan_id)), sorted(outcomes)

    def drop(self, pair: tuple[str, str]) -> Any:
        student, course = pair
        record = {"student_id": student, "drop_course_ids": [course]}
        return self.client.enroll(record).status

    def decide(self, decision: str) -> Any:
        """Decide about the newest plan that is held."""
        plans = (self.client.plan(batch_id) for batch_id in reversed(self.batches))
        held = next((plan for plan in plans if plan.state is PlanState.HELD), None)
        if held is None:
            return None
        later = self.batches[self.batches.index(held.plan_id) + 1 :]
        self.is_any_late |= any(self.client.batch(each).state == "done" for each in later)
        self.client.decide(held.plan_id, decision, str(held.digest))
        return self._shown(held.plan_id)

    def undo(self) -> Any:
        """Undo the newest batch that was applied and not undone.

        The fake does not promise the same if a plan was approved after newer batches were applied,
        and another batch was undone before.
        """
        if self.is_any_undone and self.is_any_late:
            return None
        for batch_id in reversed(self.batches):
            status = self.client.batch(batch_id)
            if status.state == "done" and status.undone_by is None:
                try:
                    undo = self.client.undo(batch_id)
                except UndoRefused as error:
                    return str(error)
                self.is_any_undone = True
                undone_by = (
                    self.client.batch(batch_id).undone_by,
                    self.client.plan(batch_id).undone_by,
                )
                left = [(each.student_sis_id, each.action) for each in undo.left]
                return undo.state, undo.books, left, undone_by
        return None

    def enrolled(self) -> dict[Any, list[Any]]:
        """Return the courses of each student."""
        found = filter(None, self.client.students(STUDENTS))
        return {student.sis_id: [c.sis_id for c in student.courses] for student in found}


def _shown(plan: PlanStatus) -> Any:
    """Return what is the same for every client: sentences and moments are not."""
    return (
        plan.state,
        sorted(reason.code for reason in plan.reasons),
        plan.owned_before,
        plan.absent,
        plan.applied,
        sorted((c.sis_id, c.owned, c.drops) for c in plan.courses),
        [batch.books for batch in plan.batches],
    )


def snapshot_without(pairs: Pairs, data_set: str = "sis", *, adopt: bool = False) -> Step:
    """Return a snapshot that names all pairs but these."""
    named = [pair for pair in EVERYBODY if pair not in pairs]
    arguments = {"pairs": named, "mistakes": [], "data_set": data_set, "adopt": adopt, "hold": None}
    return Step("snapshot", arguments)


def batch_of(pairs: Pairs, data_set: str | None) -> Step:
    return Step("batch", {"pairs": pairs, "data_set": data_set})


SOME, UNDO = EVERYBODY[:2], Step("undo", {})
OWNERS = {
    "a note goes with the batch that made it": [batch_of(SOME, "other"), UNDO],
    "a data set owns again what its snapshot passed on": [
        batch_of(SOME, "other"),
        snapshot_without(SOME),
        UNDO,
    ],
    "what a snapshot adopted has no owner again": [
        snapshot_without(SOME),
        batch_of(SOME, None),
        snapshot_without([], adopt=True),
        UNDO,
    ],
    "what a list ended and opened again has its former owner": [
        Step("reopen", {"pairs": SOME, "data_set": "other"}),
        UNDO,
    ],
    "what a list ended and opened again is its own after the undo of its undo": [
        Step("reopen", {"pairs": SOME, "data_set": "other"}),
        UNDO,
        Step("undo_undo", {}),
    ],
    "a note is back that a later snapshot had outdated": [
        batch_of(SOME, "other"),
        snapshot_without(SOME, "other"),
        UNDO,
    ],
}
"""Scripts after which a snapshot that does not name some pairs shows to whom they belong."""


@pytest.fixture
def sql_worker(new_database: Callable[[str], str]) -> Iterator[SqlWorker]:
    with opened_database(new_database("sqlite")) as database:
        yield SqlWorker(without_syncing(database))


@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(script=st.lists(steps, min_size=2, max_size=5))
def test_plans_and_undos_of_the_fake_are_those_of_the_worker(
    sql_worker: SqlWorker, script: list[Step]
) -> None:
    compare(sql_worker, script)


HALF = [*EVERYBODY[:12], *EVERYBODY[24:36]]
LATE = {
    "what the data set enrolls meanwhile": batch_of(HALF[:1], "sis"),
    "what another data set names meanwhile": batch_of(EVERYBODY[12:14], "other"),
    "what is dropped meanwhile": Step("drop", {"pair": EVERYBODY[12]}),
}
"""Steps between the report of a snapshot that is held, and its approval."""


@pytest.mark.parametrize("step", LATE.values(), ids=LATE)
def test_what_became_of_planned_drops_is_what_the_worker_says(
    sql_worker: SqlWorker, step: Step
) -> None:
    extra = Step("drop", {"pair": HALF[0]})
    held = Step(
        "snapshot",
        {"pairs": HALF[1:], "mistakes": [], "data_set": "sis", "adopt": False, "hold": "always"},
    )
    compare(sql_worker, [extra, held, step, Step("decide", {"decision": "approve"})])


@pytest.mark.parametrize("script", OWNERS.values(), ids=OWNERS)
def test_owners_and_notes_after_an_undo_are_those_of_the_worker(
    sql_worker: SqlWorker, script: list[Step]
) -> None:
    compare(sql_worker, [*script, snapshot_without(SOME)])


def compare(sql_worker: SqlWorker, script: list[Step]) -> None:
    """Do the steps with the fake and with the worker, and compare what each of them does."""
    sql_worker.clear()
    sides = Side(sql_worker), Side(MemoryWorker())
    for step in [FIRST, *script]:
        expected, actual = (side.do(step) for side in sides)
        assert actual == expected, step
        if currently_in_test_context():
            event(f"{step.verb}: {expected[:2] if isinstance(expected, tuple) else ''}")
        stored, in_memory = (side.enrolled() for side in sides)
        assert in_memory == stored, step


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_batch_that_is_undone_while_it_arrives_is_stopped(
    sql_worker: SqlWorker, in_memory: bool
) -> None:
    side = Side(MemoryWorker() if in_memory else sql_worker)
    first, second = (
        EnrollmentChunk(
            batch_id="b",
            number=number,
            last=number == 1,
            records=({"student_id": student, "course_ids": ["C1"]},),
        )
        for number, student in enumerate(STUDENTS[:2])
    )
    side.receive(first)
    assert side.client.undo("b").books.dropped == 1
    side.receive(second)
    status = side.client.batch("b", refusals=True)
    assert (status.state, status.undone_by) == ("done", "undo:b")
    assert (status.books.enrolled, status.books.rejected) == (1, 1)
    assert [refusal.code for refusal in status.refusals] == ["undone"]
    assert not any(side.enrolled().values())
