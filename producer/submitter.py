"""Define the half of the client that publishes: requests, batches and files."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from producer.broker_search import find_broker
from producer.call_log import verb
from producer.contract.file_form import FileForm
from producer.contract.headers import BatchOrigin, moment_headers
from producer.contract.routing import TaskName
from producer.errors import (
    BrokerUnavailable,
    ClientClosed,
    InvalidRequest,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.files.describing import Choices
from producer.files.formats.comparison import Comparison
from producer.files.formats.registry import choice_of
from producer.files.submitted import OpenedFile, SubmittedFile, opened_file
from producer.publishing.batches import (
    MAX_QUEUED,
    BatchPublisher,
    OnOutage,
    OnProgress,
    SubmittedBatch,
)
from producer.publishing.connection import (
    CALL_ID,
    BrokerConnection,
    check_timeout,
)
from producer.publishing.lookups import Lookups
from producer.publishing.records import Record, plain_fields
from producer.publishing.requests import (
    IdentifiedRequest,
    check_not_lost,
    new_batch,
    refuse_single,
    with_id,
)
from producer.publishing.results import parse_result
from producer.publishing.rosters import PublishedRosters
from producer.schemas import (
    Code,
    EnrollmentProblem,
    Kind,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
)

FIND: Final = "find"
"""In place of the broker's URL: find the broker as the commands do."""


def connect(
    broker_url: str, result_backend_url: str | None, key_prefix: str | None
) -> BrokerConnection:
    """Return a connection to a broker. Raises ValueError, and BrokerNotFound instead of `FIND`."""
    if broker_url == FIND:
        found = find_broker()
        broker_url = found.url
        result_backend_url = result_backend_url or found.result_backend_url
        key_prefix = found.key_prefix if key_prefix is None else key_prefix
    prefix = "" if key_prefix is None else key_prefix
    return BrokerConnection(broker_url, result_backend_url, prefix)


def represent(client: type, connection: BrokerConnection, timeout: float, *, closed: bool) -> str:
    """Return the representation of a client, without the broker's password."""
    prefix = connection.key_prefix
    parts = [client.__name__, connection.shown_url]
    parts += [f"key_prefix={prefix!r}"] if prefix else []
    parts += [f"timeout={timeout:g}"]
    parts += ["closed"] if closed else []
    return f"<{' '.join(parts)}>"


def prefixes_of(call_ids: Sequence[str | None] | None, requests: int) -> Sequence[str | None]:
    """Return the text that each task id begins with.

    Raises InvalidRequest if there is not one for each request: the rest would not be published.
    """
    if call_ids is None:
        return [None] * requests
    refuse_single("call_ids", call_ids)
    if len(call_ids) != requests:
        message = f"call_ids: must have an entry for each of the {requests} requests"
        problem = EnrollmentProblem(code=Code.INVALID_REQUEST, message=message, field="call_ids")
        raise InvalidRequest((problem,))
    return call_ids


