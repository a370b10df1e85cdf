"""Take the place of the broker and of the Redis of result keys, in memory."""

import json
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from celery import states

from producer.contract.batches import BatchStatus
from producer.contract.headers import moment_headers
from producer.contract.keys import Owned
from producer.contract.marks import SubmissionMark
from producer.contract.routing import KIND_TASKS, TASK_QUEUES, Queue, TaskName
from producer.errors import BrokerUnavailable, ClientClosed, LookupFailed
from producer.publishing.connection import BrokerConnection
from producer.publishing.results import Stored
from producer.schemas import Kind, RequestState, RequestStatus
from producer.testing.worker import MemoryWorker

MAX_RESULTS = 10_000
"""The largest number of results that are stored for clients that stopped waiting for them."""


class _Message(NamedTuple):
    task: TaskName
    text: str
    task_id: str
    expires_at: float
    ignore_result: bool
    request_id: str | None
    """That of a single request."""
    headers: Mapping[str, Any]


class Worker(Protocol):
    """What runs the tasks; it is called by one thread at a time."""

    def run(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: dict[str, Any],
        headers: Mapping[str, Any],
    ) -> Any:
        """Run a task of a message with these headers; return its result as JSON.

        Raises LookupFailed.
        """

    def claim(self, batch_id: str, first_chunk: int | None) -> bool:
        """Store which submission has claimed a batch id, unless one has; return whether it did."""


