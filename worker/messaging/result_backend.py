"""Answers in Redis, where Celery's result backend puts them, for whoever waits for one."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend

log = logging.getLogger(__name__)


class ResultBackend(RedisBackend):
    """Celery's own, but each answer takes one round trip, and no traceback leaves the worker.

    Celery looks first whether there is a success already, and keeps it. Here the newest answer
    stands, which is the one to the message that was sent last.
    """

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        _traceback: Any = None,
        request: Any = None,
        **_: Any,
    ) -> Any:
        self._put([(task_id, self._answer(task_id, result, state, request))])
        return result

    def _answer(self, task_id: str, result: Any, state: str, request: Any = None) -> Any:
        meta = self._get_result_meta(result, state, None, request)
        return self.encode({**meta, "task_id": task_id})

    def _put(self, answers: Iterable[tuple[str, Any]], forget: Sequence[str] = ()) -> None:
        # Not Celery's `set`, which tries again for half a minute: no work waits for answers.
        with self.client.pipeline(transaction=False) as pipeline:
            for task_id, answer in answers:
                key = self.get_key_for_task(task_id)
                pipeline.set(key, answer, ex=self.expires)
                pipeline.publish(key, answer)
            if forget:
                pipeline.unlink(*forget)
            pipeline.execute()

    def store_all(self, results: Iterable[tuple[str, Any]], forget: Sequence[str]) -> None:
        """Store what tasks returned, by their ids, and remove keys. Raises RedisError."""
        answers = [(task_id, self._answer(task_id, r, states.SUCCESS)) for task_id, r in results]
        self._put(answers, forget)

    def store_refusal(self, task_id: str, why: str) -> None:
        """Tell whoever waits that his message was refused. Only logs what Redis does not take."""
        try:
            self.store_result(
                task_id, ValueError(f"the message was refused: {why}"), states.FAILURE
            )
        except Exception as error:  # noqa: BLE001 - whatever the backend raises
            log.warning("A refusal could not be handed over; a dead letter has it: %s", error)
