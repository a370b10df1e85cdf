"""Read the clock of the Redis that holds the marks: the one clock that orders requests.

Clients read it when they submit. A worker reads it when a task starts, and knows it from then on by
the monotonic clock of its machine, whatever the time there.
"""

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from redis.client import Pipeline
from redis.exceptions import RedisError

from producer.contract.redis_connection import connect_redis

log = logging.getLogger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

READ_SECONDS: Final = 1.0
"""Seconds for which the clock is not read again: the machine's monotonic clock drifts less."""

FAILED_SECONDS: Final = 5.0
"""Seconds for which the clock is not read again after Redis failed."""


class RedisClock:
    """The one clock, as this process knows it. Until it was read once, it is the machine's own.

    It connects at first use; its connection pool notices a fork.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis = connect_redis(redis_url, socket_timeout=5, socket_connect_timeout=3)
        self._ahead = (time.time_ns() - time.monotonic_ns()) // 1000
        """The microseconds by which it is ahead of the monotonic clock."""
        self._read_again_at = float("-inf")
        self.is_known = False
        """Whether it was read; else times are those of this machine's clock."""

    def now(self) -> datetime:
        """Return the present time, in UTC."""
        return _EPOCH + timedelta(microseconds=self._ahead + time.monotonic_ns() // 1000)

    def read(self) -> None:
        """Read the clock, unless it was just read.

        If Redis fails, this only logs a warning, and time goes on as before.
        """
        if time.monotonic() < self._read_again_at:
            return
        try:
            self.take(self._redis.time())
        except RedisError as error:
            self.take(error)

    @staticmethod
    def add_read(pipeline: Pipeline) -> None:
        """Add to a pipeline the command whose reply `take` needs."""
        pipeline.time()

    def take(self, reply: Any) -> None:
        """Note the time in the reply to `add_read`; an error is only logged."""
        if isinstance(reply, tuple | list):
            seconds, microseconds = map(int, reply)
            # The reply is a little old by now; in this direction, no reading is ever ahead.
            self._ahead = seconds * 1_000_000 + microseconds - time.monotonic_ns() // 1000
            self._read_again_at = time.monotonic() + READ_SECONDS
            self.is_known = True
        elif time.monotonic() > self._read_again_at:
            self._read_again_at = time.monotonic() + FAILED_SECONDS
            log.warning(
                "The clock of Redis could not be read, so requests count by %s: %s",
                *("what is known of it" if self.is_known else "the clock of this machine", reply),
            )
