"""Count failed attempts at a message, where the death of a worker cannot make them forgotten.

A worker notes what it is executing. The worker that finds it dead counts that
(`worker.messaging.transport`), the main process counts what took a pool process with it, and a
task counts its own unexpected errors.
"""

import logging
from collections.abc import Sequence

from redis import Redis
from redis.exceptions import RedisError

from worker.messaging.transport import ATTEMPTS, running_key

log = logging.getLogger(__name__)


class Attempts:
    """Counts by task id. Connects at first use; the pool notices a fork.

    Where Redis is away the work goes on uncounted.
    """

    def __init__(self, redis_url: str, instance: str, limit: int) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=10, socket_connect_timeout=3)
        self._running = running_key(instance)
        self._limit = limit

    def begin(self, task_ids: Sequence[str]) -> int:
        """Note that these are executed now; returns how many times the limit one has reached."""
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hmget(ATTEMPTS, task_ids)
                pipeline.hset(self._running, mapping=dict.fromkeys(task_ids, 1))
                counts, _ = pipeline.execute()
        except RedisError as error:
            log.warning("Attempts are not counted, Redis does not answer: %s", error)
            return 0
        return max(int(count or 0) for count in counts) // self._limit

    def end(self, task_ids: Sequence[str], *, done: bool = True) -> None:
        """They are no longer executed; what is done need not be counted any more."""
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hdel(self._running, *task_ids)
                if done:
                    pipeline.hdel(ATTEMPTS, *task_ids)
                pipeline.execute()
        except RedisError as error:
            log.warning("The end of a task could not be noted: %s", error)

    def failed(self, task_id: str) -> int:
        """Count an attempt in vain; returns how many times the limit is reached."""
        try:
            count = int(self._redis.hincrby(ATTEMPTS, task_id, 1))
        except RedisError as error:
            log.warning("An attempt could not be counted: %s", error)
            return 0
        return count // self._limit
