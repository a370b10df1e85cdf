"""Check messages before anything trusts them; what cannot be understood is put in quarantine.

It is kept whole in the table of dead letters, with its reason, and acknowledged after that. Until
the database has it, it stays where it was taken.
"""

import base64
import json
import logging
from collections.abc import Callable, Container
from typing import Any, Protocol

from billiard.exceptions import WorkerLostError
from celery import Celery, current_app
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.request import Request

from producer.contract.routing import TaskName
from worker.messaging.attempts import Attempts
from worker.messaging.envelope import (
    MalformedMessage,
    check_body,
    check_content,
    check_headers,
    check_size,
)
from worker.plain_text import first_line

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until it is tried again to put a message in quarantine."""


class _Events(Protocol):
    def requeued(self, task: str, task_id: str) -> None: ...


class ConsumerServices(Protocol):
    """What the consumer needs of the services that our tasks carry."""

    @property
    def attempts(self) -> Attempts: ...

    @property
    def events(self) -> _Events: ...

    def quarantine(self, raw: bytes, queue: str, reason: str) -> None: ...


def services_of(app: Celery) -> ConsumerServices:
    """Return the services that the app's tasks carry: Celery makes the consumer, and knows none."""
    services: ConsumerServices = app.tasks[TaskName.ENROLL.value].services
    return services


def rejection_reason(message: Any, tasks: Container[str]) -> str | None:
    """Why a message of the broker is not to be trusted; None if it is."""
    # Our own transport has looked at the envelope already.
    fault: str | None = getattr(message, "fault", None)
    if fault is not None:
        return fault
    try:
        check_size(message.body or b"")
        check_content(message.content_type, message.content_encoding)
        check_headers(message.headers, tasks)
        check_body(_payload(message))
    except MalformedMessage as error:
        return str(error)
    return None


def _payload(message: Any) -> object:
    try:
        return message.payload
    except Exception as error:
        raise MalformedMessage(f"the body is not JSON: {first_line(error)}") from error


def raw_bytes(message: Any) -> bytes:
    """A message as it came, or, where the broker gives it in parts, all of them as JSON."""
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
    return json.dumps(parts, default=repr).encode()


class ValidatingConsumer(Consumer):
    """Celery's consumer, but that every message is checked first (`worker_consumer`).

    It talks to no other worker: nothing here needs that, and its Redis user may not. Only Flower
    wants to know that it lives.
    """

    def __init__(self, *args: Any, app: Any, worker_options: Any = None, **more: Any) -> None:
        silent = {"without_gossip": True, "without_mingle": True}
        silent["without_heartbeat"] = not app.conf.worker_send_task_events
        super().__init__(
            *args, app=app, worker_options={**(worker_options or {}), **silent}, **more
        )

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **options)
        # Celery brings tasks of its own; they are not for strangers.
        ours = {name for name in self.app.tasks if not name.startswith("celery.")}
        # To kombu a KeyError is a sign of a broken connection.
        away = tuple(error for error in self.connection_errors if error is not KeyError)

        def on_task_received(message: Any) -> None:
            fault = rejection_reason(message, ours)
            if fault is not None:
                self.quarantine(message, fault)
                return
            try:
                handle(message)
            except away:
                raise
            except Exception as error:
                log.exception("A message that was found good could not be taken")
                self.quarantine(message, f"it could not be taken: {first_line(error)}")

        return on_task_received

    # The checks let nothing through that ends here; if Celery finds more, it is not dropped.

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self.quarantine(message, f"it cannot be decoded: {first_line(exc)}")

    def on_unknown_message(self, _body: Any, message: Any) -> None:
        self.quarantine(message, "it is no task")

    def on_unknown_task(self, _body: Any, message: Any, exc: Exception) -> None:
        self.quarantine(message, f"there is no task {first_line(exc)}")

    def on_invalid_task(self, _body: Any, message: Any, exc: Exception) -> None:
        self.quarantine(message, f"it is no valid task: {first_line(exc)}")

    def quarantine(self, message: Any, reason: str) -> None:
        """Keep a message as a dead letter, then acknowledge it."""
        queue = str((message.delivery_info or {}).get("routing_key", ""))
        self._keep(message, (raw_bytes(message), queue, reason))

    def _keep(self, message: Any, letter: tuple[bytes, str, str]) -> None:
        def kept(done: Any) -> None:
            if done is True:
                message.ack_log_error(log, self.connection_errors)
            else:
                again()

        def again(*_: Any) -> None:
            if message.channel.connection is not None:  # Else it has been given back.
                self.timer.call_after(RETRY, self._keep, (message, letter))

        self.pool.apply_async(store_dead_letter, letter, callback=kept, error_callback=again)


def store_dead_letter(raw: bytes, queue: str, reason: str) -> bool:
    """In a pool process: keep a message as a dead letter; return that the database has it."""
    services_of(current_app).quarantine(raw, queue, reason)
    return True


def is_stopping() -> bool:
    """The worker was told to end; Celery keeps the exit code there, which may be 0."""
    return any(
        told is not None and told is not False
        for told in (state.should_stop, state.should_terminate)
    )


class CountedRequest(Request):
    """Celery's request (`Task.Request`), but that what happens to it is counted."""

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        # Who stops a worker may well kill its processes; the message is not to blame.
        if isinstance(error, WorkerLostError | SystemExit) and not is_stopping():
            services_of(self.app).attempts.failed(self.id)
        return super().on_failure(exc_info, *args, **options)

    def _success_was_stored(self) -> bool:
        # What Celery asks when a process was lost. It may be the answer to an earlier message
        # under this id; what was done is done once in effect, so the message is tried again.
        return False

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's
        if requeue and not self.acknowledged:
            services_of(self.app).events.requeued(self.name, self.id)
        super().reject(requeue=requeue)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's
        if not soft:
            services_of(self.app).attempts.failed(self.id)
        super().on_timeout(soft, timeout)
