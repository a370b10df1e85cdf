"""Let a lookup run before other work that waits for a pool process.

A client waits for its answer, and while the database holds work up, that work can keep all
processes busy for seconds. So a lookup gets the next process that is free. This module relies on
private parts of Celery, which tests/unit/worker/messaging/test_lookups_first.py names.
"""

from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import Any
from weakref import WeakSet

from celery import Celery
from celery.concurrency.asynpool import AsynPool
from celery.worker.strategy import default

from worker.messaging.pool_writes import write_at_once


class LookupsFirst:
    """Takes the place of the consumer for a lookup, and puts it before the work that waits.

    At most as many lookups as there are processes come before that work, so it has its turn however
    many clients ask.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._lookups: WeakSet[Any] = consumer.shared.setdefault("lookups", WeakSet())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def on_task_request(self, request: Any) -> None:
        """Hand a lookup to the pool, also if work waits for a process."""
        consumer = self._consumer
        pool = getattr(consumer.pool, "_pool", None)
        if not isinstance(pool, AsynPool):  # No other pool lets work wait here.
            consumer.on_task_request(request)
            return
        waiting = pool.outbound_buffer
        before = len(waiting)
        self._hand_over(request)
        if len(waiting) > before:
            self._move_forward(waiting, len(pool._all_inqueues))  # noqa: SLF001 - see above
        write_at_once(consumer.pool, getattr(consumer, "hub", None))

    def _hand_over(self, request: Any) -> None:
        """Hand a request to the pool, and count it among those that run as far as possible.

        Celery's semaphore would let it wait behind the tasks for which no process is free. It is
        lax: what was not counted may be released.
        """
        controller = self._consumer.controller
        if controller.semaphore.value > 0:
            self._consumer.on_task_request(request)
        else:
            controller._process_task(request)  # noqa: SLF001 - see above

    def _move_forward(self, waiting: "deque[Any]", processes: int) -> None:
        """Move the last job, a lookup, before all but the other lookups."""
        ahead = sum(1 for _ in takewhile(self._lookups.__contains__, waiting))
        if ahead < processes:
            job = waiting.pop()
            self._lookups.add(job)
            waiting.insert(ahead, job)


def strategy(task: Any, app: Celery, consumer: Any) -> Callable[..., None]:
    """Return Celery's default strategy with lookups first (`Task.Strategy`)."""
    handler: Callable[..., None] = default(task, app, LookupsFirst(consumer))
    return handler
