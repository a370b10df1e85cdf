"""Check messages before anything trusts them, and put malformed ones in quarantine.

A malformed message is stored whole in the table of dead letters, with the reason, and only then
acknowledged. Until then it stays in its slot.
"""

import base64
import json
import logging
from collections.abc import Callable, Container
from functools import partial
from typing import Any, Protocol

from billiard.exceptions import WorkerLostError
from celery import Celery, current_app
from celery.exceptions import Ignore, Reject
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from redis.exceptions import RedisError

from producer.contract.routing import TASK_QUEUES, Queue, TaskName
from worker.messaging.attempts import Attempts
from worker.messaging.envelope import (
    MalformedMessage,
    check_body,
    check_content,
    check_headers,
    check_nesting,
    check_queue,
    check_size,
    clean_labels,
)
from worker.messaging.giants import shortened
from worker.messaging.plans_due import PlansDue, PlanWatch
from worker.messaging.result_backend import OUT_OF_MEMORY
from worker.messaging.unavailable import DatabaseUnavailable
from worker.plain_text import first_line

log = logging.getLogger(__name__)

RECONNECT = 4.0
"""The longest pause, in seconds, between two attempts to connect to the broker."""

RETRY = 1.0
"""Seconds before another attempt to put a message in quarantine."""


class _Events(Protocol):
    def requeued(self, task: str, task_id: str) -> None: ...


class ConsumerServices(Protocol):
    """Those services of our tasks that the consumer needs."""

    @property
    def attempts(self) -> Attempts: ...

    @property
    def events(self) -> _Events: ...

    @property
    def store_refusal(self) -> Callable[[str, str], None]: ...

    @property
    def plans_due(self) -> PlansDue: ...

    def quarantine(self, raw: bytes, queue: str, reason: str) -> None: ...

    def advance_plans(self) -> bool: ...

    def help_with_plans(self) -> bool: ...


def services_of(app: Celery) -> ConsumerServices:
    """Return the services that the app's tasks carry; Celery cannot pass them to the consumer."""
    services: ConsumerServices = app.tasks[TaskName.ENROLL.value].services
    return services


def rejection_reason(message: Any, tasks: Container[str]) -> str | None:
    """Return why a message must be rejected; None if it is valid."""
    # Our own transport has already checked the envelope.
    fault: str | None = getattr(message, "fault", None)
    if fault is not None:
        return fault
    try:
        check_size(message.body or b"")
        check_content(message.content_type, message.content_encoding)
        headers = check_headers(message.headers, tasks)
        check_queue(headers.task, _queue_of(message))
        check_nesting(message.properties, "properties")
        check_body(_payload(message))
    except MalformedMessage as error:
        return str(error)
    return None


def _queue_of(message: Any) -> str:
    """Return the queue that a message came from: the broker or our transport says so, no client."""
    return str((message.delivery_info or {}).get("routing_key", ""))


def _payload(message: Any) -> object:
    try:
        return message.payload
    except Exception as error:
        raise MalformedMessage(f"the body is not JSON: {first_line(error)}") from error


def raw_bytes(message: Any) -> bytes:
    """Return a message as it came; if the broker delivers it in parts, return the parts as JSON."""
    raw: bytes | None = getattr(message, "raw", None)
    if raw is not None:
        return raw
    body = message.body or b""
    parts = {
        "body": base64.b64encode(body if isinstance(body, bytes) else body.encode()).decode(),
        "content-type": message.content_type,
        "content-encoding": message.content_encoding,
        "headers": message.headers,
        "properties": {"body_encoding": "base64"},
    }
    try:
        return json.dumps(parts, default=repr).encode()
    except RecursionError:
        return json.dumps({**parts, "headers": {}}).encode()


