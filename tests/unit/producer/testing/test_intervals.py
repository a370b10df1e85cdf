"""Enrollments in memory are intervals, and the latest moment of a pair wins."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from producer.schemas import Action
from producer.testing.intervals import Change, Intervals, Pair
from support.in_memory import at

PAIR = (1, 1)
requests = st.lists(
    st.tuples(st.sampled_from(Action), st.sampled_from([PAIR, (1, 2)]), st.integers(0, 6)),
    max_size=12,
)


def request(intervals: Intervals, action: Action, pair: Pair, minute: int) -> Change:
    make = intervals.enroll if action is Action.ENROLL else intervals.drop
    return make(pair, at(minute))


@given(requests)
def test_a_pair_has_at_most_one_stored_drop_without_an_enrollment(
    requests: list[tuple[Action, Pair, int]],
) -> None:
    intervals = Intervals()
    for action, pair, minute in requests * 3:
        request(intervals, action, pair, minute)
        for past in intervals.past.values():
            assert list(past.values()).count(None) <= 1


@given(requests)
def test_the_intervals_of_a_pair_do_not_overlap(
    requests: list[tuple[Action, Pair, int]],
) -> None:
    intervals = Intervals()
    for action, pair, minute in requests:
        request(intervals, action, pair, minute)
    for course in (1, 2):
        stored = sorted(interval for _, interval in intervals.of_course(course))
        starts = [interval.enrolled_at for interval in stored]
        ends = [interval.ended_at for interval in stored]
        assert None not in ends[:-1]
        assert all(end is None or start < end for start, end in zip(starts, ends, strict=True))
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False) if end)


def test_a_late_drop_of_an_absent_pair_is_not_stored() -> None:
    intervals = Intervals()
    for minute in (5, 3, 5, 4):
        assert intervals.drop(PAIR, at(minute)) == Change()
    assert intervals.past == {PAIR: {at(5): None}}
    intervals.drop(PAIR, at(7))
    assert intervals.past == {PAIR: {at(7): None}}


def test_a_superseded_request_knows_what_won() -> None:
    intervals = Intervals()
    intervals.enroll(PAIR, at(1))
    intervals.enroll(PAIR, at(4))
    assert intervals.drop(PAIR, at(4)) == Change(superseded_by=at(4))
    assert intervals.drop(PAIR, at(6)) == Change(is_made=True)
    intervals.drop(PAIR, at(9))
    assert intervals.enroll(PAIR, at(5)) == Change(superseded_by=at(9))
    assert intervals.enroll(PAIR, at(9)) == Change(is_made=True)
    assert open_since(intervals) == {PAIR: at(9)}


def open_since(intervals: Intervals) -> dict[Pair, datetime]:
    return dict(intervals.open)
