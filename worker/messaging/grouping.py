"""Group messages that wait at the same time, so that they are committed together.

These are single requests; `worker.messaging.chunk_grouping` does the same with small chunks. While
a pool process commits one group, the next group forms; an idle worker starts a lone message at
once. A message is acknowledged after the commit of its group. If a group fails, each of its
messages runs alone, so that a bad one does not harm the others.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from celery import Celery, current_app
from celery.worker.strategy import default

from producer.contract.headers import MOMENT_HEADER
from worker.messaging.consumer import cause_of, is_stopping
from worker.messaging.pool_writes import write_at_once
from worker.messaging.unavailable import DatabaseUnavailable
from worker.plain_text import first_line

log = logging.getLogger(__name__)

MAX_GROUP = 100
"""The most messages of a group."""

MAX_HELD = 400
"""The most messages that wait or run in groups at a time; the rest stay in the queue."""

MAX_HELD_BYTES = 32 * 1024 * 1024
"""No more messages are fetched in advance while those in groups have this many bytes in total."""


CONTAINER = 100
"""Bytes that a list or object in a message takes in memory, even if it has only two characters."""


class QueuedRequest(NamedTuple):
    """The message of a single request, as the pool process gets it."""

    task_id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    ignore_result: bool
    headers: Mapping[str, Any] = MappingProxyType({})
    """The headers of the message, where tracing finds its own."""

    @property
    def is_dated(self) -> bool:
        """Return whether the message says when it counts."""
        return MOMENT_HEADER in self.headers

    @property
    def drops(self) -> bool:
        """Return whether the message may drop something."""
        record = self.args[0] if self.args else None
        return isinstance(record, Mapping) and bool(record.get("drop_course_ids"))


class GroupingConsumer:
    """Takes the place of the consumer for a task, and groups its messages before they run.

    Each connection to the broker has a grouping consumer of its own. After a reconnect, the
    messages that the earlier one still holds are delivered again.
    """

    message = QueuedRequest
    """What a pool process gets of each message."""
    max_group_bytes = MAX_HELD_BYTES
    """A group has no more messages once they have this many bytes in total."""

    def __init__(self, task: Any, consumer: Any) -> None:
        self._task = task
        self._consumer = consumer
        self._qos: Any = None
        self._waiting: deque[tuple[Any, QueuedRequest | None]] = deque()
        """What waits, with what its process is to get; None if it joins no group."""
        self._held = self._held_bytes = self._raised = 0
        self._running = False
        # Some pools call back from their own threads.
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def on_task_request(self, request: Any) -> None:
        """Take a message whose envelope is valid."""
        with self._lock:
            self._qos = self._qos or self._consumer.qos
            self._waiting.append((request, self._queued(request)))
            self._hold(1, _size(request))
        self._start()

    def _queued(self, request: Any) -> QueuedRequest:
        args, kwargs, _ = request.message.payload
        ignores_result, headers = bool(request.ignore_result), _headers(request)
        return self.message(request.id, tuple(args), kwargs, ignores_result, headers)

    def _start(self) -> None:
        with self._lock:
            # When the worker stops, waiting messages go back to the queue unacknowledged.
            if self._running or is_stopping() or self._is_stale() or not self._waiting:
                return
            group = self._next_group()
            self._running = True
        try:
            self._consumer.pool.apply_async(
                run_group,
                (self._task.name, [queued for _, queued in group]),
                callback=lambda failed: self._ended(group, failed=failed),
                error_callback=lambda info: self._failed(group, info),
                soft_timeout=self._task.soft_time_limit,
                timeout=self._task.time_limit,
            )
        except Exception:  # For example arguments that are nested too deeply to be pickled.
            log.exception(
                "A group of %s messages could not be sent to a pool process; each now runs alone",
                len(group),
            )
            self._ended(group, failed=True)
        else:
            write_at_once(self._consumer.pool, getattr(self._consumer, "hub", None))

    def _next_group(self) -> list[tuple[Any, QueuedRequest]]:
        """Take the next messages that wait: those that drop, or those that do not.

        A drop may have to wait for other transactions, and the others should not wait with it. A
        message without a moment counts when it is decided, so it overtakes none, and none overtakes
        it.
        """
        group: list[tuple[Any, QueuedRequest]] = []
        skipped: list[tuple[Any, QueuedRequest]] = []
        size = 0
        while self._waiting and len(group) < MAX_GROUP:
            request, queued = self._waiting[0]
            size += _size(request)
            if queued is None or (group and size > self.max_group_bytes):
                break
            if group and queued.drops is not group[0][1].drops:
                skipped.append((request, queued))
            elif not skipped or (queued.is_dated and all(other.is_dated for _, other in skipped)):
                group.append((request, queued))
            else:
                break
            self._waiting.popleft()
        self._waiting.extendleft(reversed(skipped))
        return group

    def _failed(self, group: list[tuple[Any, QueuedRequest]], info: Any) -> None:
        """Requeue a group if the database was unavailable, else run each of its messages alone."""
        if not isinstance(cause_of(info), DatabaseUnavailable):
            self._ended(group, failed=True)
            return
        for request, _ in group:
            request.on_failure(info)
        self._release(group)

    def _ended(self, group: list[tuple[Any, QueuedRequest]], *, failed: bool) -> None:
        if failed:
            for request, _ in group:
                self._run_alone(request)
        else:
            # RabbitMQ's channel, which has no such method, does not wait for a reply.
            collect_acks = getattr(group[0][0].message.channel, "collect_acks", None)
            if collect_acks is not None:
                collect_acks(len(group))
            for request, _ in group:
                request.on_success((0, None, 0.0))
        self._release(group)

    def _release(self, group: list[tuple[Any, QueuedRequest]]) -> None:
        """Stop holding these messages, and run the next group."""
        with self._lock:
            self._running = False
            self._hold(-len(group), -sum(_size(request) for request, _ in group))
        self._start()

    def _run_alone(self, request: Any) -> None:
        try:
            self._consumer.on_task_request(request)
        except Exception as error:
            # This runs in a callback of the pool: an error would end the worker.
            log.exception("A message could not be sent to a pool process")
            reason = f"it could not be sent to a pool process: {first_line(error)}"
            self._consumer.quarantine(request.message, reason)

    def _hold(self, messages: int, size: int) -> None:
        """Adjust the prefetch limit to the number of held messages, so that more can arrive."""
        self._held += messages
        self._held_bytes += size
        raised = min(self._held, MAX_HELD)
        if self._held_bytes > MAX_HELD_BYTES:
            raised = min(raised, self._raised)
        change, self._raised = raised - self._raised, raised
        self._raise_limit(change)

    def _raise_limit(self, change: int) -> None:
        if change > 0:
            self._qos.increment_eventually(change)
        elif change < 0:
            self._qos.decrement_eventually(-change)

    def _is_stale(self) -> bool:
        """Return whether these messages came over a connection that has been replaced."""
        return self._qos is not self._consumer.qos


def strategy(task: Any, app: Celery, consumer: Any) -> Callable[..., None]:
    """Return Celery's default strategy with our grouping consumer (`Task.Strategy`)."""
    handler: Callable[..., None] = default(task, app, GroupingConsumer(task, consumer))
    return handler


def body_of(request: Any) -> bytes:
    """Return the body of a message as it came."""
    body = request.message.body or b""
    return body.encode() if isinstance(body, str) else bytes(body)


def _size(request: Any) -> int:
    """Estimate the bytes that a message takes while it is held, decoded."""
    encoded = body_of(request)
    return len(encoded) + CONTAINER * (encoded.count(b"[") + encoded.count(b"{"))


def _headers(request: Any) -> dict[str, Any]:
    """Return the headers of a message, without the copies of its arguments."""
    headers: dict[str, Any] = request.request_dict
    return {
        n: v for n, v in headers.items() if n not in ("args", "kwargs", "argsrepr", "kwargsrepr")
    }


def run_group(task_name: str, queued: list[QueuedRequest]) -> bool:
    """Decide a group, in a pool process; return whether each request must run alone instead."""
    failed: bool = current_app.tasks[task_name].decide_group(queued)
    return failed
