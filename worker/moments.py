"""Decide when requests and roster records count: of two, the one with the later moment wins.

One clock gives all moments, that of the Redis with the marks (`worker.messaging.clock`).
"""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from producer.contract.refusals import ahead_of_clock
from worker.enrollment.incoming import IncomingRequest

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
"""Returns the present time on the one clock, in UTC."""

STEP: Final = timedelta(microseconds=1)
"""The smallest difference between two moments."""


def own_clock() -> datetime:
    """Return the time on this machine's clock, for work without Redis."""
    return datetime.now(UTC)


WARNING_PAUSE: Final = 30.0
"""Seconds between two warnings about headers that lie ahead."""

_warned_at = float("-inf")


def moment_of_message(sent: datetime | None, now: datetime) -> datetime:
    """Return the moment in a message's header; now if it is missing or lies ahead.

    A header that lies ahead of the clock was not read from it.
    """
    if sent is None or sent > now:
        _warn_if_ahead(sent, now)
        return now
    return sent


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


def settle(requests: Sequence[IncomingRequest], now: datetime) -> list[IncomingRequest]:
    """Give each request its moment; refuse those whose `as_of` lies too far ahead.

    A moment in a header counts unless it lies ahead. Requests without one count in their order.
    """
    return [
        _settled(incoming, now + position * STEP, now) for position, incoming in enumerate(requests)
    ]


def _settled(incoming: IncomingRequest, own_turn: datetime, now: datetime) -> IncomingRequest:
    moment, problems = incoming.moment, incoming.problems
    if not incoming.is_dated and (moment is None or moment > now):
        _warn_if_ahead(moment, now)
        moment = own_turn
    as_of = incoming.request.as_of if incoming.request else None
    if (problem := ahead_of_clock(as_of, now)) is not None:
        problems = (*problems, problem)
    elif as_of is not None:
        moment = as_of
    return incoming._replace(moment=moment, problems=problems)