class ValidatingConsumer(Consumer):
    """Celery's consumer, with a check of every message first (`worker_consumer`).

    It does not talk to other workers: nothing here needs that, and its Redis user has no right to.
    It sends Celery's heartbeats only if task events are on, because only Flower reads them.
    """

    def __init__(self, *args: Any, app: Any, worker_options: Any = None, **more: Any) -> None:
        switched_off = {"without_gossip": True, "without_mingle": True}
        switched_off["without_heartbeat"] = not app.conf.worker_send_task_events
        super().__init__(
            *args, app=app, worker_options={**(worker_options or {}), **switched_off}, **more
        )
        due = services_of(app).plans_due
        self.plan_watch = PlanWatch(self, due, advance_plans, help_with_plans)

    def ensure_connected(self, conn: Any) -> Any:
        # By default kombu's pauses between two attempts grow to half a minute.
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=1, interval_step=1, interval_max=RECONNECT
        )
        return super().ensure_connected(conn)

    def update_strategies(self) -> None:
        self.shared: dict[str, Any] = {}
        """What the strategies of several tasks have in common, for this connection."""
        super().update_strategies()

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **options)
        self.plan_watch.start()
        # Celery's built-in tasks are not for clients.
        ours = {name for name in self.app.tasks if not name.startswith("celery.")}
        # kombu lists KeyError as a sign of a broken connection; here it may be a message's fault.
        broken_connection = tuple(
            error for error in self.connection_errors if error is not KeyError
        )

        def on_task_received(message: Any) -> None:
            clean_labels(message.headers)
            fault = rejection_reason(message, ours)
            if fault is not None:
                self.quarantine(message, fault)
                return
            try:
                handle(message)
            except broken_connection:
                raise
            except (MemoryError, RedisError) as error:
                # Not the message's fault: the result of a lookup that came too late, for example,
                # cannot be stored while Redis is full.
                log.warning("A message cannot be accepted now; trying again: %r", error)
                # A closed channel has already requeued the message.
                if message.channel.connection is not None:
                    self.timer.call_after(RETRY, on_task_received, (message,))
            except Exception as error:
                log.exception("A valid message could not be accepted")
                self.quarantine(message, f"it could not be accepted: {first_line(error)}")

        return on_task_received

    # Our checks catch all of these before Celery does. A message that they miss is not dropped.

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self.quarantine(message, f"it cannot be decoded: {first_line(exc)}")

    def on_unknown_message(self, _body: Any, message: Any) -> None:
        self.quarantine(message, "it is not a task")

    def on_unknown_task(self, _body: Any, message: Any, exc: Exception) -> None:
        self.quarantine(message, f"there is no task {first_line(exc)}")

    def on_invalid_task(self, _body: Any, message: Any, exc: Exception) -> None:
        self.quarantine(message, f"it is not a valid task: {first_line(exc)}")

    def quarantine(self, message: Any, reason: str) -> None:
        """Store a message as a dead letter, then acknowledge it."""
        self._store(message, (shortened(raw_bytes(message)), _queue_of(message), reason))

    def _store(self, message: Any, letter: tuple[bytes, str, str]) -> None:
        def acknowledge(is_stored: Any) -> None:
            if is_stored is True:
                message.ack_log_error(log, self.connection_errors)
            else:
                retry()

        def retry(*_: Any) -> None:
            # A closed channel has already requeued the message.
            if message.channel.connection is not None:
                self.timer.call_after(RETRY, self._store, (message, letter))

        self.pool.apply_async(store_dead_letter, letter, callback=acknowledge, error_callback=retry)


def store_dead_letter(raw: bytes, queue: str, reason: str) -> bool:
    """Store a message as a dead letter, in a pool process; return True once it is stored."""
    services_of(current_app).quarantine(raw, queue, reason)
    return True


def advance_plans() -> bool:
    """Do a step of a plan that is due, in a pool process; return whether another may be due."""
    return services_of(current_app).advance_plans()


def help_with_plans() -> bool:
    """Apply a chunk of a plan that another pool process applies; return whether to go on."""
    return services_of(current_app).help_with_plans()


def is_stopping() -> bool:
    """Return whether the worker is stopping. Celery stores an exit code, which may be 0."""
    return any(
        exit_code is not None and exit_code is not False
        for exit_code in (state.should_stop, state.should_terminate)
    )


def cause_of(exc_info: Any) -> BaseException:
    """Return the exception that a pool process raised."""
    cause: BaseException = getattr(exc_info.exception, "exc", exc_info.exception)
    return cause


class CountedRequest(Request):
    """Celery's request (`Task.Request`), which also counts failed attempts and requeues."""

    def maybe_expire(self) -> bool:
        """Return whether this message has expired.

        Celery would also refuse every later message with the same id, for hours. But any client may
        send an expired lookup under the id of a request that somebody else submits later.
        """
        expired = bool(super().maybe_expire())
        state.revoked.discard(self.id)
        return expired

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        error = cause_of(exc_info)
        if isinstance(error, DatabaseUnavailable):
            pause_work = getattr(self.message.channel, "pause_work", None)
            if pause_work is not None:  # RabbitMQ's channel has none; the pool process pauses.
                pause_work(error.pause)
        elif isinstance(error, MemoryError):
            # Celery would raise it again here, and end the main process.
            exc_info.exception = self._out_of_memory()
        # Stopping a worker may kill its processes; that is not the fault of the message.
        elif isinstance(error, WorkerLostError | SystemExit) and not is_stopping():
            self._count_failure()
        return super().on_failure(exc_info, *args, **options)

    def _out_of_memory(self) -> Any:
        """Return what Celery is to do with a task whose process had too little memory."""
        log.error("The task %s[%s] ran out of memory", self.name, self.id)
        self._count_failure()
        if not self._is_lookup:
            return Reject("out of memory", requeue=True)
        services_of(self.app).store_refusal(self.id, OUT_OF_MEMORY)
        return Ignore("out of memory")

    @property
    def _is_lookup(self) -> bool:
        return TASK_QUEUES.get(self.type) is Queue.LOOKUPS

    def _count_failure(self) -> None:
        """Count a failed attempt, unless the message is a lookup, which is not tried again."""
        attempts = services_of(self.app).attempts
        if self._is_lookup:
            attempts.end([self.id])
        else:
            attempts.failed(self.id)

    def _success_was_stored(self) -> bool:
        # Celery asks this when a process was lost. A stored result may belong to an earlier message
        # with the same id. Running the message again is safe, because it has an effect only once.
        return False

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's
        if requeue and not self.acknowledged:
            services_of(self.app).events.requeued(self.name, self.id)
        super().reject(requeue=requeue)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's
        if not soft:
            services_of(self.app).attempts.failed(self.id)
        super().on_timeout(soft, timeout)
