"""Talk to the broker: send tasks, wait for their results, and write marks to Redis."""

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from producer.contract.batches import BatchStatus
from producer.contract.broker_url import (
    BROKERS,
    REDIS,
    check_address,
    hidden_character_problem,
    require_certificate_check,
    scheme_problem,
    shown_url,
)
from producer.contract.headers import moment_headers
from producer.contract.keys import OWNER_SECONDS, Keys, Owned
from producer.contract.marks import SubmissionMark
from producer.contract.redis_connection import connect_redis
from producer.contract.routing import KIND_TASKS, TASK_QUEUES, Queue, TaskName
from producer.errors import BrokerUnavailable, ClientClosed
from producer.publishing.app import CONNECT_TIMEOUT, SOCKET_TIMEOUT, make_app
from producer.publishing.counting import count_in_rabbitmq, count_in_redis
from producer.publishing.dating import Marks
from producer.publishing.failures import explaining
from producer.publishing.forks import renew_after_fork
from producer.publishing.polling import KnownStates, PollingProblem
from producer.publishing.repeating import repeat_after
from producer.publishing.results import Stored, not_answered, outcome_of, parse_result, parse_stored
from producer.publishing.transport import MarkBefore, marking
from producer.schemas import Kind, RequestStatus

CHECK_SECONDS = 10.0
"""Seconds between two checks of a request's status while its client waits for the result."""

SHOWN_CHARACTERS = 200
"""The most characters of a small batch that tools such as Flower show."""

KNOWN_SECONDS = 1.0
"""Seconds after which the chunks that wait are counted again: other clients publish, too."""

CALL_ID: ContextVar[str | None] = ContextVar("call_id", default=None)
"""The text that task ids begin with in this context, so that a call can be found in the logs."""

LONGEST_LOOKUP = 7 * 86_400.0
"""Seconds after which a lookup expires at the latest, however long its client waits."""

LOOKUP_HINT = "Check that a worker is running and serves the queue lookups."


