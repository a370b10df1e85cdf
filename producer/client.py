"""The client: publishes requests and batches, and asks the workers about them.

It needs the broker alone; every read is answered by a worker over the queue `lookups`.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import Any, Self

from pydantic import ValidationError

from producer.contract.batches import BatchStatus, RefusedRecord
from producer.contract.explain import explain
from producer.contract.lookups import WorkerHealth
from producer.contract.marks import SubmissionMark, request_key
from producer.contract.routing import TaskName
from producer.errors import InvalidRequest
from producer.publishing.batches import (
    MAX_QUEUED,
    BatchPublisher,
    OnOutage,
    OnProgress,
    Record,
    SubmittedBatch,
    plain_fields,
)
from producer.publishing.connection import CALL_ID, BrokerConnection, parse_answer
from producer.schemas import (
    MAX_LOOKUP,
    Kind,
    RequestStatus,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
    StudentResponse,
)


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
        self._connection = BrokerConnection(broker_url, result_backend_url)

    @property
    def shown_url(self) -> str:
        """The broker's URL without its password, for messages."""
        return self._connection.shown_url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    # --- publishing ---------------------------------------------------------------------------

    def submit(self, request: StudentEnrollmentRequest | Mapping[str, Any]) -> str:
        """Publish one request and return its id at once; ask `status` for the result.

        The id is the request's own, or a new one. Raises InvalidRequest.
        """
        request, request_id = _with_id(request)
        self._connection.mark_submitted({request_key(request_id): SubmissionMark()})
        self._connection.send(TaskName.ENROLL, [plain_fields(request)], ignore_result=True)
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
        checked = [_with_id(request) for request in requests]
        marks = {request_key(request_id): SubmissionMark() for _, request_id in checked}
        self._connection.mark_submitted(marks)
        callers = repeat(None) if call_ids is None else call_ids
        with self._connection.sending_together() as producer:
            for (request, _), call_id in zip(checked, callers, strict=False):
                CALL_ID.set(call_id)
                args = [plain_fields(request)]
                self._connection.send(TaskName.ENROLL, args, ignore_result=True, producer=producer)
        return [request_id for _, request_id in checked]

    def enroll(
        self,
        request: StudentEnrollmentRequest | Mapping[str, Any],
        *,
        timeout: float | None = None,
    ) -> StudentEnrollmentResponse:
        """Publish one request and wait for its result, at most `timeout` seconds.

        Raises InvalidRequest, and NoWorkerAnswered when the time is up: the request stays
        queued then, and its result can be asked for later by its id. LookupFailed means that it
        was decided, and that the result cannot be understood.
        """
        request, request_id = _with_id(request)
        self._connection.mark_submitted({request_key(request_id): SubmissionMark()})
        task_id = self._connection.send(TaskName.ENROLL, [plain_fields(request)])
        seconds = self.timeout if timeout is None else timeout
        hint = f"Request {request_id} stays queued; ask for its status later."
        answer = self._connection.wait(task_id, seconds, hint)
        result: StudentEnrollmentResponse = parse_answer(TaskName.ENROLL, answer)
        return result

    def submit_batch(
        self,
        kind: Kind,
        records: Iterable[Record],
        *,
        batch_id: str | None = None,
        resume: bool = True,
        columns: Iterable[str] | None = None,
        max_queued: int = MAX_QUEUED,
        on_progress: OnProgress = None,
        on_outage: OnOutage = None,
    ) -> SubmittedBatch:
        """Publish a stream of records in chunks, holding one chunk at a time.

        A record that breaks the contract is refused by the worker, with its line; it harms no
        other. `batch_id` names the batch: of what was submitted under the same name before, only
        the chunks that were never applied are published, and another content raises
        BatchConflict; without a worker that cannot be known, unless you say by `resume=False`
        that the name is new. `columns` is the header of the file. While `max_queued` chunks wait
        in the queue nothing is published; NoWorkerAnswered is raised when that lasts ten minutes,
        or when a named batch cannot be asked about. `on_progress` is called after each chunk.
        With `on_outage` a broker that is away is waited for, at most ten minutes: it is called
        with each error, and the chunk is published again, which its identity makes harmless.
        """
        publisher = BatchPublisher(
            self._connection, batch_id or uuid.uuid4().hex, kind, self.timeout
        )
        return publisher.publish(
            records,
            columns=columns,
            resume=resume and batch_id is not None,
            max_queued=max_queued,
            on_progress=on_progress,
            on_outage=on_outage,
        )

    # --- reading ------------------------------------------------------------------------------

    def status(self, request_id: str) -> RequestStatus:
        """Return where a request stands. Raises NoWorkerAnswered."""
        return self.statuses([request_id])[0]

    def statuses(self, request_ids: Sequence[str]) -> list[RequestStatus]:
        """Return where requests stand, in the same order. Raises NoWorkerAnswered."""
        return self._look_up(TaskName.STATUS, request_ids)

    def batch(self, batch_id: str, *, refusals: bool = True) -> BatchStatus:
        """Return where a batch stands, with its refusals by cause. Raises NoWorkerAnswered."""
        return self.batches([batch_id], refusals=refusals)[0]

    def batches(self, batch_ids: Sequence[str], *, refusals: bool = True) -> list[BatchStatus]:
        """Return where batches stand, in the same order. Raises NoWorkerAnswered."""
        return self._look_up(TaskName.BATCH, batch_ids, refusals=refusals)

    def refusals(self, batch_id: str) -> Iterator[RefusedRecord]:
        """Give every refusal of a batch with its record, by line. Raises NoWorkerAnswered."""
        after: tuple[int, int] | None = (0, 0)
        while after is not None:
            page: list[RefusedRecord] = self._connection.ask(
                TaskName.REFUSALS, [batch_id, *after], timeout=self.timeout
            )
            yield from page
            after = (page[-1].line, page[-1].id) if page else None

    def results(
        self,
        student: int | str,
        *,
        limit: int = 100,
        before: tuple[datetime, str] | None = None,
    ) -> list[StudentEnrollmentResponse]:
        """Return a student's newest results, at most `limit`. Raises NoWorkerAnswered.

        `before` is `completed_at` and `request_id` of a result: only older ones are given.
        """
        cursor = {} if before is None else {"before": [before[0].isoformat(), before[1]]}
        (found,) = self._look_up(TaskName.RESULTS, [student], limit=limit, **cursor)
        return list(found)

    def results_of(
        self, students: Sequence[int | str], *, limit: int = 100
    ) -> list[list[StudentEnrollmentResponse]]:
        """Return each student's newest results, in the same order. Raises NoWorkerAnswered."""
        return self._look_up(TaskName.RESULTS, students, limit=limit)

    def student(self, student: int | str) -> StudentResponse | None:
        """Return a student with courses; None if there is none. Raises NoWorkerAnswered."""
        return self.students([student])[0]

    def students(self, students: Sequence[int | str]) -> list[StudentResponse | None]:
        """Return students with their courses, in the same order. Raises NoWorkerAnswered."""
        return self._look_up(TaskName.STUDENT, students)

    def health(self) -> WorkerHealth:
        """Return what a worker says of itself and its database. Raises NoWorkerAnswered."""
        health: WorkerHealth = self._connection.ask(TaskName.HEALTH, [], timeout=self.timeout)
        return health

    def _look_up(self, task: TaskName, ids: Sequence[Any], **options: Any) -> list[Any]:
        """Ask about any number of ids, as many at a time as one lookup takes."""
        found: list[Any] = []
        for start in range(0, len(ids), MAX_LOOKUP):
            page = list(ids[start : start + MAX_LOOKUP])
            found += self._connection.ask(task, [page], options, timeout=self.timeout)
        return found


def _with_id(
    request: StudentEnrollmentRequest | Mapping[str, Any],
) -> tuple[StudentEnrollmentRequest, str]:
    """Return the request with an id of its own, so that a repeated delivery has one effect."""
    try:
        checked = StudentEnrollmentRequest.model_validate(request)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from error
    request_id = checked.request_id or uuid.uuid4().hex
    return checked.model_copy(update={"request_id": request_id}), request_id
