"""Whether a pair is enrolled follows from what was there before, and from the facts that count."""

from datetime import UTC, datetime, timedelta

import pytest

from producer.schemas import Action
from worker.undo.changes import Ended
from worker.undo.replay import Fact, Known, WantedState, replay

SIS, LMS = 1, 2


def at(minute: int) -> datetime:
    return datetime(2026, 9, 1, 12, tzinfo=UTC) + timedelta(minutes=minute)


def enroll(minute: int, data_set: int | None = SIS) -> Fact:
    return Fact(at(minute), Action.ENROLL, data_set)


def drop(minute: int) -> Fact:
    return Fact(at(minute), Action.DROP, None)


def snapshot(minute: int, data_set: int = SIS) -> Fact:
    return Fact(at(minute), None, data_set)


WAS_OWNED = Known(None, at(5), [Ended(at(5), at(0), SIS)])
"""It was enrolled for the data set until the first change that does not count."""
NOTHING = WantedState(is_enrolled=False)


@pytest.mark.parametrize(
    ("first", "facts", "expected"),
    [
        (enroll(5), [], NOTHING),
        (drop(5), [], WantedState(True, SIS)),
        (drop(5), [drop(4), enroll(3, LMS)], WantedState(True, SIS)),
        (drop(5), [drop(6)], NOTHING),
        (enroll(5), [drop(6), enroll(6, LMS)], WantedState(True, LMS)),
        (enroll(5), [enroll(7, None), drop(6)], WantedState(True, None)),
        (drop(5), [snapshot(6)], WantedState(False, None, at(6))),
        (drop(5), [snapshot(6), enroll(6)], WantedState(True, SIS)),
        (drop(5), [snapshot(6, LMS)], WantedState(True, SIS)),
        (drop(5), [enroll(6, LMS), snapshot(7)], WantedState(True, LMS)),
        (drop(5), [enroll(6, LMS), snapshot(7, LMS), snapshot(8)], WantedState(False, None, at(8))),
        (drop(5), [snapshot(6), enroll(7, None)], WantedState(True, None)),
    ],
)
def test_the_facts_that_count_decide(first: Fact, facts: list[Fact], expected: WantedState) -> None:
    assert replay(first, facts, WAS_OWNED) == expected


def test_what_a_snapshot_left_enrolled_stays_unless_an_undo_enrolled_it() -> None:
    """A refused line may have named it."""
    left = WAS_OWNED._replace(enrolled_at=at(5))
    assert replay(drop(5), [snapshot(6)], left) == WantedState(True, SIS)
    restored = left._replace(restored_at={at(5)})
    assert replay(drop(5), [snapshot(6)], restored) == WantedState(False, None, at(6))