class BrokerConnection:
    """A connection to the broker and to the Redis of result keys; threads may share one.

    It connects when it is first used. The constructor raises ValueError for an invalid URL or key
    prefix; every method raises BrokerUnavailable within ten seconds if the broker cannot be used.
    """

    def __init__(
        self, broker_url: str, result_backend_url: str | None, key_prefix: str = ""
    ) -> None:
        _require_text("The broker's URL, for example redis://host:6379/0,", broker_url)
        if result_backend_url is not None:
            _require_text("The URL of the result backend", result_backend_url)
        _require_text("The key prefix", key_prefix)
        self.closed = False
        self.key_prefix = key_prefix
        self._keys = Keys(key_prefix)
        results_url = result_backend_url or broker_url
        if (problem := scheme_problem(broker_url, BROKERS)) is not None:
            raise ValueError(f"The broker's URL {problem}.")
        check_address(broker_url)
        if (problem := hidden_character_problem(results_url)) is not None:
            raise ValueError(f"The URL of the result backend {problem}.")
        if not results_url.startswith(REDIS):
            raise ValueError(
                "Result keys are stored in Redis, so result_backend_url must be a Redis URL, for"
                " example redis://host:6379/0."
            )
        self.shown_url = shown_url(broker_url)
        """The broker's URL without its password and options, for messages."""
        self._results_name = f"The broker {self.shown_url}"
        if results_url != broker_url:
            self._results_name = f"The Redis of result keys {shown_url(results_url)}"
        self._over_redis = broker_url.startswith(REDIS)
        self._has_one_redis = self._over_redis and results_url == broker_url
        self._broker_url = require_certificate_check(broker_url)
        self._results_url = require_certificate_check(results_url)
        self._make_connections()
        self.after_fork(is_inherited=False)
        renew_after_fork(self)

    def after_fork(self, *, is_inherited: bool = True) -> None:
        """Let the child of a fork connect again, when it is first used there."""
        self._is_inherited = is_inherited
        self._renewal = threading.Lock()

    def _make_connections(self) -> None:
        """Make what connects when it is used, for this process alone."""
        self._redis = connect_redis(
            self._results_url,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
        )
        # In the child of a fork, closing the pool of its parent could wait for ever for a lock.
        self._redis.auto_close_connection_pool = False
        self._known = KnownStates(self._redis, self._keys)
        self._marks = Marks(self._redis, self._keys)
        self._app = make_app(self._broker_url, self._keys, over_redis=self._over_redis)
        self._queued, self._counted_at = 0, float("-inf")

    def close(self) -> None:
        """Close every connection; a later call of another method raises ClientClosed."""
        is_first, self.closed = not self.closed, True
        # After a fork, the connections are those of the parent.
        if is_first and not self._is_inherited:
            self._redis.connection_pool.disconnect()
            self._app.close()

    def send(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        **options: Any,
    ) -> str:
        """Publish a task and return its id; `options` are passed to Celery's `send_task`."""
        with self._broker():
            if self._over_redis:
                # A Redis list need not be declared, and the submitter may lack the right to do so.
                options["declare"] = []
            if task is TaskName.ENROLL:
                # Tools such as Flower show this text. Celery's own way of making it would take a
                # tenth of the time of a publish.
                options["argsrepr"] = repr(args)
            task_id = task_id or new_task_id(CALL_ID.get())
            # A task of another app that uses this client must not wait for our task as its child.
            options["add_to_parent"] = False
            # This is AMQP's standard field, in seconds; it shows how long a message has waited.
            options["timestamp"] = int(time.time())
            queue = TASK_QUEUES[task].value
            self._app.send_task(task.value, args, kwargs, task_id=task_id, queue=queue, **options)
            return task_id

    @contextmanager
    def sending_together(self) -> Iterator[Any]:
        """Yield a `producer` for `send`; its messages are sent together at the end."""
        with self._broker(), self._app.producer_or_acquire() as producer, producer.batch():
            yield producer

    def ask(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float,
        hint: str = LOOKUP_HINT,
        expires: bool = True,
    ) -> Any:
        """Send a lookup and return its result; if it `expires`, it does so after `timeout` seconds.

        Raises NoWorkerAnswered with the `hint`, LookupFailed.
        """
        check_timeout(timeout)
        task_id = self.send(task, args, kwargs, **expiry(timeout if expires else None))

        def send_again(seconds: float) -> None:
            self.send(task, args, kwargs, task_id=task_id, **expiry(seconds if expires else None))

        stored = self.wait(task_id, timeout, hint, send_again, repeat_after(task, timeout))
        return parse_result(task, stored)

    def wait(
        self,
        task_id: str,
        seconds: float,
        hint: str,
        check: Callable[[float], None] | None = None,
        check_seconds: float = CHECK_SECONDS,
    ) -> Any:
        """Wait for the result of a task, in the key where Celery's Redis backend stores it.

        Every `check_seconds`, `check` is called with the seconds that are left; it may raise an
        error to end the wait.

        Celery's own `AsyncResult.get` is not used, because it subscribes with every publish and
        its backend must not be shared between threads. Raises NoWorkerAnswered, LookupFailed.
        """
        started = time.monotonic()
        next_check = check_seconds
        while (stored := self.read_results([task_id]).get(task_id)) is None:
            waited = time.monotonic() - started
            if waited > seconds:
                raise not_answered(seconds, hint)
            if check is not None and waited > next_check:
                check(seconds - waited)
                next_check = time.monotonic() - started + check_seconds
            # The pauses grow with the wait, so that polling adds at most a tenth to it.
            time.sleep(min(max(0.0005, waited / 10), 0.05))
        return outcome_of(stored, seconds, hint)

    def read_results(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        """Return what is stored in the result keys of those tasks that have ended."""
        with self._results(), self._redis.pipeline(transaction=False) as pipeline:
            for task_id in task_ids:
                pipeline.get(self._keys.result(task_id))
            texts = pipeline.execute()
        stored = {
            task_id: parse_stored(self._keys.result(task_id), text)
            for task_id, text in zip(task_ids, texts, strict=True)
            if text is not None
        }
        return {task_id: found for task_id, found in stored.items() if found is not None}

    def mark_requests(
        self, request_ids: Sequence[str], known_ids: Collection[str] = ()
    ) -> Mapping[str, datetime]:
        """Mark requests as `queued`, before they are published; return their moments, by id.

        `known_ids` are those that may have been submitted before, and then keep their moments.
        """
        with self._results():
            return self._marks.leave_on_requests(request_ids, known_ids)

    def new_moment(self) -> datetime | None:
        """Return a new moment, to be passed to `let_pass`; None without the right to the clock."""
        with self._results():
            return self._marks.new_moment()

    def let_pass(self, moment: datetime | None) -> None:
        """Wait until what is submitted from now on counts later than a new moment."""
        self._marks.let_pass(moment)

    def moment_of_batch(self, batch_id: str, first_chunk: int | None) -> datetime | None:
        """Return the moment in the mark of a batch, if it has this first chunk."""
        with self._results():
            return self._marks.moment_of_batch(batch_id, first_chunk)

    def mark_batch(self, batch_id: str, mark: SubmissionMark) -> None:
        """Write the mark of a batch, before the chunk that it counts last is published."""
        with self._results():
            self._marks.leave_on_batch(batch_id, mark)

    def claim_batch(self, batch_id: str, mark: SubmissionMark) -> bool:
        """Write the mark of a batch unless there is one; return whether it was written."""
        with self._results():
            return self._marks.claim_batch(batch_id, mark)

    def publish_whole(
        self, batch_id: str, mark: SubmissionMark, text: str, headers: Mapping[str, str]
    ) -> None:
        """Write the mark of a new batch, and publish its only chunk in the same round trip.

        If the marks are in another Redis than the queues, it takes two.
        """
        task = KIND_TASKS[mark.kind or Kind.ENROLLMENTS]
        if not self._has_one_redis:
            self.mark_batch(batch_id, mark)
            self.send(task, [text], ignore_result=True, headers=headers)
            return
        shown = repr([text[:SHOWN_CHARACTERS]])
        with self._marking(self._keys.batch(batch_id), mark) as before:
            self.send(task, [text], ignore_result=True, headers=headers, argsrepr=shown)
        self._queued = before.queued or 0

    def send_new(
        self, request_id: str, args: list[Any], **options: Any
    ) -> tuple[str, datetime | None]:
        """Publish a request with a new id and its mark; return the task's id, and its moment.

        One round trip, if the marks are in the same Redis as the queues and its clock was just
        read. The caller must `let_pass` the moment.
        """
        if self._has_one_redis:
            moment = self.new_moment()
            with self._marking(self._keys.request(request_id), SubmissionMark()):
                headers = moment_headers(moment)
                return self.send(TaskName.ENROLL, args, headers=headers, **options), moment
        moment = self.mark_requests([request_id]).get(request_id)
        headers = moment_headers(moment)
        return self.send(TaskName.ENROLL, args, headers=headers, **options), moment

    @contextmanager
    def _marking(self, key: str, mark: SubmissionMark) -> Iterator[MarkBefore]:
        try:
            with marking(key, mark.model_dump_json()) as before:
                yield before
        except BrokerUnavailable:
            self._marks.forget_clock()
            raise

    def owner(self, what: Owned, identity: str, claim: str | None = None) -> str | None:
        """Return the text that says who submitted something over HTTP; None if it is not known.

        If it is not known, `claim` is stored first. Of claims at the same time one is stored.
        """
        key = self._keys.owner(what, identity)
        with self._results(), self._redis.pipeline(transaction=False) as pipeline:
            if claim is not None:
                pipeline.set(key, claim, ex=OWNER_SECONDS, nx=True)
            pipeline.get(key)
            text: bytes | None = pipeline.execute()[-1]
        return None if text is None else text.decode(errors="replace")

    def known_requests(self, request_ids: Sequence[str]) -> dict[str, RequestStatus]:
        """Return the status of each request that Redis knows, by id; ask a worker about others."""
        with self._results():
            return self._known.requests(request_ids)

    def known_batches(self, batch_ids: Sequence[str], *, refusals: bool) -> dict[str, BatchStatus]:
        """Return the status of each batch that Redis knows, by id; ask a worker about others."""
        with self._results():
            return self._known.batches(batch_ids, refusals=refusals)

    def polling_problem(self) -> PollingProblem | None:
        """Return why each poll asks a worker, if that is so although a worker has answered."""
        with self._results():
            return self._known.problem()

    def count_queued_chunks(self) -> int:
        """Return the number of chunks that wait in the queue, also of those with a priority."""
        with self._broker(), self._app.connection_or_acquire() as connection:
            if self._over_redis:
                self._queued = count_in_redis(connection.default_channel.client, Queue.BATCHES)
                self._counted_at = time.monotonic()
                return self._queued
            return count_in_rabbitmq(connection)

    def known_queued_chunks(self) -> int | None:
        """Return `count_queued_chunks` as this client knows it without asking; None if it does not.

        It knows the number in the second after a count, from the replies when it publishes.
        """
        is_known = self._has_one_redis and time.monotonic() - self._counted_at < KNOWN_SECONDS
        return self._queued if is_known else None

    @contextmanager
    def _broker(self) -> Iterator[None]:
        with self._open(), explaining(f"The broker {self.shown_url}"):
            yield

    @contextmanager
    def _results(self) -> Iterator[None]:
        """Like `_broker`, for the Redis of result keys and marks, which may be another server."""
        with self._open(), explaining(self._results_name):
            yield

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Raise ClientClosed after `close`, and connect again in the child of a fork."""
        if self.closed:
            raise ClientClosed
        if self._is_inherited:
            with self._renewal:
                if self._is_inherited:
                    # From a connection that parent and child share, they would read each other's
                    # replies.
                    self._make_connections()
                    self._is_inherited = False
        try:
            yield
        except Exception as error:
            if self.closed:  # Another thread closed the client in the meantime.
                raise ClientClosed from error
            raise


def _require_text(what: str, value: object) -> None:
    """Raise ValueError unless a value is text; it is not quoted, because it may hold a password."""
    if not isinstance(value, str):
        kind = "None" if value is None else f"of type {type(value).__name__}"
        # Like every other invalid argument.
        raise ValueError(f"{what} must be a string, but it is {kind}.")  # noqa: TRY004


def check_timeout(seconds: object) -> None:
    """Raise ValueError unless this is a number of seconds, from 0 to infinity."""
    # Nothing compares with NaN.
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds >= 0:
        raise ValueError(
            f"The timeout must be a number of seconds, at least 0, not {seconds!a:.60}."
        )


def expiry(seconds: float | None) -> dict[str, Any]:
    """Return the option with which a message expires; None if it never does."""
    return {} if seconds is None else {"expires": min(seconds, LONGEST_LOOKUP)}


def new_task_id(call_id: str | None) -> str:
    """Return a new task id; it begins with the given text, if any."""
    return f"{call_id}.{uuid.uuid4().hex[:12]}" if call_id else str(uuid.uuid4())
