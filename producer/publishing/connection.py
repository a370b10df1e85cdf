"""Talk to the broker: send tasks, wait for their results, and leave marks in Redis."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery import Celery, states
from kombu import entity
from kombu.exceptions import BatchPublishError, LimitExceeded, OperationalError
from kombu.utils.url import maybe_sanitize_url
from pydantic import TypeAdapter, ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from producer.contract.broker_url import BROKERS, REDIS, check_address, require_certificate_check
from producer.contract.lookups import ANSWERS
from producer.contract.marks import MARK_SECONDS, SubmissionMark
from producer.contract.routing import QUORUM, TASK_QUEUES, Queue, TaskName
from producer.errors import AnswerNotUnderstood, BrokerUnavailable, LookupFailed, NoWorkerAnswered

SOCKET_TIMEOUT = 3.0
CONNECT_TIMEOUT = 2.0
"""Seconds; what one call does at the broker, one thing after another, fails within ten."""

CALL_ID: ContextVar[str | None] = ContextVar("call_id", default=None)
"""What the ids of tasks begin with that are published in this context, to be found in the logs."""

_ANSWERS: dict[TaskName, TypeAdapter[Any]] = {
    task: TypeAdapter(answer) for task, answer in ANSWERS.items()
}


class BrokerConnection:
    """One connection to the broker and to the Redis of results; may be shared between threads.

    Every method raises BrokerUnavailable within ten seconds when the broker does not do its part.
    Raises ValueError for a URL that cannot be meant. Connects at first use.
    """

    def __init__(self, broker_url: str, result_backend_url: str | None) -> None:
        results_url = result_backend_url or broker_url
        check_address(broker_url)
        check_address(results_url)
        if not broker_url.startswith(BROKERS):
            raise ValueError(f"The broker's URL must begin with one of {', '.join(BROKERS)}.")
        if not results_url.startswith(REDIS):
            raise ValueError(
                "Answers travel through Redis: give result_backend_url, as redis://host:6379/0."
            )
        self.shown_url = str(maybe_sanitize_url(broker_url)).partition("?")[0]
        """The broker's URL without its password and options, for messages."""
        self._redis = Redis.from_url(
            require_certificate_check(results_url),
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            # Once: what redis-py does by default depends on how the client is made.
            retry=Retry(NoBackoff(), 0),
        )
        self._over_redis = broker_url.startswith(REDIS)
        self._app = _make_app(require_certificate_check(broker_url), over_redis=self._over_redis)

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()
        self._app.close()

    def send(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Publish a task and return its id. `options` are those of Celery's `send_task`."""
        with self._broker():
            if self._over_redis:
                # A list needs no declaration, and its sender no right to declare one.
                options["declare"] = []
            if task is TaskName.ENROLL:
                # For those who look at messages. Celery's own way takes a tenth of a publish.
                options["argsrepr"] = repr(args)
            task_id = _task_id()
            # AMQP's own field for it, in seconds: it tells how long a message has been waiting.
            options["timestamp"] = int(time.time())
            queue = TASK_QUEUES[task].value
            self._app.send_task(task.value, args, kwargs, task_id=task_id, queue=queue, **options)
            return task_id

    @contextmanager
    def sending_together(self) -> Iterator[Any]:
        """Give a `producer` for `send`; what is sent with it reaches the broker at the end."""
        with self._broker(), self._app.producer_or_acquire() as producer, producer.batch():
            yield producer

    def ask(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float,
        hint: str = "Is a worker running?",
    ) -> Any:
        """Send a lookup and return its result; after `timeout` seconds it expires unanswered.

        `hint` ends the message of NoWorkerAnswered. Raises LookupFailed too.
        """
        task_id = self.send(task, args, kwargs, expires=timeout)
        return parse_answer(task, self.wait(task_id, timeout, hint))

    def wait(self, task_id: str, seconds: float, hint: str) -> Any:
        """Return what the task returned, read from where Celery's Redis backend puts it.

        Celery's own `AsyncResult.get` is not used: it subscribes with every publish, and its
        backend is not to be shared between threads. Raises NoWorkerAnswered, LookupFailed.
        """
        asked = time.monotonic()
        while (answer := self._take_answer(task_id)) is None:
            waited = time.monotonic() - asked
            if waited > seconds:
                raise NoWorkerAnswered(f"No worker answered in {seconds:g} s. {hint}")
            # A tenth of the time that it takes is lost with looking, and no more.
            time.sleep(min(max(0.0005, waited / 10), 0.05))
        if answer["status"] == states.REVOKED:
            raise NoWorkerAnswered(f"No worker came to it within {seconds:g} s. {hint}")
        if answer["status"] != states.SUCCESS:
            reason = (answer.get("result") or {}).get("exc_message", answer["status"])
            said = " ".join(map(str, reason)) if isinstance(reason, list) else reason
            raise LookupFailed(f"The worker could not answer: {said}")
        return answer.get("result")

    def _take_answer(self, task_id: str) -> dict[str, Any] | None:
        with self._broker():
            text = self._redis.get(f"celery-task-meta-{task_id}")
        try:
            answer = {} if text is None else json.loads(text)
            return answer if answer and answer["status"] in states.READY_STATES else None
        except (ValueError, LookupError, TypeError) as error:
            raise LookupFailed(
                f"The stored result of the task cannot be read: {error!r}"
            ) from error

    def mark_submitted(self, marks: Mapping[str, SubmissionMark]) -> None:
        """Write the mark of each submission, by its key, before it is published.

        From now on its state is `queued`.
        """
        with self._broker(), self._redis.pipeline(transaction=False) as pipeline:
            for key, mark in marks.items():
                pipeline.set(key, mark.model_dump_json(), ex=MARK_SECONDS)
            pipeline.execute()

    def count_queued_chunks(self) -> int:
        """Return how many chunks wait in their queue."""
        with self._broker(), self._app.connection_or_acquire() as connection:
            if self._over_redis:
                return int(connection.default_channel.client.llen(Queue.BATCHES.value))
            try:
                queue = connection.default_channel.queue_declare(Queue.BATCHES, passive=True)
            except connection.channel_errors:
                return 0  # No worker has declared it yet.
            return int(queue.message_count)

    @contextmanager
    def _broker(self) -> Iterator[None]:
        try:
            yield
        except (BatchPublishError, OperationalError, LimitExceeded, RedisError, OSError) as error:
            raise BrokerUnavailable(
                f"The broker {self.shown_url} did not answer: {error}"
            ) from error


def parse_answer(task: TaskName, answer: Any) -> Any:
    """Return an answer as the contract's models, without fields that a newer worker added.

    Raises AnswerNotUnderstood.
    """
    try:
        return _ANSWERS[task].validate_python(answer, extra="ignore")
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = ".".join(map(str, detail["loc"])) or "all of it"
        raise AnswerNotUnderstood(
            f"The answer cannot be understood ({place}: {detail['msg']}, not"
            f" {ascii(detail['input'])[:60]}): the worker speaks a newer version;"
            " upgrade the producer."
        ) from error


def _task_id() -> str:
    called = CALL_ID.get()
    return f"{called}.{uuid.uuid4().hex[:12]}" if called else str(uuid.uuid4())


def _make_app(broker_url: str, *, over_redis: bool) -> Celery:
    """Make the Celery app that publishes; it never runs a task."""
    app = Celery("enrollment-client", broker=broker_url, set_as_current=False)
    options = _options(over_redis=over_redis)
    if over_redis:
        # kombu keeps one pool a process for what it holds for the same broker: the same host
        # with the same options, whatever certificates are trusted. This tells them apart.
        trusted = {"url_options": broker_url.partition("?")[2]}
        options["broker_transport_options"].update(trusted)
        options["broker_transport"] = "producer.publishing.transport:Transport"
    app.conf.update(options)
    return app


def _options(*, over_redis: bool) -> dict[str, Any]:
    """Return Celery's options, bounded in every state of the broker; its defaults wait for ever."""
    timeouts = {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "priority_steps": [0],
    }
    return {
        "task_serializer": "json",
        "broker_connection_timeout": CONNECT_TIMEOUT,
        "broker_pool_acquire_timeout": SOCKET_TIMEOUT,
        "broker_transport_options": timeouts if over_redis else {"confirm_publish": True},
        # A queue must be declared by everybody in the same way.
        "task_queues": None
        if over_redis
        else [
            entity.Queue(q.value, entity.Exchange(q.value), q.value, queue_arguments=QUORUM)
            for q in Queue
        ],
        # What broke while it lay idle is made again at once; what does not answer, not twice.
        "task_publish_retry": not over_redis,
        "task_publish_retry_policy": {
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
    }
