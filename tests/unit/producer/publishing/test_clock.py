"""Between two readings, the clock of Redis is known within bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.clock import MAX_WIDTH
from producer.publishing import clock
from producer.publishing.clock import CONFIRMED_SECONDS, ClockBounds

AHEAD = 1_788_000_000_000_000
"""By how much the clock of Redis is ahead of ours, in microseconds."""


class Ours:
    """Our monotonic clock, which the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5_000_000
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def read(self, bounds: ClockBounds, there: int, back: int, ahead: int = AHEAD) -> None:
        """Read the clock of Redis; the question and the reply take this long."""
        asked = self.now
        self.now += there
        showed = self.now + ahead
        self.now += back
        bounds.note(showed, asked, self.now)


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Ours:
    return Ours(monkeypatch)


def test_a_clock_that_was_not_read_is_not_known(ours: Ours) -> None:
    bounds = ClockBounds()
    assert bounds.latest() is None
    ours.read(bounds, 100, 100)
    assert bounds.latest() is not None
    ours.now += round(CONFIRMED_SECONDS * 1_000_000) + 1
    assert bounds.latest() is None


def test_a_clock_that_was_forgotten_is_read_again(ours: Ours) -> None:
    bounds = ClockBounds()
    ours.read(bounds, 10, 10)
    bounds.forget()
    assert bounds.latest() is None
    ours.read(bounds, 400, 400, AHEAD - 100)
    latest = bounds.latest()
    assert latest is not None
    assert ours.now + AHEAD - 100 <= latest


def test_a_slow_reading_is_not_used(ours: Ours) -> None:
    bounds = ClockBounds()
    ours.read(bounds, MAX_WIDTH, 1)
    assert bounds.latest() is None


def test_the_closest_reading_is_kept_as_long_as_others_agree(ours: Ours) -> None:
    bounds = ClockBounds()
    ours.read(bounds, 10, 10)
    ours.read(bounds, 5_000, 5_000)
    latest = bounds.latest()
    assert latest is not None
    assert ours.now + AHEAD <= latest < ours.now + AHEAD + 100


@pytest.mark.parametrize("step", [-360_000_000, 360_000_000])
def test_a_clock_that_was_set_is_known_after_the_next_reading(ours: Ours, step: int) -> None:
    bounds = ClockBounds()
    ours.read(bounds, 10, 10)
    ours.read(bounds, 300, 300, AHEAD + step)
    latest = bounds.latest()
    assert latest is not None
    assert ours.now + AHEAD + step <= latest <= ours.now + AHEAD + step + 600


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 3_000), st.integers(0, 900_000))))
def test_the_clock_lies_within_its_bounds_whatever_readings_took(
    steps: list[tuple[int, int, int]],
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        ours, bounds = Ours(monkeypatch), ClockBounds()
        for there, back, pause in steps:
            ours.read(bounds, there, back)
            ours.now += pause
            latest = bounds.latest()
            if latest is None:
                continue
            real = ours.now + AHEAD
            assert real <= latest <= real + MAX_WIDTH
            # Once it has certainly passed a moment, the real clock has passed it.
            waited = round(bounds.seconds_until(latest) * 1_000_000)
            assert real + waited >= latest
