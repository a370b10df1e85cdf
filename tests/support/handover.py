"""A worker that is stopped, and that Redis has given a message all the same."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from support.waiting import wait_for

Published = TypeVar("Published")


@contextlib.contextmanager
def stopped_with_messages(
    group: int,
    count_waiting: Callable[[], int],
    publish: Callable[[], Published],
    is_idle: Callable[[], bool] = lambda: True,
) -> Iterator[Published]:
    """Stop a worker, publish, and yield what the call returned once no message waits any more.

    Redis moves a message to a stopped worker only while that worker's connections wait for one,
    which they do for a second at a time. So a worker that was stopped between two waits is
    continued, and stopped again. `group` is the process group of the worker, which is stopped only
    while it `is_idle`: a worker sends a result a moment before it acknowledges the message.
    """
    for _ in range(20):
        wait_for(is_idle)
        os.killpg(group, signal.SIGSTOP)
        published = publish()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: count_waiting() == 0, 2)
            break
        os.killpg(group, signal.SIGCONT)
        wait_for(lambda: count_waiting() == 0)
        time.sleep(0.5)
    else:
        raise AssertionError("the worker was never stopped while it waited for messages")
    try:
        yield published
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
