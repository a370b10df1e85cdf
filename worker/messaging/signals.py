"""Send Celery's task signals for the requests of a group, which Celery runs as one call.

Tracing tools, such as OpenTelemetry, follow a task by `task_prerun` and `task_postrun`. The third
signal of a task that runs to its end is `task_success`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from celery import Task, signals, states

from worker.messaging.grouping import QueuedRequest

_SIGNALS = (signals.task_prerun, signals.task_success, signals.task_postrun)


@contextmanager
def sending_signals(task: Task, queued: Sequence[QueuedRequest]) -> Iterator[dict[str, Any]]:
    """Signal the start of each request of a group, and its end when the group ends.

    Each request has its own context, as if it ran alone. Put the result of each into the dictionary
    that this yields, by task id. If the group fails, the state is RETRY, because each request then
    runs again, alone.
    """
    results: dict[str, Any] = {}
    if not any(signal.receivers for signal in _SIGNALS):
        yield results
        return
    contexts = [copy_context() for _ in queued]
    for context, message in zip(contexts, queued, strict=True):
        context.run(_send, signals.task_prerun, task, message)
    state = states.RETRY
    try:
        yield results
        state = states.SUCCESS
    finally:
        for context, message in zip(contexts, queued, strict=True):
            result = results.get(message.task_id)
            if state is states.SUCCESS:
                context.run(signals.task_success.send, sender=task, result=result)
            context.run(_send, signals.task_postrun, task, message, retval=result, state=state)


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
