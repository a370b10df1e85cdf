"""A derived result and a stored one cannot be told apart. On both databases."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import COURSE_FIELDS
from producer.schemas import Action
from support.twins import BATCHES, CHUNKS, COURSES, POSITIONS, STUDENTS, Delivery, Twins
from worker import repository as enrollments
from worker.database import sets
from worker.database.engine import Database
from worker.enrollment import clean_results, shortcuts
from worker.enrollment.derived import repository as derived

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
