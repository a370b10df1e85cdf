"""Send Celery's task signals for the requests of a group, which Celery runs as one call.

Tracing tools, such as OpenTelemetry, follow a task by `task_prerun` and `task_postrun`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from celery import Task, signals, states

from worker.messaging.grouping import QueuedRequest


@contextmanager
def sending_signals(task: Task, queued: Sequence[QueuedRequest]) -> Iterator[None]:
    """Signal the start of each request of a group, and its end when the group ends.

    Each request has its own context, as if it ran alone. If the group fails, the state is RETRY,
    because each request then runs again, alone.
    """
    if not (signals.task_prerun.receivers or signals.task_postrun.receivers):
        yield
        return
    contexts = [copy_context() for _ in queued]
    for context, message in zip(contexts, queued, strict=True):
        context.run(_send, signals.task_prerun, task, message)
    state = states.RETRY
    try:
        yield
        state = states.SUCCESS
    finally:
        for context, message in zip(contexts, queued, strict=True):
            context.run(_send, signals.task_postrun, task, message, retval=None, state=state)


def _send(signal: Any, task: Task, message: QueuedRequest, **outcome: Any) -> None:
    task.push_request(dict(message.headers), args=message.args, kwargs=message.kwargs)
    try:
        signal.send(
            sender=task,
            task_id=message.task_id,
            task=task,
            args=message.args,
            kwargs=message.kwargs,
            **outcome,
        )
    finally:
        task.pop_request()
