"""Group small chunks of enrollments that wait, so that they are committed together.

Systems that submit a batch for each event send thousands of batches with a few rows. Other chunks
start at once, each alone; none of them overtakes a small one that waits.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from celery import Celery
from celery.worker.strategy import default

from producer.contract.routing import KIND_TASKS, Queue
from producer.schemas import Kind
from worker.messaging.consumer import is_stopping
from worker.messaging.grouping import GroupingConsumer, QueuedRequest, body_of

SMALL_CHUNK: Final = 4_096
"""Bytes of the message of a chunk that may join a group.

Decided by the rulebook, a row takes twice as long as alone in a large chunk, but a transaction of
its own takes as long as a hundred rows.
"""

MAX_GROUP_BYTES: Final = 512 * 1024
"""A group has no more chunks once they have this many bytes in total, decoded."""

_SHARED: Final = "chunks"


class QueuedChunk(QueuedRequest):
    """The message of a chunk, as the pool process gets it."""

    __slots__ = ()

    @property
    def drops(self) -> bool:
        """Return whether the chunk may drop something, as far as its text tells."""
        chunk = self.args[0] if self.args else None
        return isinstance(chunk, str | Mapping) and "drop" in str(chunk)


class ChunkGrouping(GroupingConsumer):
    """Takes the place of the consumer for the tasks of chunks, which share one object.

    Messages start in their order, except that drops form groups of their own, as single requests
    do. A chunk that joins no group starts as soon as those before it have started.
    """

    message = QueuedChunk
    max_group_bytes = MAX_GROUP_BYTES

    def on_task_request(self, request: Any) -> None:
        """Take a message whose envelope is valid."""
        self._channel = request.message.channel
        if request.name == self._task.name and len(body_of(request)) <= SMALL_CHUNK:
            super().on_task_request(request)
            return
        with self._lock:
            waits = bool(self._waiting)
            if waits:
                self._waiting.append((request, None))
        if not waits:
            self._consumer.on_task_request(request)

    def _start(self) -> None:
        super()._start()
        while (request := self._next_alone()) is not None:
            self._run_alone(request)

    def _next_alone(self) -> Any:
        """Take the first message that waits, if it joins no group."""
        with self._lock:
            if not self._waiting or self._waiting[0][1] is not None:
                return None
            # When the worker stops, waiting messages go back to the queue unacknowledged.
            if is_stopping() or self._is_stale():
                return None
            return self._waiting.popleft()[0]

    def _raise_limit(self, change: int) -> None:
        super()._raise_limit(change)
        note_raised = getattr(self._channel, "note_raised", None)
        if note_raised is not None:  # RabbitMQ's channel has none: there, one limit is for all.
            note_raised(Queue.BATCHES.value, self._raised)


def strategy(task: Any, app: Celery, consumer: Any) -> Callable[..., None]:
    """Return Celery's default strategy with the one grouping of all chunks (`Task.Strategy`)."""
    if _SHARED not in consumer.shared:
        small = app.tasks[KIND_TASKS[Kind.ENROLLMENTS].value]
        consumer.shared[_SHARED] = ChunkGrouping(small, consumer)
    handler: Callable[..., None] = default(task, app, consumer.shared[_SHARED])
    return handler
