"""Define the client: it publishes requests and batches, and looks up their status and results.

The client connects only to the broker (and to the Redis of result keys). It never reads the
database: every read is a lookup, which a worker answers.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import repeat
from typing import Any, Self

from producer.contract.batches import AppliedChunks, BatchStatus, RefusedRecord
from producer.contract.chunks import FileForm
from producer.contract.explain import parse_record
from producer.contract.headers import BatchOrigin
from producer.contract.lookups import WorkerHealth
from producer.contract.routing import TaskName
from producer.errors import (
    BatchConflict,
    InvalidRequest,
    LookupFailed,
    NoWorkerAnswered,
    SubmissionLost,
)
from producer.publishing.arguments import IDS_OF, check_arguments
from producer.publishing.batches import (
    MAX_QUEUED,
    BatchPublisher,
    OnOutage,
    OnProgress,
    Record,
    SubmittedBatch,
    check_kind,
    find_applied,
    plain_fields,
)
from producer.publishing.connection import (
    CALL_ID,
    BrokerConnection,
    check_timeout,
    parse_result,
)
from producer.schemas import (
    MAX_LOOKUP,
    MAX_LOOKUP_RESULTS,
    Code,
    ContractModel,
    EnrollmentProblem,
    Kind,
    RequestState,
    RequestStatus,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
    StudentResponse,
)

_LOST_WITH_MARK = (
    "Redis lost its data, and with it the request if it was still queued. Submit it again under"
    " the same id."
)


class EnrollmentClient:
    """A client that submits requests and batches over the queue; threads may share one.

    For a Redis with sentinels, the broker is `sentinel://HOST:PORT,HOST:PORT/0?master_name=NAME`.
    With a `rediss://` or `sentinels://` URL, the server's certificate is checked against the
    authorities in `ssl_ca_certs=FILE` from the URL's query, or by default against the system's.

    `timeout` is the longest wait for a worker's answer, in seconds; `math.inf` is allowed.
    `key_prefix` is the prefix of the deployment's keys in Redis, if it has one. The constructor
    raises ValueError for an invalid URL, prefix or timeout.

    If the broker cannot be used, every method raises BrokerUnavailable within ten seconds. If an
    answer cannot be understood, the method raises LookupFailed. An id or a limit that breaks the
    contract raises InvalidRequest before anything is sent.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        result_backend_url: str | None = None,
        timeout: float = 10.0,
        key_prefix: str = "",
    ) -> None:
        check_timeout(timeout)
        self.timeout = timeout
        self._connection = BrokerConnection(broker_url, result_backend_url, key_prefix)

    @property
    def shown_url(self) -> str:
        """Return the broker's URL without its password, for messages."""
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
        """Publish one request and return its id at once; call `status` for the result later.

        The id is the request's own, or a new one if it has none. Raises InvalidRequest.
        """
        request, request_id = _with_id(request)
        self._connection.mark_requests([request_id])
        self._connection.send(TaskName.ENROLL, [plain_fields(request)], ignore_result=True)
        return request_id

    def submit_all(
        self,
        requests: Sequence[StudentEnrollmentRequest | Mapping[str, Any]],
        call_ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Publish several requests together, each as its own message, and return their ids.

        A batch is cheaper for many requests. `call_ids`, if given, holds for each request the
        text that its task id begins with. Raises InvalidRequest before anything is published.
        After BrokerUnavailable, some requests may have been published.
        """
        _refuse_single("requests", requests)
        checked = [_with_id(request) for request in requests]
        self._connection.mark_requests([request_id for _, request_id in checked])
        prefixes = repeat(None) if call_ids is None else call_ids
        with self._connection.sending_together() as producer:
            for (request, _), call_id in zip(checked, prefixes, strict=False):
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

        Raises InvalidRequest. Raises NoWorkerAnswered when the time is up; the request then stays
        queued, and `status` returns its result later. Raises SubmissionLost as soon as a worker
        reports that the request is lost. Raises LookupFailed if the request was processed but its
        result cannot be understood.
        """
        seconds = self.timeout if timeout is None else timeout
        check_timeout(seconds)
        request, request_id = _with_id(request)
        self._connection.mark_requests([request_id])
        task_id = self._connection.send(TaskName.ENROLL, [plain_fields(request)])
        hint = f"Request {request_id} stays queued; look up its status later."
        data = self._connection.wait(task_id, seconds, hint, partial(self._check, request_id))
        result: StudentEnrollmentResponse = parse_result(TaskName.ENROLL, data)
        return result

    def _check(self, request_id: str, timeout: float) -> None:
        """Raise SubmissionLost if a worker reports within the timeout that a request is lost."""
        with suppress(NoWorkerAnswered, LookupFailed):
            arguments = [[request_id]]
            seconds = min(timeout, self.timeout)
            (status,) = self._connection.ask(TaskName.STATUS, arguments, timeout=seconds)
            # A mark lasts for days, so a request without one was lost together with its mark.
            if status.state is RequestState.UNKNOWN:
                raise SubmissionLost(f"Request {request_id}: {status.advice or _LOST_WITH_MARK}")

    def submit_batch(
        self,
        kind: Kind,
        records: Iterable[Record],
        *,
        batch_id: str | None = None,
        resume: bool = True,
        columns: Iterable[str] | None = None,
        form: FileForm | None = None,
        file_name: str | None = None,
        submitter: str | None = None,
        max_queued: int = MAX_QUEUED,
        on_progress: OnProgress = None,
        on_outage: OnOutage = None,
    ) -> SubmittedBatch:
        """Publish a stream of records in chunks, with one chunk in memory at a time.

        The worker refuses a record that breaks the contract and reports its line. Raises
        InvalidRequest for an invalid `kind` or `batch_id`, and for a single record as `records`.

        `batch_id` names the batch; without it, the batch gets a new id. If the batch was submitted
        before, only the chunks that were never applied are published. If the records differ,
        BatchConflict is raised at the first chunk that differs, usually before anything is
        published, or else by `count_applied`. A worker is asked what was applied; if none answers,
        NoWorkerAnswered is raised. `resume=False` skips this; use that only for a new `batch_id`.

        `columns` is the header of the submitted CSV file, and `form` how it is written. Operators
        see the `file_name` and the `submitter` of a batch, which are not checked. While
        `max_queued` chunks wait in the queue, publishing pauses; NoWorkerAnswered is raised if the
        pause lasts ten minutes. `on_progress` is called after each chunk.

        With `on_outage`, which is called with each error, publishing waits up to ten minutes for an
        unavailable broker (30 seconds before the first chunk), then publishes the chunk again.
        Without it, BrokerUnavailable is raised.
        """
        own_id = uuid.uuid4().hex if batch_id is None else batch_id
        batch, problems = parse_record(SubmittedBatch, {"batch_id": own_id, "kind": kind})
        if batch is None:
            raise InvalidRequest(problems)
        _refuse_single("records", records)
        return BatchPublisher(self._connection, batch, self.timeout).publish(
            records,
            columns=columns,
            form=form,
            origin=BatchOrigin(file_name, submitter),
            resume=resume and batch_id is not None,
            max_queued=max_queued,
            on_progress=on_progress,
            on_outage=on_outage,
        )

    def count_applied(self, batch: SubmittedBatch) -> int:
        """Return how many chunks of a submitted batch were applied. Raises NoWorkerAnswered.

        The batch is complete when this is `batch.chunks`. Raises BatchConflict if a different
        submission under the same batch id was applied, even in part, in place of this one: the
        state of the batch may then be `done` although records of this submission are not stored.
        """
        count = refused = 0
        for start in range(0, len(batch.fingerprints), MAX_LOOKUP):
            own = batch.fingerprints[start : start + MAX_LOOKUP]
            numbers = range(start, start + len(own))
            applied = find_applied(self._connection, batch.batch_id, numbers, timeout=self.timeout)
            check_kind(applied, batch)
            pairs = list(zip(own, applied.fingerprints, strict=True))
            count += sum(mine == stored for mine, stored in pairs)
            refused += sum(stored not in (None, mine) for mine, stored in pairs)
        if refused:
            raise BatchConflict(
                f"A different submission used the batch id {batch.batch_id} at the same time:"
                f" {refused} of the {batch.chunks} chunks of this one were refused, and their"
                " records are not stored. Submit these records again under a new batch id; rows"
                " that are already stored are not added twice."
            )
        return count

    # --- reading ------------------------------------------------------------------------------

    def status(self, request_id: str) -> RequestStatus:
        """Return the status of a request. Raises NoWorkerAnswered."""
        return self.statuses([request_id])[0]

    def statuses(self, request_ids: Sequence[str]) -> list[RequestStatus]:
        """Return the status of each request, in the same order. Raises NoWorkerAnswered."""
        return self._look_up(TaskName.STATUS, request_ids)

    def batch(self, batch_id: str, *, refusals: bool = True) -> BatchStatus:
        """Return the status of a batch, with its refusals by cause. Raises NoWorkerAnswered."""
        return self.batches([batch_id], refusals=refusals)[0]

    def batches(self, batch_ids: Sequence[str], *, refusals: bool = True) -> list[BatchStatus]:
        """Return the status of each batch, in the same order. Raises NoWorkerAnswered."""
        return self._look_up(TaskName.BATCH, batch_ids, options={"refusals": refusals})

    def refusals(self, batch_id: str) -> Iterator[RefusedRecord]:
        """Yield every refusal of a batch with its record, by line. Raises NoWorkerAnswered."""
        check_arguments(batch_id=batch_id)
        after: tuple[int, int] | None = (0, 0)
        while after is not None:
            page: list[RefusedRecord] = self._connection.ask(
                TaskName.REFUSALS, [batch_id, *after], timeout=self.timeout
            )
            yield from page
            after = (page[-1].line, page[-1].id) if page else None

    def applied_chunks(self, batch_id: str, numbers: Sequence[int]) -> AppliedChunks:
        """Return which chunks of a batch are applied, with their fingerprints.

        Raises NoWorkerAnswered.
        """
        check_arguments(batch_id=batch_id)
        chunks: AppliedChunks = self._connection.ask(
            TaskName.CHUNKS, [batch_id, list(numbers)], timeout=self.timeout
        )
        return chunks

    def results(
        self,
        student: int | str,
        *,
        limit: int = 100,
        before: tuple[datetime, str] | None = None,
    ) -> list[StudentEnrollmentResponse]:
        """Return a student's newest results, at most `limit`. Raises NoWorkerAnswered.

        `before` is the `completed_at` and `request_id` of a result; only older results are
        returned.
        """
        check_arguments(limit=limit, before=before)
        cursor = {} if before is None else {"before": [before[0].isoformat(), before[1]]}
        (newest_results,) = self._look_up(
            TaskName.RESULTS, [student], options={"limit": limit, **cursor}
        )
        return list(newest_results)

    def results_of(
        self, students: Sequence[int | str], *, limit: int = 100
    ) -> list[list[StudentEnrollmentResponse]]:
        """Return each student's newest results, in the same order. Raises NoWorkerAnswered."""
        check_arguments(limit=limit)
        page = min(MAX_LOOKUP, MAX_LOOKUP_RESULTS // limit)
        return self._look_up(TaskName.RESULTS, students, page, options={"limit": limit})

    def student(self, student: int | str) -> StudentResponse | None:
        """Return a student with courses, or None if there is none. Raises NoWorkerAnswered."""
        return self.students([student])[0]

    def students(self, students: Sequence[int | str]) -> list[StudentResponse | None]:
        """Return students with their courses, in the same order. Raises NoWorkerAnswered."""
        return self._look_up(TaskName.STUDENT, students)

    def health(self) -> WorkerHealth:
        """Return a worker's report on itself and its database. Raises NoWorkerAnswered."""
        health: WorkerHealth = self._connection.ask(TaskName.HEALTH, [], timeout=self.timeout)
        return health

    def _look_up(
        self,
        task: TaskName,
        ids: Sequence[Any],
        page: int = MAX_LOOKUP,
        options: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Look up any number of ids, at most `page` at a time. Raises InvalidRequest."""
        _refuse_single("ids", ids)
        check_arguments(**{IDS_OF[task]: ids})
        results: list[Any] = []
        for start in range(0, len(ids), page):
            some_ids = list(ids[start : start + page])
            results += self._connection.ask(task, [some_ids], options, timeout=self.timeout)
        return results


def _refuse_single(name: str, values: object) -> None:
    """Raise InvalidRequest if one record or id was passed in place of several.

    Its characters or the names of its fields would be taken for records or ids.
    """
    if isinstance(values, str | bytes | Mapping | ContractModel):
        message = f"{name}: must be an iterable, such as a list; put a single one into a list"
        problem = EnrollmentProblem(code=Code.INVALID_REQUEST, message=message, field=name)
        raise InvalidRequest((problem,))


def _with_id(
    request: StudentEnrollmentRequest | Mapping[str, Any],
) -> tuple[StudentEnrollmentRequest, str]:
    """Return the request and its id, a new one if it has none. Raises InvalidRequest.

    With an id of its own, a request that is delivered twice still takes effect only once.
    """
    # A model may hold what its own check would refuse, if it was copied with changes.
    fields = request.model_dump() if isinstance(request, StudentEnrollmentRequest) else request
    checked, problems = parse_record(StudentEnrollmentRequest, fields)
    if checked is None:
        raise InvalidRequest(problems)
    request_id = checked.request_id or uuid.uuid4().hex
    return checked.model_copy(update={"request_id": request_id}), request_id
