"""Decide when requests and roster records count: of two, the one with the later moment wins.

One clock gives all moments, that of the Redis with the marks (`worker.messaging.clock`).
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, runtime_checkable

from producer.contract.refusals import ahead_of_clock
from worker.enrollment.incoming import IncomingRequest

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
"""Returns the present time on the one clock, in UTC, or a little less: never more.

One that is a `BoundedClock`, too, knows how much more it may be; any other is exact.
"""


@dataclass(frozen=True)
class Reading:
    """What is known of a clock at one time. As a clock, it stands still."""

    now: datetime
    """A time that the clock has certainly shown: what gets its moment now counts then."""
    latest: datetime
    """The latest time that it may show."""
    margin: timedelta = timedelta(0)
    """How much later the moments of clients may be."""

    def __call__(self) -> datetime:
        """Return the present time."""
        return self.now

    def reading(self) -> "Reading":
        """Return itself."""
        return self

    def may_show(self, moment: datetime) -> bool:
        """Return whether a client may have read a moment from the clock; else it lies ahead."""
        return moment - self.latest <= self.margin


@runtime_checkable
class BoundedClock(Protocol):
    """A clock that is known within bounds."""

    def __call__(self) -> datetime:
        """Return the present time, or a little less."""

    def reading(self) -> Reading:
        """Return the bounds of the present time."""


def read_clock(clock: Clock) -> Reading:
    """Return what is known of the present time on a clock."""
    if isinstance(clock, BoundedClock):
        return clock.reading()
    now = clock()
    return Reading(now, now)


@dataclass(frozen=True)
class TrustingClock:
    """A clock that may have shown a moment which was compared with it when it was stored.

    A worker that cannot read the clock must not judge otherwise later.
    """

    clock: Clock
    moment: datetime

    def __call__(self) -> datetime:
        """Return the present time."""
        return self.clock()

    def reading(self) -> Reading:
        """Return the bounds of the present time, with a margin for the moment."""
        known = read_clock(self.clock)
        return replace(known, margin=max(known.margin, self.moment - known.latest))


STEP: Final = timedelta(microseconds=1)
"""The smallest difference between two moments."""


def own_clock() -> datetime:
    """Return the time on this machine's clock, for work without Redis."""
    return datetime.now(UTC)


WARNING_PAUSE: Final = 30.0
"""Seconds between two warnings about headers that lie ahead."""

_warned_at = float("-inf")


def moment_of_message(
    sent: datetime | None, reading: Reading, turn: datetime | None = None
) -> datetime:
    """Return the moment in a message's header; its turn if that is missing or lies ahead.

    The turn is the present time, unless another one is given. A header that lies ahead of the clock
    was not read from it.
    """
    if sent is not None and reading.may_show(sent):
        return sent
    _warn_if_ahead(sent, reading.now)
    return turn or reading.now


def _warn_if_ahead(sent: datetime | None, now: datetime) -> None:
    global _warned_at  # noqa: PLW0603 - one warning for the whole process
    if sent is None or time.monotonic() - _warned_at < WARNING_PAUSE:
        return
    _warned_at = time.monotonic()
    log.warning(
        "The header enrollment-moment of a message lies ahead of the clock of Redis (it says %s,"
        " the clock %s); such messages count from now on instead. `enroll doctor` compares the"
        " clocks",
        *(sent.isoformat(), now.isoformat()),
    )


def settle(requests: Sequence[IncomingRequest], reading: Reading) -> list[IncomingRequest]:
    """Give each request its moment; refuse those whose `as_of` lies too far ahead.

    A moment in a header counts unless it lies ahead. Requests without one count in their order.
    """
    return [
        _settled(incoming, reading, reading.now + position * STEP)
        for position, incoming in enumerate(requests)
    ]


def _settled(incoming: IncomingRequest, reading: Reading, turn: datetime) -> IncomingRequest:
    moment, problems = incoming.moment, incoming.problems
    if not incoming.is_dated:
        moment = moment_of_message(moment, reading, turn)
    as_of = incoming.request.as_of if incoming.request else None
    if (problem := ahead_of_clock(as_of, reading.latest)) is not None:
        problems = (*problems, problem)
    elif as_of is not None:
        moment = as_of
    return incoming._replace(moment=moment, problems=problems)
