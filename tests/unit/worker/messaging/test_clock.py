"""However late replies are, a worker never takes an honest moment for one that lies ahead."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from producer.contract.clock import MAX_WIDTH
from producer.contract.refusals import MAX_AHEAD
from worker.messaging import clock
from worker.messaging.clock import RedisClock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STEP = timedelta(microseconds=1)
HOUR = 3_600_000_000
REPLIES = st.tuples(
    st.integers(0, 5_000_000),  # until Redis looks at its clock
    st.integers(0, 5_000_000),  # until the worker has the reply
    st.integers(0, 900_000),  # until the worker takes a message
    st.sampled_from([0, 0, 0, 7_000, 2_000_000, HOUR]),  # by how much the clock was set forward
)


class Line:
    """A worker and the clock of Redis, with the time that passes between them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rate: float = 0.0) -> None:
        self.now, self._rate, self._set = 5_000_000, rate, 1_788_000_000_000_000
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        self.clock = RedisClock("redis://unused")

    @property
    def shown(self) -> datetime:
        """What the clock of Redis shows now."""
        return self._time(self._set + round(self.now * (1 + self._rate)))

    def set_clock(self, difference: int) -> None:
        self._set += difference

    def read(self, there: int, back: int) -> None:
        """Read the clock; the question and the reply take this long, or a frozen worker does."""
        self.clock.add_read(Redis().pipeline())
        self.now += there
        since = self.shown - EPOCH
        self.now += back
        self.clock.take(divmod(since // STEP, 1_000_000))

    def fail(self) -> None:
        self.clock.add_read(Redis().pipeline())
        self.clock.take(RedisConnectionError("cut"))

    @staticmethod
    def _time(microseconds: int) -> datetime:
        return EPOCH + microseconds * STEP


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(monkeypatch)


@given(st.lists(REPLIES, min_size=1, max_size=8), st.sampled_from([-0.000_4, 0.0, 0.000_4]))
def test_no_moment_that_a_client_has_read_lies_ahead(
    replies: list[tuple[int, int, int, int]], rate: float
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        line, last = Line(monkeypatch, rate), EPOCH
        for there, back, pause, difference in replies:
            line.set_clock(difference)
            line.read(there, back)
            line.now += pause
            sent, own = line.shown, line.clock()
            assert line.clock.reading().may_show(sent)
            assert line.clock.reading().may_show(sent + MAX_WIDTH * STEP)
            # What the worker dates itself is never ahead, and never before what it dated earlier.
            assert last <= own <= sent
            last = own


def test_a_moment_lies_ahead_that_the_clock_cannot_have_shown(line: Line) -> None:
    line.read(300, 500)
    assert not line.clock.reading().may_show(line.shown + (800 + MAX_WIDTH + 2) * STEP)


def test_a_clock_that_was_set_back_is_known_after_the_next_reading(line: Line) -> None:
    line.read(10, 10)
    line.set_clock(-HOUR)
    line.read(10, 10)
    assert line.shown - 21 * STEP <= line.clock() <= line.shown


@pytest.mark.parametrize("has_been_read", [False, True])
def test_a_worker_that_lost_the_clock_takes_moments_a_few_minutes_ahead(
    line: Line, has_been_read: bool
) -> None:
    if has_been_read:
        line.read(10, 10)
    line.fail()
    ahead, reading = timedelta(seconds=MAX_AHEAD), line.clock.reading()
    assert reading.may_show(reading.now + ahead)
    assert not reading.may_show(reading.latest + ahead + STEP)
    line.read(10, 10)
    reading = line.clock.reading()
    assert not reading.may_show(reading.now + ahead)
