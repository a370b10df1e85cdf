"""The client: publishes requests and batches, and asks the workers about them.

It needs the broker alone; every read is answered by a worker over the queue `lookups`.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from itertools import repeat
from typing import Any, Self, TypeVar

from celery import Celery, states
from kombu import entity
from kombu.exceptions import BatchPublishError, LimitExceeded, OperationalError
from kombu.utils.url import maybe_sanitize_url
from pydantic import TypeAdapter, ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from producer.chunks import CutChunk, Entry, Line, cut
from producer.contract.batches import AppliedChunks, BatchStatus, RefusedRecord
from producer.contract.broker_url import BROKERS, REDIS, check_address, require_certificate_check
from producer.contract.chunks import RefusedLine, Tally, fingerprint_of
from producer.contract.explain import explain
from producer.contract.lookups import ANSWERS, WorkerHealth
from producer.contract.marks import MARK_SECONDS, SubmissionMark, batch_key, request_key
from producer.contract.routing import KIND_TASKS, QUORUM, TASK_QUEUES, Queue, TaskName
from producer.errors import (
    AnswerNotUnderstood,
    BatchConflict,
    BrokerUnavailable,
    InvalidRequest,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.schemas import (
    MAX_LOOKUP,
    ContractModel,
    Kind,
    RequestStatus,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
    StudentResponse,
)

SOCKET_TIMEOUT = 3.0
CONNECT_TIMEOUT = 2.0
"""Seconds; what one call does at the broker, one thing after another, fails within ten."""

MAX_QUEUED = 64
"""Chunks that may wait in the queue: enough to keep workers busy, and little for a modest Redis,
some 30 MB of enrollments or 80 MB of a roster."""
QUEUE_PATIENCE = 600.0
"""Seconds for which a full queue may stay full before its submitter gives up."""

OUTAGE_PAUSE = 1.0
"""Seconds between two attempts while the broker is away."""

CALL_ID: ContextVar[str | None] = ContextVar("call_id", default=None)
"""What the ids of tasks begin with that are published in this context, to be found in the logs."""

Record = ContractModel | Mapping[str, Any] | Entry | RefusedLine
T = TypeVar("T")

_ANSWERS: dict[TaskName, TypeAdapter[Any]] = {
    task: TypeAdapter(answer) for task, answer in ANSWERS.items()
}


class SubmittedBatch(ContractModel):
    """What has been handed over of a batch; `published` of its chunks, the others were applied."""

    batch_id: str
    kind: Kind
    chunks: int = 0
    published: int = 0
    tally: Tally = Tally()


class EnrollmentClient:
    """A submitter's connection to the service; may be shared between threads.

    `timeout` is in seconds and bounds every wait for an answer. Every method raises
    BrokerUnavailable when the broker does not do its part, within ten seconds, and LookupFailed
    when an answer cannot be understood. A `rediss://` URL is one whose certificate is checked,
    by `ssl_ca_certs=FILE` in its query if not by the system's authorities. Raises ValueError for
    a URL that cannot be meant.
    """

    def __init__(
        self, broker_url: str, *, result_backend_url: str | None = None, timeout: float = 10.0
    ) -> None:
        self.timeout = timeout
        check_address(broker_url)
        check_address(result_backend_url or broker_url)
        if not broker_url.startswith(BROKERS):
            raise ValueError(f"The broker's URL must begin with one of {', '.join(BROKERS)}.")
        self.shown_url = str(maybe_sanitize_url(broker_url)).partition("?")[0]
        answers = result_backend_url or broker_url
        if not answers.startswith(REDIS):
            raise ValueError(
                "Answers travel through Redis: give result_backend_url, as redis://host:6379/0."
            )
        broker_url, answers = (
            require_certificate_check(broker_url),
            require_certificate_check(answers),
        )
        self._redis = Redis.from_url(
            answers,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            # Once: what redis-py does by default depends on how the client is made.
            retry=Retry(NoBackoff(), 0),
        )
        self._over_redis = broker_url.startswith(REDIS)
        self._app = Celery("enrollment-client", broker=broker_url, set_as_current=False)
        options = _options(over_redis=self._over_redis)
        if self._over_redis:
            # kombu keeps one pool a process for what it holds for the same broker: the same host
            # with the same options, whatever certificates are trusted. This tells them apart.
            trusted = {"url_options": broker_url.partition("?")[2]}
            options["broker_transport_options"].update(trusted)
            options["broker_transport"] = "producer.transport:Transport"
        self._app.conf.update(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back every connection."""
        self._redis.close()
        self._app.close()

    # --- publishing ---------------------------------------------------------------------------

    def submit(self, request: StudentEnrollmentRequest | Mapping[str, Any]) -> str:
        """Publish one request and return its id at once; ask `status` for the outcome.

        The id is the request's own, or a new one. Raises InvalidRequest.
        """
        request, request_id = _checked(request)
        self._note(request_key(request_id), SubmissionMark())
        self._send(TaskName.ENROLL, [_plain(request)], ignore_result=True)
        return request_id

    def submit_all(
        self,
        requests: Sequence[StudentEnrollmentRequest | Mapping[str, Any]],
        call_ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Publish requests, each as a message of its own, in one go; returns their ids.

        For many at once a batch is cheaper. `call_ids` are what the ids of their tasks begin
        with. Raises InvalidRequest; after BrokerUnavailable some may have been published.
        """
        checked = [_checked(request) for request in requests]
        mark = SubmissionMark().model_dump_json()
        with self._broker(), self._redis.pipeline(transaction=False) as pipeline:
            for _, request_id in checked:
                pipeline.set(request_key(request_id), mark, ex=MARK_SECONDS)
            pipeline.execute()
        callers = repeat(None) if call_ids is None else call_ids
        with self._broker(), self._app.producer_or_acquire() as producer, producer.batch():
            for (request, _), call_id in zip(checked, callers, strict=False):
                CALL_ID.set(call_id)
                args = [_plain(request)]
                self._send(TaskName.ENROLL, args, ignore_result=True, producer=producer)
        return [request_id for _, request_id in checked]

    def enroll(
        self,
        request: StudentEnrollmentRequest | Mapping[str, Any],
        *,
        timeout: float | None = None,
    ) -> StudentEnrollmentResponse:
        """Publish one request and wait for its outcome, at most `timeout` seconds.

        Raises InvalidRequest, and NoWorkerAnswered when the time is up: the request stays
        queued then, and its outcome can be asked for later by its id. LookupFailed means that it
        was decided, and that the outcome cannot be understood.
        """
        request, request_id = _checked(request)
        self._note(request_key(request_id), SubmissionMark())
        task_id = self._send(TaskName.ENROLL, [_plain(request)])
        hint = f"Request {request_id} stays queued; ask for its status later."
        answer = self._wait(task_id, self.timeout if timeout is None else timeout, hint)
        outcome: StudentEnrollmentResponse = _understood(TaskName.ENROLL, answer)
        return outcome

    def submit_batch(
        self,
        kind: Kind,
        records: Iterable[Record],
        *,
        batch_id: str | None = None,
        known: bool = True,
        columns: Iterable[str] | None = None,
        max_queued: int = MAX_QUEUED,
        progress: Callable[[SubmittedBatch], None] | None = None,
        outage: Callable[[BrokerUnavailable], None] | None = None,
    ) -> SubmittedBatch:
        """Publish a stream of records in chunks, holding one chunk at a time.

        A record that breaks the contract is refused by the worker, with its line; it harms no
        other. `batch_id` names the batch: of what was submitted under the same name before, only
        the chunks that were never applied are published, and another content raises
        BatchConflict; without a worker that cannot be known, unless you say by `known=False`
        that the name is new. `columns` is the header of the file. While `max_queued` chunks wait in
        the queue nothing is published; NoWorkerAnswered is raised when that lasts ten minutes,
        or when a named batch cannot be asked about. `progress` is called after each chunk.
        With `outage` a broker that is away is waited for, at most ten minutes: it is called with
        each error, and the chunk is published again, which its identity makes harmless.
        """
        known = known and batch_id is not None
        batch = SubmittedBatch(batch_id=batch_id or uuid.uuid4().hex, kind=kind)
        chunks = cut(batch.batch_id, _entries(records), columns, kind)
        room = self._room(max_queued, outage)
        for chunk, applied in self._with_applied(batch, chunks) if known else _unapplied(chunks):
            batch = _after(batch, chunk, published=not applied)
            if not applied:
                next(room)
            left = SubmissionMark(
                kind=kind, tally=batch.tally, chunks=batch.chunks, complete=chunk.last
            )
            text = None if applied else chunk.text
            _persistently(outage, partial(self._publish, kind, batch.batch_id, left, text))
            if progress is not None:
                progress(batch)
        return batch

    def _publish(
        self, kind: Kind, batch_id: str, submission: SubmissionMark, text: str | None
    ) -> None:
        self._note(batch_key(batch_id), submission)
        if text is not None:
            self._send(KIND_TASKS[kind], [text], ignore_result=True)

    def _with_applied(
        self, batch: SubmittedBatch, chunks: Iterator[CutChunk]
    ) -> Iterator[tuple[CutChunk, bool]]:
        """Each chunk, and whether it was applied before. Raises BatchConflict."""
        known = AppliedChunks(fingerprints=())
        for chunk in chunks:
            place = chunk.number % MAX_LOOKUP
            if place == 0:
                numbers = list(range(chunk.number, chunk.number + MAX_LOOKUP))
                known = self._applied(batch.batch_id, numbers)
            applied = known.fingerprints[place]
            if known.kind not in (None, batch.kind):
                raise BatchConflict(
                    f"Batch {batch.batch_id} holds {known.kind}, not {batch.kind};"
                    " nothing was published, choose another name."
                )
            if applied is not None and applied != fingerprint_of(chunk.text):
                raise BatchConflict(
                    f"Batch {batch.batch_id} was submitted before with another content: chunk"
                    f" {chunk.number} differs from the one that was applied. Submit the same"
                    " records in the same order, or choose another name."
                )
            yield chunk, applied is not None

    def _applied(self, batch_id: str, numbers: list[int]) -> AppliedChunks:
        task_id = self._send(TaskName.CHUNKS, [batch_id, numbers], expires=self.timeout)
        hint = "What was applied of the batch before cannot be known without one."
        answer = self._wait(task_id, self.timeout, hint)
        applied: AppliedChunks = _understood(TaskName.CHUNKS, answer)
        return applied

    def _room(
        self, max_queued: int, outage: Callable[[BrokerUnavailable], None] | None
    ) -> Iterator[None]:
        """Comes back when there is room for one more chunk in the queue."""
        while True:
            since = time.monotonic()
            pause = 0.01
            while (queued := _persistently(outage, self._queued)) >= max_queued:
                if time.monotonic() - since > QUEUE_PATIENCE:
                    raise NoWorkerAnswered(
                        f"{queued} chunks have been waiting for {QUEUE_PATIENCE:g} s. Start a"
                        " worker, and submit again under the same batch id to go on."
                    )
                time.sleep(pause)
                pause = min(pause * 1.5, 0.2)
            # Some of the room is left to other submitters, who count at the same time.
            yield from repeat(None, max(1, (max_queued - queued) // 2))

    def _queued(self) -> int:
        """How many chunks wait in the queue."""
        with self._broker(), self._app.connection_or_acquire() as connection:
            if self._over_redis:
                return int(connection.default_channel.client.llen(Queue.BATCHES.value))
            try:
                queue = connection.default_channel.queue_declare(Queue.BATCHES, passive=True)
            except connection.channel_errors:
                return 0  # No worker has declared it yet.
            return int(queue.message_count)

    # --- reading ------------------------------------------------------------------------------

    def status(self, request_id: str) -> RequestStatus:
        """Where a request stands. Raises NoWorkerAnswered."""
        return self.statuses([request_id])[0]

    def statuses(self, request_ids: Sequence[str]) -> list[RequestStatus]:
        """Where requests stand, in the same order. Raises NoWorkerAnswered."""
        return self._ask(TaskName.STATUS, request_ids)

    def batch(self, batch_id: str, *, refusals: bool = True) -> BatchStatus:
        """Where a batch stands, with its refusals by cause. Raises NoWorkerAnswered."""
        return self.batches([batch_id], refusals=refusals)[0]

    def batches(self, batch_ids: Sequence[str], *, refusals: bool = True) -> list[BatchStatus]:
        """Where batches stand, in the same order. Raises NoWorkerAnswered."""
        return self._ask(TaskName.BATCH, batch_ids, refusals=refusals)

    def refusals(self, batch_id: str) -> Iterator[RefusedRecord]:
        """Every refusal of a batch with its record, by line. Raises NoWorkerAnswered."""
        after: tuple[int, int] | None = (0, 0)
        while after is not None:
            task_id = self._send(TaskName.REFUSALS, [batch_id, *after], expires=self.timeout)
            answer = self._wait(task_id, self.timeout, "Is a worker running?")
            page: list[RefusedRecord] = _understood(TaskName.REFUSALS, answer)
            yield from page
            after = (page[-1].line, page[-1].id) if page else None

    def results(
        self,
        student: int | str,
        *,
        limit: int = 100,
        before: tuple[datetime, str] | None = None,
    ) -> list[StudentEnrollmentResponse]:
        """A student's newest outcomes, at most `limit`. Raises NoWorkerAnswered.

        `before` is `completed_at` and `request_id` of an outcome: only older ones are given.
        """
        place = {} if before is None else {"before": [before[0].isoformat(), before[1]]}
        (found,) = self._ask(TaskName.RESULTS, [student], limit=limit, **place)
        return list(found)

    def results_of(
        self, students: Sequence[int | str], *, limit: int = 100
    ) -> list[list[StudentEnrollmentResponse]]:
        """The newest outcomes of each student, in the same order. Raises NoWorkerAnswered."""
        return self._ask(TaskName.RESULTS, students, limit=limit)

    def student(self, student: int | str) -> StudentResponse | None:
        """A student with its courses; None if there is none. Raises NoWorkerAnswered."""
        return self.students([student])[0]

    def students(self, students: Sequence[int | str]) -> list[StudentResponse | None]:
        """Students with their courses, in the same order. Raises NoWorkerAnswered."""
        return self._ask(TaskName.STUDENT, students)

    def health(self) -> WorkerHealth:
        """What a worker says of itself and its database. Raises NoWorkerAnswered."""
        task_id = self._send(TaskName.HEALTH, [], expires=self.timeout)
        answer = self._wait(task_id, self.timeout, "Is a worker running?")
        health: WorkerHealth = _understood(TaskName.HEALTH, answer)
        return health

    # --- the wire -----------------------------------------------------------------------------

    def _ask(self, task: TaskName, ids: Sequence[Any], **options: Any) -> list[Any]:
        found: list[Any] = []
        for start in range(0, len(ids), MAX_LOOKUP):
            asked = list(ids[start : start + MAX_LOOKUP])
            # A question that nobody waits for any more is not answered later.
            task_id = self._send(task, [asked], options, expires=self.timeout)
            answer = self._wait(task_id, self.timeout, "Is a worker running?")
            found += _understood(task, answer)
        return found

    def _send(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> str:
        with self._broker():
            queue = TASK_QUEUES[task].value
            if self._over_redis:
                # A list needs no declaration, and its sender no right to declare one.
                options["declare"] = []
            if task is TaskName.ENROLL:
                # For those who look at messages. Celery's own way takes a tenth of a publish.
                options["argsrepr"] = repr(args)
            task_id = _task_id()
            # AMQP's own field for it, in seconds: it tells how long a message has been waiting.
            options["timestamp"] = int(time.time())
            self._app.send_task(task.value, args, kwargs, task_id=task_id, queue=queue, **options)
            return task_id

    def _wait(self, task_id: str, seconds: float, hint: str) -> Any:
        """What the task returned, read from where Celery's Redis backend puts it.

        Celery's own `AsyncResult.get` is not used: it subscribes with every publish, and its
        backend is not to be shared between threads.
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
            raise LookupFailed(f"What lies in place of an answer is none: {error!r}") from error

    def _note(self, key: str, submission: SubmissionMark) -> None:
        """Leave word of a submission before it is published: from now on it is `queued`."""
        with self._broker():
            text = submission.model_dump_json()
            self._redis.set(key, text, ex=MARK_SECONDS)

    @contextmanager
    def _broker(self) -> Iterator[None]:
        try:
            yield
        except (BatchPublishError, OperationalError, LimitExceeded, RedisError, OSError) as error:
            raise BrokerUnavailable(
                f"The broker {self.shown_url} did not answer: {error}"
            ) from error


def _task_id() -> str:
    called = CALL_ID.get()
    return f"{called}.{uuid.uuid4().hex[:12]}" if called else str(uuid.uuid4())


def _options(*, over_redis: bool) -> dict[str, Any]:
    """Bounded in every state of the broker; Celery's defaults wait for ever."""
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
        # What broke while it lay idle is made anew at once; what does not answer, not twice.
        "task_publish_retry": not over_redis,
        "task_publish_retry_policy": {
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
    }


def _checked(
    request: StudentEnrollmentRequest | Mapping[str, Any],
) -> tuple[StudentEnrollmentRequest, str]:
    """The request with an id of its own, so that a repeated delivery has one effect."""
    try:
        checked = StudentEnrollmentRequest.model_validate(request)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from error
    request_id = checked.request_id or uuid.uuid4().hex
    return checked.model_copy(update={"request_id": request_id}), request_id


def _understood(task: TaskName, answer: Any) -> Any:
    """An answer of the contract, without what a newer one adds. Raises AnswerNotUnderstood."""
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


def _persistently(outage: Callable[[BrokerUnavailable], None] | None, work: Callable[[], T]) -> T:
    """Do it; with `outage`, again and again while the broker is away."""
    since = time.monotonic()
    while True:
        try:
            return work()
        except BrokerUnavailable as error:
            if outage is None or time.monotonic() - since > QUEUE_PATIENCE:
                raise
            outage(error)
            time.sleep(OUTAGE_PAUSE)


def _entries(records: Iterable[Record]) -> Iterator[Line]:
    for number, record in enumerate(records, 1):
        if isinstance(record, Entry) or isinstance(record, RefusedLine):  # noqa: SIM101 - quicker
            yield record
        else:
            plain = _plain(record) if isinstance(record, ContractModel) else record
            yield Entry(dict(plain) if isinstance(plain, Mapping) else plain, [number])


def _unapplied(chunks: Iterator[CutChunk]) -> Iterator[tuple[CutChunk, bool]]:
    return ((chunk, False) for chunk in chunks)


def _plain(message: ContractModel) -> dict[str, Any]:
    return message.model_dump(mode="json", exclude_defaults=True)


def _after(batch: SubmittedBatch, chunk: CutChunk, *, published: bool) -> SubmittedBatch:
    tally = Tally(
        requests=batch.tally.requests + chunk.tally.requests,
        rows=batch.tally.rows + chunk.tally.rows,
    )
    return batch.model_copy(
        update={
            "chunks": batch.chunks + 1,
            "published": batch.published + published,
            "tally": tally,
        }
    )