class MemoryBroker:
    """A broker with one worker behind it, both in memory; clients and threads may share one."""

    def __init__(self, worker: Worker | None = None) -> None:
        self._worker = worker or MemoryWorker()
        self._waiting: list[_Message] = []
        self._results: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()
        self._is_available = self._has_worker = True
        self._moments: dict[str, datetime] = {}
        """The moments in the marks of requests and batches, by id."""
        self._claims: dict[str, tuple[int | None, datetime | None]] = {}
        self._owners: dict[str, str] = {}
        self._last = datetime.now(UTC)

    @contextmanager
    def without_worker(self) -> Iterator[None]:
        """Let messages wait in the queue; the worker handles them at the end."""
        self._has_worker = False
        try:
            yield
        finally:
            with self._lock:
                self._has_worker = True
                self._handle_waiting()

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Let every call raise BrokerUnavailable."""
        self._is_available = False
        try:
            yield
        finally:
            self._is_available = True

    def create_data_set(self, name: str) -> None:
        """Create a data set, as an operator does."""
        if not isinstance(self._worker, MemoryWorker):
            raise TypeError("only the database of a worker in memory is known here")
        with self._lock:
            self._worker.create_data_set(name)

    def check(self) -> None:
        """Raise BrokerUnavailable while the broker is unavailable."""
        if not self._is_available:
            raise BrokerUnavailable("The broker memory:// is not available")

    def put(self, message: _Message) -> None:
        """Put a message into its queue."""
        with self._lock:
            self._waiting.append(message)
            self._handle_waiting()

    def _handle_waiting(self) -> None:
        while self._waiting and self._has_worker:
            message = self._waiting.pop(0)
            if time.monotonic() > message.expires_at:
                continue
            stored = self._handle(message)
            if not message.ignore_result:
                self._results[message.task_id] = stored
                if len(self._results) > MAX_RESULTS:
                    del self._results[next(iter(self._results))]

    def _handle(self, message: _Message) -> dict[str, Any]:
        args, kwargs = json.loads(message.text)
        try:
            result = self._worker.run(message.task, args, kwargs, message.headers)
        except LookupFailed as error:
            return {"status": states.FAILURE, "result": {"exc_message": [str(error)]}}
        return {"status": states.SUCCESS, "result": result}

    def date(self, ids: Sequence[str], known_ids: Collection[str]) -> dict[str, datetime]:
        """Return the moments of requests and batches; known ones keep that in their marks."""
        with self._lock:
            for identity in ids:
                if identity not in known_ids or identity not in self._moments:
                    self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
                    self._moments[identity] = self._last
            return {identity: self._moments[identity] for identity in ids}

    def take_results(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        """Return the results of those tasks that have ended, once."""
        with self._lock:
            return {i: self._results.pop(i) for i in task_ids if i in self._results}

    def claim(self, batch_id: str, mark: SubmissionMark) -> bool:
        """Claim a batch id; return whether it was free."""
        with self._lock:
            is_free = self._worker.claim(batch_id, mark.first_chunk)
            if is_free:
                self._claims[batch_id] = (mark.first_chunk, mark.moment)
            return is_free

    def claimed_at(self, batch_id: str, first_chunk: int | None) -> datetime | None:
        """Return the moment of the submission that has claimed a batch id, if it is the same."""
        claimed_by, moment = self._claims.get(batch_id, (None, None))
        return moment if first_chunk in (None, claimed_by) else None

    def owner(self, key: str, claim: str | None) -> str | None:
        """Return what is stored about an owner, after a claim of this text if there is one."""
        with self._lock:
            if claim is not None:
                self._owners.setdefault(key, claim)
            return self._owners.get(key)

    def waiting_requests(self) -> set[str]:
        """Return the ids of the single requests that wait for the worker."""
        with self._lock:
            return {message.request_id for message in self._waiting if message.request_id}

    def count_waiting(self, queue: Queue) -> int:
        """Return the number of messages in a queue."""
        with self._lock:
            return sum(TASK_QUEUES[message.task] is queue for message in self._waiting)


class MemoryConnection(BrokerConnection):
    """A client's connection to a broker in memory."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.closed = False
        self.key_prefix = ""
        self.shown_url = "memory://"
        self._memory = broker

    def close(self) -> None:
        """Let later calls raise ClientClosed; what was submitted remains for other clients."""
        self.closed = True

    def _reach(self) -> MemoryBroker:
        """Return the broker. Raises ClientClosed, BrokerUnavailable."""
        if self.closed:
            raise ClientClosed
        self._memory.check()
        return self._memory

    def send(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        **options: Any,
    ) -> str:
        """Hand a task to the worker and return its id."""
        message = _Message(
            task,
            json.dumps([args, kwargs or {}]),
            task_id or uuid.uuid4().hex,
            time.monotonic() + options.get("expires", float("inf")),
            options.get("ignore_result", False),
            args[0]["request_id"] if task is TaskName.ENROLL else None,
            options.get("headers") or {},
        )
        self._reach().put(message)
        return message.task_id

    def send_new(
        self, request_id: str, args: list[Any], **options: Any
    ) -> tuple[str, datetime | None]:
        """Hand a request with a new id to the worker; return the task's id, and its moment."""
        moment = self.mark_requests([request_id])[request_id]
        headers = moment_headers(moment)
        return self.send(TaskName.ENROLL, args, headers=headers, **options), moment

    @contextmanager
    def sending_together(self) -> Iterator[Any]:
        """Yield in place of a producer; every message is handed over at once."""
        yield None

    def read_results(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        """Return the results of those tasks that have ended."""
        return self._reach().take_results(task_ids)

    def mark_requests(
        self, request_ids: Sequence[str], known_ids: Collection[str] = ()
    ) -> Mapping[str, datetime]:
        """Return the moments of requests; a request without a result is waiting."""
        ids = [f"request:{request_id}" for request_id in request_ids]
        dated = self._reach().date(ids, {f"request:{request_id}" for request_id in known_ids})
        return {request_id: dated[f"request:{request_id}"] for request_id in request_ids}

    def new_moment(self) -> datetime:
        """Return a new moment."""
        (moment,) = self._reach().date(["new"], ()).values()
        return moment

    def let_pass(self, moment: datetime | None) -> None:
        """Return at once: no later moment is the same or earlier."""

    def publish_whole(
        self, batch_id: str, mark: SubmissionMark, text: str, headers: Mapping[str, str]
    ) -> None:
        """Claim the id of a new batch, and hand its only chunk to the worker."""
        self.claim_batch(batch_id, mark)
        task = KIND_TASKS[mark.kind or Kind.ENROLLMENTS]
        self.send(task, [text], ignore_result=True, headers=headers)

    def moment_of_batch(self, batch_id: str, first_chunk: int | None) -> datetime | None:
        """Return the moment of the submission that has claimed a batch id, if it is the same."""
        return self._reach().claimed_at(batch_id, first_chunk)

    def mark_batch(self, batch_id: str, mark: SubmissionMark) -> None:  # noqa: ARG002 - as above
        """Check only whether the broker is available."""
        self._reach()

    def claim_batch(self, batch_id: str, mark: SubmissionMark) -> bool:
        """Store which submission has claimed a batch id, unless one has; return whether it did."""
        return self._reach().claim(batch_id, mark)

    def owner(self, what: Owned, identity: str, claim: str | None = None) -> str | None:
        """Return the text that says who submitted something over HTTP; it does not expire."""
        return self._reach().owner(f"{what}:{identity}", claim)

    def known_requests(self, request_ids: Sequence[str]) -> dict[str, RequestStatus]:
        """Return the status of each request that is queued; the worker is asked about others."""
        return {
            request_id: RequestStatus(request_id=request_id, state=RequestState.QUEUED)
            for request_id in self._reach().waiting_requests().intersection(request_ids)
        }

    def known_batches(self, batch_ids: Sequence[str], *, refusals: bool) -> dict[str, BatchStatus]:  # noqa: ARG002 - the worker is asked
        """Check only whether the broker is available: the worker is asked about every batch."""
        self._reach()
        return {}

    def polling_problem(self) -> None:
        """Check only whether the broker is available: nothing makes polls slow."""
        self._reach()

    def count_queued_chunks(self) -> int:
        """Return the number of chunks that wait for the worker."""
        return self._reach().count_waiting(Queue.BATCHES)

    def known_queued_chunks(self) -> int:
        """Return the same: counting costs nothing."""
        return self.count_queued_chunks()
