"""Let the main process of a worker look for plans, and a pool process go on with one.

The state of plans in the database is the list of what is to be done: no message has to arrive for
it. The main process looks on a timer, and at once after one of its processes has stored the last
chunk of a plan or a decision. All work on the database is done in the pool.
While one process applies the chunks of a plan, the others help.
"""

import logging
import mmap
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from producer.contract.routing import Queue

log = logging.getLogger(__name__)

NOTICE_SECONDS: Final = 0.03
"""Seconds between two looks at whether a process of this worker has noted that a plan is due. Such
a look reads a byte of memory."""

LOOK_SECONDS: Final = 3.0
"""Seconds between two looks into the database for a plan that is due."""

STEP_SECONDS: Final = 12 * 3600
"""Seconds after which a step of a plan is killed. Making the plan of a very large batch is one
step, and takes as long as applying it."""

ENOUGH_PROCESSES: Final = 2
"""How many processes a worker needs, so that single requests do not wait while it makes a plan."""


class PlansDue:
    """Marks that all processes of a worker share: a plan may be due, and one could use help.

    They are made before the pool forks.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 3)

    def set(self) -> None:
        """Note that a plan may be due."""
        self._shared[0] = 1

    def take(self) -> bool:
        """Return whether a plan may be due, and remove the mark."""
        return self._take(0)

    def call_helpers(self) -> None:
        """Note that this process applies chunks, so that others may help."""
        self._shared[1] = 1

    def take_call(self) -> bool:
        """Return whether a process applies chunks, and remove the mark."""
        return self._take(1)

    def take_turn(self) -> bool:
        """Return whether plans that are to be applied come first now: every second time.

        So a plan that is being applied does not wait, after each part of it, for all plans that
        are still to be made; and those do not wait for its end.
        """
        self._shared[2] ^= 1
        return bool(self._shared[2])

    def _take(self, place: int) -> bool:
        is_set, self._shared[place] = bool(self._shared[place]), 0
        return is_set


class PlanWatch:
    """Looks for plans that are due, one step at a time in one process of the pool.

    `step` does a step in a pool process, and returns whether another one may be due. While a step
    applies chunks, `help_step` applies a few at a time in each of the other processes, and returns
    whether there may be more.
    """

    def __init__(
        self,
        consumer: Any,
        due: PlansDue,
        step: Callable[[], bool],
        help_step: Callable[[], bool],
    ) -> None:
        self._consumer = consumer
        self._due = due
        self._step = step
        self._help_step = help_step
        self._look_at = time.monotonic()
        self._is_busy = False
        self._helpers = 0
        self._may_help = True

    def start(self) -> None:
        """Begin to look, if this worker serves the queue of batches.

        Other workers are there to be quick. Celery removes all timers when it loses its broker, so
        do this each time.
        """
        if Queue.BATCHES.value not in self._consumer.app.amqp.queues.consume_from:
            return
        self._is_busy = False  # A step that still runs holds its plan, so another one does no harm.
        self._helpers = 0
        self._consumer.timer.call_repeatedly(NOTICE_SECONDS, self._look)

    def _look(self) -> None:
        is_due = self._due.take() or time.monotonic() >= self._look_at
        if self._is_busy:
            # What was just noted may come after what the running step has seen.
            self._look_at = time.monotonic() if is_due else self._look_at
            if self._due.take_call() and self._may_help:
                self._call_helpers()
            return
        if not is_due:
            return
        self._is_busy = self._may_help = True
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._run(self._step, self._done, self._failed)

    def _run(
        self, work: Callable[[], bool], done: Callable[..., None], failed: Callable[..., None]
    ) -> None:
        """Run work in a pool process.

        It takes its turn like a task, or Celery would hand out one task too many.
        """
        begin = partial(
            self._consumer.pool.apply_async,
            work,
            (),
            callback=done,
            error_callback=failed,
            soft_timeout=STEP_SECONDS,
            timeout=STEP_SECONDS,
        )
        acquire = getattr(self._consumer.controller, "_quick_acquire", None)
        if acquire is None:
            begin()
        else:
            acquire(begin)

    def _done(self, may_go_on: Any) -> None:
        self._is_busy = False
        if may_go_on is True:
            # At once: a plan has several steps, and some take less time than the next look is away.
            self._look_at = time.monotonic()
            self._consumer.timer.call_after(0, self._look)

    def _failed(self, *_: Any) -> None:
        self._is_busy = False

    def _call_helpers(self) -> None:
        """Let each other process of the pool help, unless it helps already."""
        others = (getattr(self._consumer.pool, "num_processes", None) or 1) - 1
        while self._helpers < others:
            self._helpers += 1
            self._help()

    def _help(self) -> None:
        self._run(self._help_step, self._helped, self._help_failed)

    def _helped(self, may_go_on: Any) -> None:
        if may_go_on is True and self._is_busy:
            self._consumer.timer.call_after(0, self._help)
        else:
            self._help_ended()

    def _help_failed(self, *_: Any) -> None:
        # The chunk may have killed its process. The one that holds the plan counts that.
        self._may_help = False
        self._help_ended()

    def _help_ended(self) -> None:
        self._helpers = max(0, self._helpers - 1)
