"""In whatever order, chunks and copies requests come, the latest moments decide who is enrolled."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise, permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.history import Change, HistoryEntry
from support.in_memory import COURSES, STUDENTS, InMemory, at

Operation = tuple[bool, tuple[str, str], int]
"""True for an enrollment and false for a drop, the pair, and the minute at which it counts."""


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a request: an enrollment, a drop or both, of courses of which one does not exist."""
    named = draw(st.lists(st.sampled_from([*COURSES, "?"]), min_size=1, max_size=4, unique=True))
    enrolls = draw(st.integers(0, len(named)))
    record = {
        "student_id": draw(st.sampled_from(STUDENTS[:2])),
        "course_ids": named[:enrolls],
        "drop_course_ids": named[enrolls:],
        "atomic": draw(st.booleans()),
        "as_of": at(draw(st.integers(0, 6))).isoformat(),
    }
    if draw(st.booleans()):
        # Requests that ask for the same have the same id, so that the later one is a repeat.
        record["request_id"] = sha256(repr(record).encode()).hexdigest()
    return record


def operations(record: dict[str, Any]) -> Iterator[Operation]:
    lists = [record["course_ids"], record["drop_course_ids"]]
    if record["atomic"] and any("?" in courses for courses in lists):
        return
    minute = next(m for m in range(7) if at(m).isoformat() == record["as_of"])
    for is_enrolled, courses in zip((True, False), lists, strict=True):
        for course in courses:
            if course != "?":
                yield is_enrolled, (record["student_id"], course), minute


def expected(requests: list[Operation]) -> set[tuple[str, str]]:
    """Sort by moment: the last request of each pair decides; at equal moments, enrolled wins."""
    by_moment = sorted(requests, key=lambda request: (request[2], request[0]))
    enrolled = {pair: is_enrolled for is_enrolled, pair, _ in by_moment}
    return {pair for pair, is_enrolled in enrolled.items() if is_enrolled}


