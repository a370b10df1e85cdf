"""Count failed attempts at each message, in Redis, so that the counts survive the worker.

A worker records which tasks it is executing. If it dies, the worker that notices counts a failed
attempt for each of them (`worker.messaging.transport`). The main process counts tasks that killed
their pool process, and a task counts its own unexpected errors.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from redis.client import Pipeline
from redis.exceptions import RedisError

from producer.contract.keys import Keys
from producer.contract.redis_connection import connect_redis

log = logging.getLogger(__name__)


class Attempts:
    """The counts, by task id. It connects at first use; its connection pool notices a fork.

    While Redis is unavailable, work goes on and attempts are not counted.
    """

    def __init__(self, redis_url: str, instance: str, limit: int, keys: Keys) -> None:
        self._redis = connect_redis(redis_url, socket_timeout=5, socket_connect_timeout=3)
        self._counts = keys.attempts
        self._running = keys.running(instance)
        self._limit = limit

    def begin(self, task_ids: Sequence[str]) -> int:
        """Record that these tasks start; return the most attempts of any, divided by the limit."""
        return self.begin_and(task_ids, lambda _: None)[0]

    def begin_and(
        self, task_ids: Sequence[str], also: Callable[[Pipeline], None]
    ) -> tuple[int, Sequence[Any]]:
        """Do what `begin` does, and what `also` adds to the same round trip.

        The second value has the replies to what was added, each of which may be an error; it is
        empty if Redis fails.
        """
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hmget(self._counts, task_ids)
                pipeline.hset(self._running, mapping=dict.fromkeys(task_ids, 1))
                also(pipeline)
                replies = pipeline.execute(raise_on_error=False)
            for reply in replies[:2]:
                if isinstance(reply, Exception):
                    raise reply
        except RedisError as error:
            log.warning("Redis did not answer, so failed attempts are not counted: %s", error)
            return 0, []
        return max(int(count or 0) for count in replies[0]) // self._limit, replies[2:]

    def end(self, task_ids: Sequence[str], *, done: bool = True) -> None:
        """Record that these tasks ended; if they are done, remove their counts."""
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                self.add_end(pipeline, task_ids, done=done)
                pipeline.execute()
        except RedisError as error:
            log.warning("Redis did not record the end of a task: %s", error)

    def add_end(self, pipeline: Pipeline, task_ids: Sequence[str], *, done: bool = True) -> None:
        """Add to a pipeline what `end` does; the pipeline must lead to the same Redis."""
        pipeline.hdel(self._running, *task_ids)
        if done:
            pipeline.hdel(self._counts, *task_ids)

    def failed(self, task_id: str) -> int:
        """Count a failed attempt; return how many times the limit has been reached."""
        try:
            count = int(self._redis.hincrby(self._counts, task_id, 1))
        except RedisError as error:
            log.warning("Redis did not count a failed attempt: %s", error)
            return 0
        return count // self._limit
