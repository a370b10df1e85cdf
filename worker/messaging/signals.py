"""Send Celery's signals about tasks for the requests of a group, which Celery does not trace.

Tracing, such as OpenTelemetry's, follows a task by `task_prerun` and `task_postrun`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from celery import Task, signals, states

from worker.messaging.grouping import QueuedRequest


@contextmanager
def sending_signals(task: Task, queued: Sequence[QueuedRequest]) -> Iterator[None]:
    """Let listeners see each request of a group begin, and end when the group does.

    Each has a context of its own, as if it ran alone. Where the group fails the state is RETRY:
    its requests are run once more, each by itself.
    """
    if not (signals.task_prerun.receivers or signals.task_postrun.receivers):
        yield
        return
    contexts = [copy_context() for _ in queued]
    for context, one in zip(contexts, queued, strict=True):
        context.run(_send, signals.task_prerun, task, one)
    state = states.RETRY
    try:
        yield
        state = states.SUCCESS
    finally:
        for context, one in zip(contexts, queued, strict=True):
            context.run(_send, signals.task_postrun, task, one, retval=None, state=state)


def _send(signal: Any, task: Task, one: QueuedRequest, **outcome: Any) -> None:
    task.push_request(dict(one.headers), args=one.args, kwargs=one.kwargs)
    try:
        signal.send(
            sender=task,
            task_id=one.task_id,
            task=task,
            args=one.args,
            kwargs=one.kwargs,
            **outcome,
        )
    finally:
        task.pop_request()
