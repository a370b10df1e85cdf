"""A derived result and a stored one cannot be told apart. On both databases."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from producer.contract.chunks import COURSE_FIELDS
from producer.schemas import Action
from support.twins import (
    BATCHES,
    CHUNKS,
    COURSES,
    NEVER,
    POSITIONS,
    STUDENTS,
    Delivery,
    Twins,
    at,
)
from worker import repository as enrollments
from worker.batches.apply import ChunkOutcome
from worker.database import sets
from worker.database.engine import Database
from worker.database.identity import renew_identity
from worker.enrollment import clean_results, shortcuts
from worker.enrollment.derived import entries
from worker.enrollment.derived import repository as derived
from worker.enrollment.lookups import request_statuses, student_results
from worker.models import IdentityRow

LATEST = 12
"""The minute at which the last step of a story is done."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "postgresql-large"])
def twins(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Twins]:
    """For "large", each chunk is treated like one that is large enough for COPY."""
    dialect, _, is_large = request.param.partition("-")
    deriving, storing = Database(new_database(dialect)), Database(new_database(dialect))
    with pytest.MonkeyPatch.context() as patch:
        if is_large:
            patch.setattr(enrollments, "SAMPLE_SIZE", 1)
            patch.setattr(derived, "MANY", 0)
            for module in (shortcuts, clean_results, sets, enrollments):
                patch.setattr(module, "COPY_ROWS", 1)
        yield Twins(deriving, storing)
    deriving.close()
    storing.close()


students = st.sampled_from([*STUDENTS * 3, 1, 2, 3, "unknown"])
courses = st.lists(
    st.sampled_from([*COURSES * 4, 1, 2, "unknown"]), min_size=1, max_size=3, unique=True
)
minutes = st.integers(0, LATEST)


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    count = draw(st.integers(1, POSITIONS))
    action = draw(st.sampled_from([Action.ENROLL, Action.ENROLL, Action.ENROLL, Action.DROP]))
    named = [draw(st.tuples(students, courses)) for _ in range(count)]
    number = draw(st.integers(0, CHUNKS - 1))
    chunk: dict[str, Any] = {"batch_id": draw(st.sampled_from(BATCHES)), "number": number}
    chunk["last"] = number == CHUNKS - 1
    atomic = draw(st.booleans())
    if draw(st.booleans()):
        chunk["requests"] = {
            "student_ids": [student for student, _ in named],
            COURSE_FIELDS[action]: [wanted for _, wanted in named],
            "atomic": atomic,
        }
    else:
        field = COURSE_FIELDS[action]
        chunk["records"] = [
            {"student_id": student, field: wanted, "atomic": atomic} for student, wanted in named
        ]
        if draw(st.booleans()):
            chunk["lines"] = [3 * position + 2 for position in range(count)]
    poison = draw(st.sampled_from([{}, {}, {}, {}, {0: "it killed its worker"}]))
    return Delivery(chunk, draw(minutes), poison)


@st.composite
def single_requests(draw: st.DrawFn) -> dict[str, Any]:
    record = {"student_id": draw(students), "request_id": draw(st.sampled_from(["r0", "r1", "r2"]))}
    action = draw(st.sampled_from([Action.ENROLL, Action.DROP, Action.DROP]))
    return {**record, COURSE_FIELDS[action]: list(dict.fromkeys(draw(courses)))}


@st.composite
def beginnings(draw: st.DrawFn) -> Delivery:
    """Draw a chunk of which all requests are fresh."""
    pairs = st.tuples(st.sampled_from(STUDENTS), st.sampled_from(COURSES))
    fresh = draw(st.lists(pairs, min_size=1, max_size=POSITIONS, unique=True))
    chunk = {"batch_id": draw(st.sampled_from(BATCHES)), "number": draw(st.integers(0, 1))}
    columns = {"student_ids": [s for s, _ in fresh], "course_ids": [[c] for _, c in fresh]}
    return Delivery({**chunk, "requests": columns}, 0, {})