class EnrollmentSubmitter:
    """A connection to the broker, and the verbs that publish; `EnrollmentClient` adds the reads."""

    def __init__(
        self,
        broker_url: str = FIND,
        *,
        result_backend_url: str | None = None,
        timeout: float = 10.0,
        key_prefix: str | None = None,
    ) -> None:
        check_timeout(timeout)
        self._use(connect(broker_url, result_backend_url, key_prefix), timeout)

    def _use(self, connection: BrokerConnection, timeout: float) -> None:
        self.timeout = timeout
        self._connection = connection
        self._lookups = Lookups(connection)
        self._rosters = PublishedRosters()

    @property
    def shown_url(self) -> str:
        """Return the broker's URL without its password, for messages."""
        return self._connection.shown_url

    @property
    def closed(self) -> bool:
        """Return whether the client was closed; then every method raises ClientClosed."""
        return self._connection.closed

    def __repr__(self) -> str:
        return represent(type(self), self._connection, self.timeout, closed=self.closed)

    def __enter__(self) -> Self:
        if self.closed:
            raise ClientClosed
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection. The client cannot be used again; another call does nothing."""
        self._connection.close()

    @verb
    def submit(self, request: StudentEnrollmentRequest | Mapping[str, Any]) -> str:
        """Publish one request and return its id at once; call `status` for the result later.

        The id is the request's own, or a new one if it has none. Raises InvalidRequest.
        """
        identified = with_id(request)
        headers = self._mark([identified])[identified.id]
        args = [plain_fields(identified.request)]
        self._connection.send(TaskName.ENROLL, args, ignore_result=True, headers=headers)
        return identified.id

    def _mark(self, requests: Sequence[IdentifiedRequest]) -> dict[str, dict[str, str]]:
        """Mark requests as `queued`; return the headers of their messages, by id."""
        known_ids = [identified.id for identified in requests if identified.has_own_id]
        ids = [identified.id for identified in requests]
        moments = self._connection.mark_requests(ids, known_ids)
        return {request_id: moment_headers(moments.get(request_id)) for request_id in ids}

    @verb
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
        refuse_single("requests", requests)
        checked = [with_id(request) for request in requests]
        prefixes = prefixes_of(call_ids, len(checked))
        headers = self._mark(checked)
        with self._connection.sending_together() as producer:
            for identified, call_id in zip(checked, prefixes, strict=True):
                CALL_ID.set(call_id)
                self._connection.send(
                    TaskName.ENROLL,
                    [plain_fields(identified.request)],
                    ignore_result=True,
                    headers=headers[identified.id],
                    producer=producer,
                )
        return [identified.id for identified in checked]

    @verb
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
        identified = with_id(request)
        headers = self._mark([identified])[identified.id]
        args = [plain_fields(identified.request)]
        task_id = self._connection.send(TaskName.ENROLL, args, headers=headers)
        hint = f"Request {identified.id} stays queued; look up its status later."
        data = self._connection.wait(task_id, seconds, hint, partial(self._check, identified.id))
        result: StudentEnrollmentResponse = parse_result(TaskName.ENROLL, data)
        return result

    def _check(self, request_id: str, timeout: float) -> None:
        """Raise SubmissionLost if a worker reports within the timeout that a request is lost."""
        # A submitter may lack the right to look up; the wait itself notices a broken connection.
        with suppress(NoWorkerAnswered, LookupFailed, BrokerUnavailable):
            arguments = [[request_id]]
            seconds = min(timeout, self.timeout)
            (status,) = self._connection.ask(TaskName.STATUS, arguments, timeout=seconds)
            check_not_lost(status)

    @verb
    def submit_batch(
        self,
        kind: Kind | str,
        records: Iterable[Record],
        *,
        batch_id: str | None = None,
        resume: bool = True,
        ordered: bool = False,
        columns: Iterable[str] | None = None,
        form: FileForm | None = None,
        file_name: str | None = None,
        submitter: str | None = None,
        moment: datetime | None = None,
        max_queued: int = MAX_QUEUED,
        wait_for_rosters: bool = True,
        on_progress: OnProgress = None,
        on_outage: OnOutage = None,
    ) -> SubmittedBatch:
        """Publish a stream of records in chunks, with one chunk in memory at a time.

        The worker refuses a record that breaks the contract and reports its line. Raises
        InvalidRequest for an invalid `kind` or `batch_id`, and for a single record. If `batch_id`
        was submitted before, only the chunks that were never applied are published. If the records
        differ, BatchConflict is raised at the first chunk that differs, usually before anything is
        published, or else by `count_applied`; NoWorkerAnswered, if no worker says what was applied.
        `resume=False` skips this; use it only for a new `batch_id`.

        With `ordered`, a later request wins against an earlier one. `columns` and `form` are the
        header of a CSV file and how it is written; `file_name` and `submitter` are not checked.
        While `max_queued` chunks wait in the queue, publishing pauses, for ten minutes at most.
        Enrollments first wait for the rosters that this client published for the same submitter,
        unless `wait_for_rosters` is false. The records count at `moment`, by default when they are
        submitted. `on_progress` is called after each chunk. With `on_outage`, an outage is waited
        out for ten minutes (before the first chunk, 30 seconds).
        """
        refuse_single("records", records)
        about: dict[str, Any] = {"columns": columns, "form": form}
        about |= {"origin": BatchOrigin(file_name, submitter)}
        about |= {"on_progress": on_progress, "on_outage": on_outage, "max_queued": max_queued}
        batch, is_known = new_batch(kind, batch_id, moment), resume and batch_id is not None
        is_new = batch_id is None
        with self._in_order(batch, submitter, wait=wait_for_rosters, is_new=is_new) as publish:
            return publish(records, ordered=ordered, resume=is_known, **about)

    @contextmanager
    def _in_order(
        self, batch: SubmittedBatch, submitter: str | None, *, wait: bool, is_new: bool
    ) -> Iterator[Callable[..., SubmittedBatch]]:
        """Yield `BatchPublisher.publish`, of enrollments once the rosters before are applied.

        `is_new` is set if the id of the batch was made for it.
        """
        is_roster = batch.kind is not Kind.ENROLLMENTS
        publisher = BatchPublisher(self._connection, batch, self.timeout, is_new=is_new)
        if wait and not is_roster and self._rosters.are_there(submitter):
            with suppress(BrokerUnavailable):  # Reported, or waited out, when it is published.
                publisher.begin()  # It counts from here, and not from the end of the wait.
            look_up = partial(self._lookups.batches, timeout=self.timeout, refusals=False)
            self._rosters.wait(submitter, look_up)
        try:
            yield publisher.publish
        finally:
            if is_roster and publisher.has_published:
                self._rosters.add(submitter, batch.batch_id)

    @verb
    def submit_file(
        self,
        path: str | os.PathLike[str],
        *,
        kind: Kind | str | None = None,
        maps: Mapping[str, str] | None = None,
        encoding: str | None = None,
        drop: bool = False,
        format_name: str | None = None,
        sheet: str | None = None,
        sections_are_one: bool = False,
        moments_from_file: bool = False,
        batch_id: str | None = None,
        resume: bool = True,
        file_name: str | None = None,
        submitter: str | None = None,
        max_queued: int = MAX_QUEUED,
        wait_for_rosters: bool = True,
        on_progress: OnProgress = None,
        on_outage: OnOutage = None,
    ) -> SubmittedFile:
        """Publish a file as a batch, or a package as one for each file, as `enroll submit` does.

        The arguments up to `moments_from_file` are its options (`maps` is `--map`, `format_name` is
        `--format`); the others are those of `submit_batch`. Returns the batch with the lines that
        could not be read, or the last one of a package, whose `batches` are all of them. A client
        that can look up also counts what a complete export does not name (`not_in_file`). Raises
        UnreadableFile, usually before anything is published, and what `submit_batch` raises.
        """
        choice = choice_of(format_name)._replace(
            sections_are_one=sections_are_one, moments_from_file=moments_from_file
        )
        own_kind = None if kind is None else new_batch(kind, batch_id).kind
        choices = Choices(own_kind, dict(maps or {}), encoding, drop, choice, sheet)
        rules: dict[str, Any] = {"on_progress": on_progress, "on_outage": on_outage}
        rules |= {"resume": resume and batch_id is not None, "max_queued": max_queued}
        labels = BatchOrigin(file_name, submitter)
        with opened_file(Path(path), choices, batch_id) as opened:
            return self._publish(opened, labels, wait=wait_for_rosters, **rules)

    def _publish(
        self, opened: OpenedFile, labels: BatchOrigin, *, wait: bool, **options: Any
    ) -> SubmittedFile:
        """Publish what a file holds; `options` are those of `BatchPublisher.publish`."""
        submitted = []
        for watched in opened.sources:
            source = watched.source
            batch = new_batch(source.kind, watched.batch_id, source.moment)
            is_new = watched.batch_id is None
            with self._in_order(batch, labels.submitter, wait=wait, is_new=is_new) as publish:
                published = publish(
                    watched.records(),
                    columns=source.columns,
                    form=source.form,
                    origin=labels._replace(file_name=watched.named(labels.file_name)),
                    ordered=source.ordered,
                    **options,
                )
            source.counts_at(published.moment)
            submitted.append(watched.of(published))
        return opened.together(submitted, self._compared(opened))

    def _compared(self, _opened: OpenedFile) -> Comparison | None:
        """Return None: a submitter does not look up who is enrolled (`EnrollmentClient` does)."""
        return None
