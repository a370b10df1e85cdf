"""Let the main process of a worker look for plans, and a pool process go on with one.

The state of plans in the database is the list of what is to be done: no message has to arrive for
it. The main process looks on a timer, and at once after one of its processes has stored the last
chunk of a plan or a decision. All work on the database is done in the pool.
"""

import logging
import mmap
import time
from collections.abc import Callable
from typing import Any, Final

from producer.contract.routing import Queue

log = logging.getLogger(__name__)

NOTICE_SECONDS: Final = 0.5
"""Seconds between two looks at whether a process of this worker has noted that a plan is due."""

LOOK_SECONDS: Final = 3.0
"""Seconds between two looks into the database for a plan that is due."""

STEP_SECONDS: Final = 12 * 3600
"""Seconds after which a step of a plan is killed. Making the plan of a very large batch is one
step, and takes as long as applying it."""

ENOUGH_PROCESSES: Final = 2
"""How many processes a worker needs, so that single requests do not wait while it makes a plan."""


class PlansDue:
    """A mark that all processes of a worker share: a plan may be due.

    It is made before the pool forks.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Note that a plan may be due."""
        self._shared[0] = 1

    def take(self) -> bool:
        """Return whether a plan may be due, and remove the mark."""
        is_set, self._shared[0] = bool(self._shared[0]), 0
        return is_set


class PlanWatch:
    """Looks for plans that are due, one step at a time in one process of the pool.

    `step` does a step in a pool process, and returns whether another one may be due.
    """

    def __init__(self, consumer: Any, due: PlansDue, step: Callable[[], bool]) -> None:
        self._consumer = consumer
        self._due = due
        self._step = step
        self._look_at = time.monotonic()
        self._is_busy = False

    def start(self) -> None:
        """Begin to look, if this worker serves the queue of batches.

        Other workers are there to be quick. Celery removes all timers when it loses its broker, so
        do this each time.
        """
        if Queue.BATCHES.value not in self._consumer.app.amqp.queues.consume_from:
            return
        self._is_busy = False  # A step that still runs holds its plan, so another one does no harm.
        self._consumer.timer.call_repeatedly(NOTICE_SECONDS, self._look)

    def _look(self) -> None:
        is_due = self._due.take() or time.monotonic() >= self._look_at
        if self._is_busy:
            # What was just noted may come after what the running step has seen.
            self._look_at = time.monotonic() if is_due else self._look_at
            return
        if not is_due:
            return
        self._is_busy = True
        self._look_at = time.monotonic() + LOOK_SECONDS
        # The step takes its turn like a task, or Celery would hand out one task too many.
        acquire = getattr(self._consumer.controller, "_quick_acquire", None)
        if acquire is None:
            self._begin()
        else:
            acquire(self._begin)

    def _begin(self) -> None:
        self._consumer.pool.apply_async(
            self._step,
            (),
            callback=self._done,
            error_callback=self._failed,
            soft_timeout=STEP_SECONDS,
            timeout=STEP_SECONDS,
        )

    def _done(self, may_go_on: Any) -> None:
        self._is_busy = False
        if may_go_on is True:
            self._look_at = time.monotonic()

    def _failed(self, *_: Any) -> None:
        self._is_busy = False