steps = st.one_of(
    st.tuples(st.just("deliver"), deliveries()),
    st.tuples(st.just("deliver"), deliveries()),
    st.tuples(st.just("redeliver"), st.integers(0, 10)),
    st.tuples(st.just("request"), single_requests()),
    st.tuples(st.just("request"), single_requests()),
    st.tuples(st.just("prune"), minutes),
    st.tuples(st.just("retry"), st.none()),
)


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=st.tuples(beginnings(), st.lists(st.tuples(steps, minutes), max_size=LATEST - 1)))
def test_no_client_can_tell_a_derived_result_from_a_stored_one(
    twins: Twins, story: tuple[Delivery, list[tuple[Any, int]]]
) -> None:
    first, more = story
    steps_of_story = [(("deliver", first), 0), *more]
    twins.clear()
    delivered: list[Delivery] = []
    most = 0
    for minute, ((step, what), moment) in enumerate(steps_of_story, 1):
        if step == "redeliver" and delivered:
            twins.deliver(delivered[what % len(delivered)], minute)
        elif step == "deliver":
            delivered.append(what)
            twins.deliver(what._replace(minute=min(what.minute, minute)), minute)
        elif step == "request":
            twins.request(what, min(moment, minute), minute)
        elif step == "prune":
            twins.prune(min(what, minute), minute)
        elif step == "retry":
            twins.retry(minute)
        most = max(most, twins.derived())
        if step in ("prune", "retry") or minute == len(steps_of_story):
            twins.compare([minute // 2, minute])
    event(f"derived: {min(most, 3)}")


# --- One at a time ----------------------------------------------------------------------------


def chunk(*requests: tuple[str | int, list[str]], batch_id: str = "b", **more: Any) -> Delivery:
    columns = {"student_ids": [s for s, _ in requests], "course_ids": [c for _, c in requests]}
    return Delivery({"batch_id": batch_id, "number": 0, **more, "requests": columns}, 0, {})


def test_only_results_that_say_more_than_added_are_stored(twins: Twins) -> None:
    twins.clear()
    twins.deliver(chunk(("A", ["M1"])), 1)
    assert twins.derived() == 1
    again = chunk(("A", ["M1", "M2"]), ("B", ["M2"]), ("unknown", ["M1"]), (3, ["M4"]), number=1)
    twins.deliver(again, 2)
    assert twins.derived() == 3
    ids = ["b:0:0", "b:1:0", "b:1:1", "b:1:2", "b:1:3"]
    states = request_statuses(twins.deriving, ids, {})
    results = [state.result for state in states if state.result]
    assert [result.status for result in results] == ["enrolled"] * 3 + ["rejected", "enrolled"]
    assert [[c.added for c in result.enrolled_courses] for result in results] == [
        *([True], [False, True], [True], [], [True])
    ]
    twins.compare([0, 1])


def test_a_request_for_many_courses_has_a_stored_result(twins: Twins) -> None:
    twins.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "MAX_COURSES", 2)
        twins.deliver(chunk(("A", ["M1", "M2", "M3"]), ("B", ["M2", "M1"]), ("C", ["M4"])), 1)
    assert twins.derived() == 2
    twins.compare([0, 1])


def test_batches_with_one_moment_keep_their_results_apart(twins: Twins) -> None:
    twins.clear()
    twins.deliver(chunk(("A", ["M1"]), ("B", ["M2"])), 1)
    twins.deliver(chunk(("B", ["M1"]), ("A", ["M2"]), batch_id="d"), 1)
    twins.deliver(chunk(("A", ["M3"]), ("B", ["M4"]), batch_id="c:1"), 1)
    assert twins.derived() == 6
    twins.compare([0, 1])


def test_a_repeated_chunk_finds_that_it_was_applied(twins: Twins) -> None:
    twins.clear()
    same = chunk(("A", ["M1"]), ("B", ["M2"]))
    outcomes = [twins.deliver(same, minute).outcome for minute in (1, 2)]
    assert outcomes == [ChunkOutcome.APPLIED, ChunkOutcome.REPEATED]
    twins.compare([0, 2])


def test_a_result_outlives_the_past_enrollment_that_it_opened(twins: Twins) -> None:
    """The batch counted long before it was applied; what it opened ended in between."""
    twins.clear()
    twins.deliver(chunk(("A", ["M1"]), ("B", ["M1"]), last=True), 10)
    twins.request({"student_id": "A", "drop_course_ids": ["M1"], "request_id": "r0"}, 2, 10)
    assert twins.derived() == 2
    twins.prune(5, 11)
    assert twins.derived() == 0
    ((newest, *_),) = student_results(twins.deriving, ["B"], 1)
    assert newest.request_id == "b:0:1"
    twins.compare([0, 11])


def test_a_result_outlives_the_ledger_of_its_batch(twins: Twins) -> None:
    """A batch that is not done holds results back, but not the ledger of another batch."""
    twins.clear()
    slow = chunk(("C", ["M4"]), batch_id="d")
    twins.deliver(slow, 1)
    twins.deliver(chunk(("A", ["M1"]), last=True), 2)
    twins.deliver(chunk(("C", ["M3"]), batch_id="d", number=1), 9)
    assert twins.derived() == 3
    twins.prune(5, 10)
    assert twins.derived() == 2
    assert student_results(twins.deriving, ["A"], 1)[0][0].request_id == "b:0:0"
    twins.compare([0, 10])


def test_an_older_drop_does_not_end_what_a_derived_result_enrolled(twins: Twins) -> None:
    twins.clear()
    twins.deliver(chunk(("A", ["M1"]), ("B", ["M2"]))._replace(minute=3), 4)
    columns = {"student_ids": ["A", "B"], "drop_course_ids": [["M1"], ["M2"]]}
    drops = Delivery({"batch_id": "d", "number": 0, "requests": columns}, 2, {})
    assert twins.deliver(drops, 5).counts["superseded"] == 2
    twins.compare([2, 5])


def test_a_database_that_older_workers_use_stores_every_result(twins: Twins) -> None:
    twins.clear()
    twins.store_until(NEVER)
    with twins.deriving.writing() as connection:
        renew_identity(connection)
        assert connection.scalar(select(IdentityRow.results_stored_until)) == NEVER
    twins.deliver(chunk(("A", ["M1"])), 1)
    assert twins.derived() == 0
    twins.store_until(at(1))
    twins.deliver(chunk(("B", ["M1"]), number=1), 2)
    assert twins.derived() == 1
    twins.compare([0, 2])
