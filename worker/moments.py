"""Decide when requests and roster records count: of two, the one with the later moment wins.

One clock gives all moments, that of the Redis with the marks (`worker.messaging.clock`).
"""

import logging
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


def moment_of_message(sent: datetime | None, now: datetime) -> datetime:
    """Return the moment in a message's header; if there is none, or it lies ahead, it is now.

    A header that lies ahead of the clock was not read from it.
    """
    if sent is None:
        return now
    if sent > now:
        log.warning(
            "The header enrollment-moment of a message lies ahead of the clock of Redis (%s, and it"
            " is %s); the message counts from now on instead",
            *(sent.isoformat(), now.isoformat()),
        )
        return now
    return sent


def settle(requests: Sequence[IncomingRequest], now: datetime) -> list[IncomingRequest]:
    """Give each request its moment; refuse those whose `as_of` lies too far ahead.

    A moment in a header counts unless it lies ahead. Requests without one count in their order.
    """
    return [
        _settled(incoming, now + position * STEP, now) for position, incoming in enumerate(requests)
    ]


def _settled(incoming: IncomingRequest, own_turn: datetime, now: datetime) -> IncomingRequest:
    request = incoming.request
    if request is not None and request.as_of is not None:
        problem = ahead_of_clock(request.as_of, now)
        problems = incoming.problems if problem is None else (*incoming.problems, problem)
        moment = request.as_of if problem is None else own_turn
        return incoming._replace(moment=moment, problems=problems)
    if incoming.is_dated:
        return incoming
    sent = incoming.moment
    is_sent = sent is not None and moment_of_message(sent, now) == sent
    return incoming._replace(moment=sent if is_sent else own_turn)
