"""Read the clock of the Redis that holds the marks: the one clock that orders requests.

Clients read it when they submit. A worker reads it when a task starts, and knows it from then on by
the monotonic clock of its machine, whatever the time there.
"""

import logging
import math
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from redis.client import Pipeline
from redis.exceptions import RedisError

from producer.contract.clock import DRIFT, MAX_WIDTH
from producer.contract.redis_connection import connect_redis
from producer.contract.refusals import MAX_AHEAD
from worker.moments import Reading

log = logging.getLogger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

READ_SECONDS: Final = 1.0
"""Seconds for which the clock is not read again: the machine's monotonic clock drifts less."""

FAILED_SECONDS: Final = 5.0
"""Seconds for which the clock is not read again after Redis failed."""

_MARGIN: Final = timedelta(microseconds=MAX_WIDTH)
_UNREAD_MARGIN: Final = timedelta(seconds=MAX_AHEAD)
"""How far a client's moment may lie ahead of a clock that cannot be read: as far as an `as_of`.

The machine's own clock may be slow, or the next Redis may have another time.
"""


class RedisClock:
    """The one clock, as this process knows it. Until it was read once, it is the machine's own.

    Redis shows its time after the worker asks and before the reply is there. On a busy machine
    seconds may lie between the two, so both bounds are known: work gets its moment by the lower
    one, and only what is later than the upper one lies ahead of the clock.

    It connects at first use; its connection pool notices a fork. Threads may share it.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis = connect_redis(redis_url, socket_timeout=5, socket_connect_timeout=3)
        self._earliest = self._latest = 0, 0
        """A time that it had certainly shown, and one that it could show at the latest, each with
        the time of the monotonic clock at which this was so."""
        self._asked = threading.local()
        self._read_again_at = float("-inf")
        self._may_be_another = True
        """Whether Redis failed since the last reading: the next server may have another time."""
        self.is_known = False
        """Whether it was read; else times are those of this machine's clock."""

    def __call__(self) -> datetime:
        """Return the present time or a little less, in UTC."""
        return self.reading().now

    def reading(self) -> Reading:
        """Return the bounds of the present time."""
        if not self.is_known:
            own = _time(time.time_ns() // 1000)
            return Reading(own, own, _UNREAD_MARGIN)
        present = monotonic()
        earliest, latest = self._earliest_at(present), self._latest_at(present)
        margin = _UNREAD_MARGIN if self._may_be_another else _MARGIN
        return Reading(_time(earliest), _time(latest), margin)

    def read(self, sent: datetime | None = None) -> None:
        """Read the clock, unless it was just read.

        It is read in any case if a client sent a moment that lies ahead of what is known: the clock
        may have been set. If Redis fails, this only logs a warning, and time goes on as before.
        """
        is_ahead = sent is not None and not self.reading().may_show(sent)
        if time.monotonic() < self._read_again_at and (self._may_be_another or not is_ahead):
            return
        self._ask()
        try:
            self.take(self._redis.time())
        except RedisError as error:
            self.take(error)

    def add_read(self, pipeline: Pipeline) -> None:
        """Add to a pipeline the command whose reply `take` needs, in the same thread."""
        self._ask()
        pipeline.time()

    def take(self, reply: Any) -> None:
        """Note the time in the reply to `add_read`; an error is only logged."""
        if isinstance(reply, tuple | list):
            seconds, microseconds = map(int, reply)
            self._note(seconds * 1_000_000 + microseconds, self._asked.at, monotonic())
            self._read_again_at = time.monotonic() + READ_SECONDS
            self._may_be_another, self.is_known = False, True
            return
        self._may_be_another = True
        if time.monotonic() > self._read_again_at:
            self._read_again_at = time.monotonic() + FAILED_SECONDS
            log.warning(
                "The clock of Redis could not be read, so requests count by %s: %s",
                *("what is known of it" if self.is_known else "the clock of this machine", reply),
            )

    def _ask(self) -> None:
        self._asked.at = monotonic()

    def _note(self, shown: int, asked: int, replied: int) -> None:
        self._latest = shown, asked
        earliest = shown
        if self.is_known and (known := self._earliest_at(replied)) <= self._latest_at(replied):
            # After a slow reply, too, time goes on; unless the clock was set back.
            earliest = max(earliest, known)
        self._earliest = earliest, replied

    def _earliest_at(self, present: int) -> int:
        shown, replied = self._earliest
        return shown + math.floor((present - replied) * (1 - DRIFT))

    def _latest_at(self, present: int) -> int:
        shown, asked = self._latest
        return shown + math.ceil((present - asked) * (1 + DRIFT))


def monotonic() -> int:
    """Return the machine's monotonic clock, in microseconds."""
    return time.monotonic_ns() // 1000


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