def deliver(worker: InMemory, delivered: list[dict[str, Any]], chance: Random) -> None:
    """Deliver requests in chunks of any size, in any order, some chunks twice."""
    chunks, rest = [], list(delivered)
    while rest:
        size = chance.randint(1, len(rest))
        chunks.append(rest[:size])
        rest = rest[size:]
    numbers = [*range(len(chunks)), *chance.sample(range(len(chunks)), len(chunks) // 2)]
    chance.shuffle(numbers)
    for number in numbers:
        is_last = number == len(chunks) - 1
        worker.apply(*chunks[number], number=number, last=is_last)


@given(st.lists(records(), max_size=8), st.randoms(use_true_random=False))
def test_the_enrolled_pairs_are_those_that_the_latest_moments_ask_for(
    requests: list[dict[str, Any]], chance: Random
) -> None:
    worker = InMemory()
    delivered = requests * 2
    chance.shuffle(delivered)
    deliver(worker, delivered, chance)
    if delivered:
        assert "not_applied" not in worker.books()
    assert worker.pairs() == expected([o for record in requests for o in operations(record)])
    assert_histories_rebuild(worker)


def assert_histories_rebuild(worker: InMemory) -> None:
    """Check that histories lead to the enrolled pairs, and at every moment to the rolls."""
    entries = [(s, entry) for s in STUDENTS for entry in reversed(worker.history(s).entries)]
    assert replay(entries) == worker.pairs()
    for minute in range(7):
        until_then = [(s, entry) for s, entry in entries if entry.moment <= at(minute)]
        rolls = {course: worker.roll(course, at(minute).isoformat()) for course in COURSES}
        assert replay(until_then) == {(s.sis_id, c) for c in COURSES for s in rolls[c].students}


def replay(entries: list[tuple[str, HistoryEntry]]) -> set[tuple[str, str]]:
    pairs: set[tuple[str, str]] = set()
    for student, entry in entries:
        if entry.change in (Change.ENROLLED, Change.DROPPED):
            assert entry.course is not None
            pair = (student, str(entry.course.sis_id))
            assert (pair in pairs) == (entry.change is Change.DROPPED)
            pairs ^= {pair}
    return pairs


@given(st.lists(records(), max_size=6))
def test_the_pages_of_a_history_hold_all_of_it_in_order(requests: list[dict[str, Any]]) -> None:
    worker = InMemory()
    worker.apply(*requests)
    whole = worker.history("A")
    assert not whole.more
    assert all(newer.moment >= older.moment for newer, older in pairwise(whole.entries))
    entries: list[HistoryEntry] = []
    before = None
    while True:
        page = worker.history("A", limit=1, before=before)
        entries += page.entries
        if not page.more:
            break
        before = page.entries[-1].moment.isoformat()
    assert tuple(entries) == whole.entries


THREE = [("enroll", 1), ("drop", 2), ("enroll", 3)]


@pytest.mark.parametrize("order", list(permutations(THREE)), ids=str)
def test_enroll_drop_enroll_ends_enrolled_in_every_order(order: list[tuple[str, int]]) -> None:
    worker = InMemory()
    for action, minute in [*order, *order]:
        request = worker.enroll if action == "enroll" else worker.drop
        request("A", "X", minute=minute, request_id=f"{action} at {minute}")
    assert worker.pairs() == {("A", "X")}
    assert len(worker.results("A")) == len(THREE)


@pytest.mark.parametrize("sizes", [(3,), (1, 1, 1), (2, 1)], ids=str)
@pytest.mark.parametrize("backwards", [False, True])
def test_the_later_line_of_an_operation_list_wins(sizes: tuple[int, ...], backwards: bool) -> None:
    lines = [
        {"student_id": "A", "course_ids": ["X"]},
        {"student_id": "A", "drop_course_ids": ["X"]},
        {"student_id": "A", "course_ids": ["X"]},
    ]
    for last in (2, 3):
        worker = InMemory()
        rest = lines[:last]
        chunks = [[rest.pop(0) for _ in range(size) if rest] for size in sizes]
        chunks = [chunk for chunk in chunks if chunk]
        numbered = list(enumerate(chunks))
        for number, chunk in reversed(numbered) if backwards else numbered:
            is_last = number == len(chunks) - 1
            worker.apply(*chunk, number=number, last=is_last, ordered=True)
        assert worker.pairs() == ({("A", "X")} if last == len(lines) else set())
        assert sum(worker.books().values()) == 2 * last


def test_a_pair_that_is_confirmed_and_dropped_at_one_moment_stays_enrolled() -> None:
    confirm = {"student_id": "A", "course_ids": ["X"], "as_of": at(5).isoformat()}
    drop = {"student_id": "A", "drop_course_ids": ["X"], "as_of": at(5).isoformat()}
    for records in ([confirm, drop], [drop, confirm]):
        in_one, in_two = InMemory(), InMemory()
        for worker in (in_one, in_two):
            worker.enroll("A", "X", minute=1)
        in_one.apply(*records)
        for number, record in enumerate(records):
            in_two.apply(record, number=number, last=number == 1)
        assert in_one.pairs() == in_two.pairs() == {("A", "X")}


def test_the_requests_of_a_chunk_are_decided_by_moment() -> None:
    worker = InMemory()
    worker.apply(
        {"student_id": "A", "drop_course_ids": ["X"], "as_of": at(5).isoformat()},
        {"student_id": "A", "course_ids": ["X"], "as_of": at(1).isoformat()},
    )
    assert worker.books() == {"received": 2, "enrolled": 1, "dropped": 1}
    assert worker.pairs() == set()


@pytest.mark.parametrize("backwards", [False, True])
def test_drops_come_first_among_the_requests_of_one_moment(backwards: bool) -> None:
    worker = InMemory()
    worker.enroll("A", "X", minute=1)
    swaps = [
        {"student_id": "A", "course_ids": ["X"], "drop_course_ids": ["Y"]},
        {"student_id": "A", "course_ids": ["Y"], "drop_course_ids": ["X"]},
    ]
    swaps = [{**swap, "as_of": at(5).isoformat()} for swap in swaps]
    worker.apply(*(reversed(swaps) if backwards else swaps))
    assert worker.books() == {"received": 4, "enrolled": 2, "dropped": 1, "not_enrolled": 1}
    changes = [(entry.change, entry.moment) for entry in worker.history("A", "X").entries]
    newest_first = [("enrolled", at(5)), ("dropped", at(5)), ("enrolled", at(1))]
    assert changes == newest_first


def test_the_earliest_of_two_requests_under_one_id_counts() -> None:
    worker = InMemory()
    shared = {"student_id": "A", "request_id": "mine"}
    worker.apply(
        {**shared, "course_ids": ["Y"], "as_of": at(5).isoformat()},
        {**shared, "course_ids": ["X"], "as_of": at(1).isoformat()},
    )
    assert worker.pairs() == {("A", "X")}
    assert [refusal.code for refusal in worker.refusals()] == ["request_id_reused"]
    assert [refusal.line for refusal in worker.refusals()] == [1]
