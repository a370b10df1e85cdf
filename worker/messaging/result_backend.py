"""Store task results in Redis, in Celery's format, for the clients that wait for them."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from celery import states
from celery.backends.redis import RedisBackend
from kombu.exceptions import EncodeError
from redis.client import Pipeline

from producer.contract.redis_connection import connection_options
from producer.contract.routing import TASK_QUEUES, Queue

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 60
"""Seconds that the answer to a lookup or a decision is stored.

A lookup of a few hundred bytes may have an answer of 16 MiB. If answers were stored as long as
results, a hundred lookups would fill Redis for a day.
"""

_ANSWERED: Final = (Queue.LOOKUPS, Queue.DECISIONS)
"""The queues of the tasks whose result is an answer for a client that waits."""

OUT_OF_MEMORY = "the worker ran out of memory; ask for fewer ids at a time, or set a smaller limit"


class ResultBackend(RedisBackend):
    """Celery's Redis backend, with one round trip per result and without tracebacks for clients.

    Celery first checks for a stored success and would leave it in place. Here the newest result
    replaces it, because it belongs to the message that was sent last.
    """

    def _params_from_url(self, url: str, defaults: dict[str, Any]) -> dict[str, Any]:
        # Celery knows only a part of a sentinel URL; see `redis_channel.kombu_url`.
        return {**defaults, **connection_options(self._transport_options.get("secret_url", url))}

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        _traceback: Any = None,
        request: Any = None,
        **_: Any,
    ) -> Any:
        encoded = self._encoded_result(task_id, result, state, request)
        task = getattr(request, "task", None)
        is_answer = task is not None and TASK_QUEUES.get(task) in _ANSWERED
        self._put(task_id, encoded, ANSWER_SECONDS if is_answer else None)
        return result

    def _encoded_result(self, task_id: str, result: Any, state: str, request: Any = None) -> Any:
        meta = self._get_result_meta(result, state, None, request)
        try:
            return self.encode({**meta, "task_id": task_id})
        except EncodeError as error:
            if isinstance(error.args[0], MemoryError):
                raise EncodeError(OUT_OF_MEMORY) from None
            raise

    def _put(self, task_id: str, encoded: Any, seconds: int | None) -> None:
        # Celery's `set` would retry for half a minute; no work should wait that long for a result.
        with self.client.pipeline(transaction=False) as pipeline:
            self._add_result(pipeline, task_id, encoded, seconds)
            pipeline.execute()

    def _add_result(self, pipeline: Pipeline, task_id: str, encoded: Any, seconds: Any) -> None:
        key = self.get_key_for_task(task_id)
        pipeline.set(key, encoded, ex=self.expires if seconds is None else seconds)
        pipeline.publish(key, encoded)

    def prepare_all(
        self,
        results: Iterable[tuple[str, Any]],
        forget: Sequence[str],
        before: Callable[[Pipeline], None],
    ) -> Callable[[], None]:
        """Return a function that stores results by task id, and removes the keys in `forget`.

        It takes one round trip, in which what `before` adds comes first; if Redis refuses that, it
        only logs a warning. It raises RedisError.
        """
        encoded = [
            (task_id, self._encoded_result(task_id, r, states.SUCCESS)) for task_id, r in results
        ]
        pipeline = self.client.pipeline(transaction=False)
        # Results come last: a client that has its result must not find an earlier state.
        before(pipeline)
        others = len(pipeline)
        if forget:
            pipeline.unlink(*forget)
        for task_id, value in encoded:
            self._add_result(pipeline, task_id, value, None)
        return partial(_store, pipeline, others)

    def store_refusal(self, task_id: str, why: str) -> None:
        """Store a message's refusal for its client. If Redis fails, this only logs a warning."""
        try:
            self.store_result(
                task_id, ValueError(f"the message was refused: {why}"), states.FAILURE
            )
        except Exception as error:  # noqa: BLE001 - a backend may raise anything
            log.warning(
                "Redis did not store why a message was refused, so its client only waits: %s",
                error,
            )


def _store(pipeline: Pipeline, others: int) -> None:
    """Send what was prepared. Raises RedisError unless only some of the others are refused."""
    with pipeline:
        replies = pipeline.execute(raise_on_error=False)
    errors = [(n, reply) for n, reply in enumerate(replies) if isinstance(reply, Exception)]
    for number, error in errors:
        if number >= others:
            raise error
    if errors:
        log.warning("Redis stored the results, but refused to do more: %s", errors[0][1])
