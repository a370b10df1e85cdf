"""Undo restores what was enrolled before a batch, unless later requests decide. Both databases."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from producer.fields import show_moment
from producer.schemas import Action
from support.databases import store_roster
from support.undoing import (
    COURSES,
    STUDENTS,
    Pair,
    apply,
    at,
    by_hand,
    columns,
    forget,
    own,
    owners,
    pairs,
    request,
    undone,
)
from worker.database.engine import Database

Step = tuple[str, int, str, list[str], list[str]]
"""A request by hand: its name, its minute, the student, the courses to enroll in and to drop."""

QUICK = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
)


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    store_roster(database, STUDENTS, COURSES)


some_courses = st.lists(st.sampled_from(COURSES), unique=True, max_size=3)


@st.composite
def by_hand_requests(draw: st.DrawFn, name: str, first: int, last: int) -> list[Step]:
    contents = st.tuples(
        st.integers(first, last), st.sampled_from(STUDENTS), some_courses, some_courses
    )
    steps: list[Step] = []
    for number, (minute, student, enroll, drop) in enumerate(draw(st.lists(contents, max_size=5))):
        dropped = [course for course in drop if course not in enroll]
        if enroll or dropped:
            steps.append((f"{name}{number}", minute, student, enroll, dropped))
    return steps


@st.composite
def requests_of_batch(draw: st.DrawFn, *, several_moments: bool) -> list[dict[str, Any]]:
    """Return requests; some have ids of their own, and some count at a time of their own."""
    requests = []
    contents = st.tuples(st.sampled_from(STUDENTS), some_courses, some_courses, st.booleans())
    for number, (student, enroll, drop, has_id) in enumerate(draw(st.lists(contents, max_size=8))):
        dropped = [course for course in drop if course not in enroll]
        fields: dict[str, Any] = {"request_id": f"own-{number}"} if has_id else {}
        if several_moments and draw(st.booleans()):
            fields["as_of"] = show_moment(at(draw(st.integers(-3, 3))))
        if enroll or dropped:
            requests.append(request(student, enroll, dropped, **fields))
    return requests


@st.composite
def batches(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return the chunks of a batch, in any order of delivery."""
    requests = draw(requests_of_batch(several_moments=draw(st.booleans())))
    is_ordered = draw(st.booleans())
    chunks: list[dict[str, Any]] = []
    while requests:
        size = draw(st.integers(1, len(requests)))
        chunks.append({"records": requests[:size], "ordered": is_ordered})
        requests = requests[size:]
    for action, name in ((Action.ENROLL, "course_ids"), (Action.DROP, "drop_course_ids")):
        if not is_ordered and draw(st.booleans()):
            listed = draw(st.lists(st.tuples(st.sampled_from(STUDENTS), some_courses), max_size=3))
            rows = [{"student_id": s, name: c} for s, c in listed if c]
            if rows:
                chunks.append({"requests": columns(rows, action)})
    for number, chunk in enumerate(chunks):
        chunk |= {"number": number, "last": number == len(chunks) - 1}
    return draw(st.permutations(chunks))


def deliver(database: Database, chunk: dict[str, Any]) -> None:
    fields = {name: value for name, value in chunk.items() if name != "records"}
    apply(database, *chunk.get("records", ()), **fields)


def latest(steps: Sequence[Step]) -> dict[Pair, bool]:
    """Return whether the latest request of each pair enrolls it; at one moment, enrolled wins."""
    asked = [
        (minute, action is Action.ENROLL, (student, course))
        for _, minute, student, enroll, drop in steps
        for action, courses in ((Action.ENROLL, enroll), (Action.DROP, drop))
        for course in courses
    ]
    return {pair: enrolls for _, enrolls, pair in sorted(asked)}


@QUICK
@given(
    before=by_hand_requests("before", -10, 5),
    chunks=batches(),
    data_sets=st.lists(st.sampled_from([None, 1, 2]), min_size=6, max_size=6),
)
def test_undo_restores_the_pairs_and_their_owners_and_undo_of_undo_what_the_batch_did(
    database: Database,
    before: list[Step],
    chunks: list[dict[str, Any]],
    data_sets: list[int | None],
) -> None:
    forget(database)
    for step in before:
        by_hand(database, *step)
    named = [(student, course) for student in STUDENTS for course in COURSES]
    own(database, dict(zip(named, data_sets, strict=True)))
    at_first = owners(database)
    for chunk in chunks:
        deliver(database, chunk)
    if not chunks:
        return
    after_batch = pairs(database)
    report = undone(database)
    assert owners(database) == at_first
    assert report.counts["superseded"] == report.counts["rejected"] == 0
    undone(database, "undo:b")
    assert pairs(database) == after_batch
    undone(database, "undo:undo:b")
    assert owners(database) == at_first


@QUICK
@given(
    before=by_hand_requests("before", -10, 5),
    chunks=batches(),
    later=by_hand_requests("later", 10, 20),
    data=st.data(),
)
def test_later_requests_win_whenever_they_arrive(
    database: Database,
    before: list[Step],
    chunks: list[dict[str, Any]],
    later: list[Step],
    data: st.DataObject,
) -> None:
    forget(database)
    for step in before:
        by_hand(database, *step)
    expected = dict.fromkeys(pairs(database), True) | latest(later)
    places = [data.draw(st.integers(0, len(chunks) + 1)) for _ in later]
    for place in range(len(chunks) + 2):
        for step, own_place in zip(later, places, strict=True):
            if own_place == place:
                by_hand(database, *step)
        if place < len(chunks):
            deliver(database, chunks[place])
        elif place == len(chunks) and chunks:
            undone(database)
    assert pairs(database) == {pair for pair, is_enrolled in expected.items() if is_enrolled}
