"""Publish a batch: chunks, back-pressure, resuming and outages."""

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, repeat
from typing import Any, TypeVar

from producer.contract.batches import AppliedChunks
from producer.contract.chunks import Tally, fingerprint_of
from producer.contract.file_forms import FileForm
from producer.contract.headers import BatchOrigin
from producer.contract.marks import SubmissionMark
from producer.contract.refusals import batch_ahead_of_clock
from producer.contract.routing import KIND_TASKS, TaskName
from producer.errors import (
    BatchConflict,
    BrokerUnavailable,
    EnrollmentError,
    InvalidRequest,
    NoWorkerAnswered,
)
from producer.fields import MAX_CHUNK_RECORDS, MAX_LOOKUP, Moment, NewBatchId, RequestId
from producer.publishing.chunking import ALONE, EncodedChunk, Membership, split_into_chunks
from producer.publishing.connection import BrokerConnection
from producer.publishing.dating import BATCH_MOMENT
from producer.publishing.records import Record, source_records
from producer.schemas import ContractModel, Kind

MAX_QUEUED = 64
"""How many chunks may wait in the queue: enough to keep workers busy, but small enough for a modest
Redis, at about 30 MB of enrollments or 80 MB of roster records."""
QUEUE_PATIENCE = 600.0
"""How long the queue may stay full, in seconds, before the submitter gives up."""

HALF_EMPTY_PATIENCE = 0.1
"""How long the submitter waits for a full queue to be half empty, in seconds; then, any room will
do."""

FIRST_PATIENCE = 30.0
"""How long the submitter waits for a broker to which it has not published yet, in seconds: enough
for a restart or a failover."""

SMALL_CHUNK = 16_384
"""The most characters of a batch that is published in one round trip."""

OUTAGE_PAUSE = 1.0
"""Seconds between two attempts while the broker is unavailable."""

_REMEDY = (
    "Submit the same records in the same order and with the same options, or choose another batch"
    " id."
)

OnOutage = Callable[[BrokerUnavailable], None] | None
T = TypeVar("T")


class SubmittedBatch(ContractModel):
    """The submitted part of a batch; chunks that were not `published` had been applied before."""

    batch_id: NewBatchId
    kind: Kind
    chunks: int = 0
    published: int = 0
    tally: Tally = Tally()
    fingerprints: tuple[int, ...] = ()
    """The fingerprints of the chunks, in order, once the whole batch is published; see
    `EnrollmentClient.count_applied`."""
    failed_before: datetime | None = None
    """When the newest dead letter of an earlier submission of the batch was stored, if any was."""
    moment: Moment | None = None
    """When the batch counts; None if a worker decides it, because the clock could not be read."""
    plan_id: RequestId | None = None
    """The plan that it is a member of; None if it is applied without one."""


OnProgress = Callable[[SubmittedBatch], None] | None


class BatchPublisher:
    """Publishes one batch, chunk by chunk; a lookup waits at most `timeout` seconds.

    A batch with a moment counts then, and any other at the time of submission.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        batch: SubmittedBatch,
        timeout: float,
        *,
        is_new: bool = False,
        membership: Membership = ALONE,
    ) -> None:
        self._connection = connection
        self._own_moment = batch.moment
        self._membership = membership
        plan_id = membership.plan and membership.plan.id
        self._batch = batch.model_copy(update={"plan_id": plan_id}) if plan_id else batch
        self._timeout = timeout
        self._is_new = is_new
        """Whether no other submission can have this batch id."""
        self._page = AppliedChunks(fingerprints=())
        """The answer of a worker about the chunks that `_is_applied` asked about last."""
        self._first_chunk: int | None = None
        self._moment: datetime | None = None
        self._began = 0.0
        """When the batch got its moment, by the monotonic clock."""
        self.has_published = False
        """Whether a chunk was published; the others may have been applied before."""

    def publish(
        self,
        records: Iterable[Record],
        *,
        columns: Iterable[str] | None,
        form: FileForm | None,
        origin: BatchOrigin,
        ordered: bool,
        resume: bool,
        max_queued: int,
        on_progress: OnProgress,
        on_outage: OnOutage,
    ) -> SubmittedBatch:
        """Publish the records; see `EnrollmentClient.submit_batch`."""
        if not self._began:
            self._wait_out(on_outage, self.begin)
        self._tell_moment(resume=resume)
        is_ordered = ordered or self._batch.kind is not Kind.ENROLLMENTS
        chunks = self._split(records, columns, form, ordered=ordered)
        room = self._wait_for_room(max_queued, on_outage)
        first = next(chunks)  # There is always one.
        if self._is_new and first.last and len(first.text) <= SMALL_CHUNK:
            if not self._has_room(max_queued):
                next(room)
            return self._publish_whole(first, origin, on_progress, on_outage, ordered=is_ordered)
        chunks = chain([first], chunks)
        del first  # Only one chunk is in memory at a time.
        batch = self._batch
        fingerprints = array("q")
        for chunk in chunks:
            fingerprints.append(fingerprint := fingerprint_of(chunk.text))
            applied = resume and self._is_applied(chunk.number, fingerprint)
            if chunk.number == 0:
                batch = self._begin_chunks(fingerprint, on_outage, resume=resume)
            batch = _with_chunk(batch, chunk, published=not applied)
            if not applied:
                next(room)
            publish = partial(self._publish_chunk, batch, chunk, origin, applied=applied)
            self._wait_out(on_outage, publish)
            if on_progress is not None:
                on_progress(batch)
            if self.has_published and is_ordered:
                self._let_pass(chunk)
        return self._published(batch, fingerprints)

    def _begin_chunks(
        self, fingerprint: int, on_outage: OnOutage, *, resume: bool
    ) -> SubmittedBatch:
        """Claim the batch id, and return the batch before its first chunk is published."""
        self._wait_out(on_outage, partial(self._claim, fingerprint))
        if not resume:
            return self._batch
        return self._batch.model_copy(update={"failed_before": self._failed_at()})

    def _split(
        self,
        records: Iterable[Record],
        columns: Iterable[str] | None,
        form: FileForm | None,
        *,
        ordered: bool,
    ) -> Iterator[EncodedChunk]:
        kind = self._batch.kind
        says_order = ordered and kind is Kind.ENROLLMENTS  # A roster is always in order.
        entries, options = source_records(records), (columns, kind, form)
        more: dict[str, Any] = {"ordered": says_order, "membership": self._membership}
        return split_into_chunks(self._batch.batch_id, entries, *options, **more)

    def _publish_whole(
        self,
        chunk: EncodedChunk,
        origin: BatchOrigin,
        on_progress: OnProgress,
        on_outage: OnOutage,
        *,
        ordered: bool,
    ) -> SubmittedBatch:
        """Publish a new batch of one small chunk in one round trip, and return it."""
        self._first_chunk = fingerprint_of(chunk.text)
        batch = _with_chunk(self._batch, chunk, published=True)
        mark = self._mark(batch, complete=True)
        headers = origin._replace(moment=self._moment).headers()
        publish = partial(self._connection.publish_whole, batch.batch_id, mark, chunk.text, headers)
        self._wait_out(on_outage, publish)
        self.has_published = True
        if on_progress is not None:
            on_progress(batch)
        if ordered:
            self._let_pass(chunk)
        return self._published(batch, (self._first_chunk,))

    def _published(self, batch: SubmittedBatch, fingerprints: Iterable[int]) -> SubmittedBatch:
        """Return the whole batch, once what is submitted from now on counts later."""
        if self._own_moment is None:
            self._connection.let_pass(self._moment)
        found = {"fingerprints": tuple(fingerprints), "moment": self._moment}
        return batch.model_copy(update=found)

    def begin(self) -> None:
        """Give the batch its moment; if it was submitted before, `_claim` finds that one.

        Raises InvalidRequest if its submitter has chosen a moment that lies ahead of the clock.
        """
        now = self._connection.new_moment()
        problem = None if now is None else batch_ahead_of_clock(self._own_moment, now)
        if problem is not None:
            raise InvalidRequest((problem,))
        self._moment = self._own_moment or now
        self._began = time.monotonic()

    def _tell_moment(self, *, resume: bool) -> None:
        """Let the reader of the records know the moment: some of them depend on the day.

        A batch that is resumed counts from its first submission, so it makes the same chunks.
        """
        earlier = None
        if resume:
            with suppress(EnrollmentError):  # An outage is reported when the batch is published.
                earlier = self._connection.moment_of_batch(self._batch.batch_id, None)
        BATCH_MOMENT.set(earlier or self._moment)

    def _let_pass(self, chunk: EncodedChunk) -> None:
        """Wait until the clock has passed the records of a chunk that count one after another.

        What is submitted from now on must count later.
        """
        taken = (chunk.number * MAX_CHUNK_RECORDS + chunk.tally.requests) * 1e-6
        time.sleep(max(0.0, self._began + taken - time.monotonic()))
        if self._moment is not None and self._own_moment is None:
            self._connection.let_pass(self._moment + timedelta(seconds=taken))

    def _mark(self, batch: SubmittedBatch, *, complete: bool = False) -> SubmissionMark:
        return SubmissionMark(
            kind=batch.kind,
            tally=batch.tally,
            chunks=batch.chunks,
            complete=complete,
            first_chunk=self._first_chunk,
            moment=self._moment,
        )

    def _publish_chunk(
        self, batch: SubmittedBatch, chunk: EncodedChunk, origin: BatchOrigin, *, applied: bool
    ) -> None:
        """Write the mark of the batch up to this chunk, and publish it unless it was applied."""
        self._connection.mark_batch(batch.batch_id, self._mark(batch, complete=chunk.last))
        if not applied:
            headers = origin._replace(moment=self._moment).headers()
            task = KIND_TASKS[batch.kind]
            self._connection.send(task, [chunk.text], ignore_result=True, headers=headers)
            self.has_published = True

    def _is_applied(self, number: int, fingerprint: int) -> bool:
        """Return whether a chunk was applied before; ask for the chunks in order.

        Raises BatchConflict, NoWorkerAnswered.
        """
        index = number % MAX_LOOKUP
        if index == 0:
            self._page = self._find_applied(number)
        check_kind(self._page, self._batch)
        applied = self._page.fingerprints[index]
        if applied not in (None, fingerprint):
            raise BatchConflict(
                f"Batch {self._batch.batch_id} was already submitted with different records: chunk"
                f" {number} is not the same as the one that arrived first. {_REMEDY}"
            )
        return applied is not None

    def _claim(self, first_chunk: int) -> None:
        """Claim the batch id for the submission with this first chunk, before it is published.

        The claim is the first mark. It only refuses a mistake early: the ledger decides what is
        applied (`EnrollmentClient.count_applied`). Raises BatchConflict, and NoWorkerAnswered if
        the id is claimed and no worker says by which submission.
        """
        claim = self._mark(self._batch).model_copy(update={"first_chunk": first_chunk})
        claimed_by = self._page.first_chunk
        is_first = False
        if claimed_by is None:
            is_first = self._connection.claim_batch(self._batch.batch_id, claim)
            claimed_by = None if is_first else self._find_applied(0).first_chunk
        if claimed_by not in (None, first_chunk):
            raise BatchConflict(
                f"Batch {self._batch.batch_id} was already submitted with different records, which"
                f" may still wait in the queue. Nothing was published. {_REMEDY}"
            )
        self._first_chunk = first_chunk
        if not is_first:
            earlier = self._connection.moment_of_batch(self._batch.batch_id, first_chunk)
            self._moment = earlier or self._moment

    def _failed_at(self) -> datetime | None:
        """Return when a chunk of an earlier submission became a dead letter; None if unknown."""
        with suppress(EnrollmentError):  # An outage is reported when the batch is published.
            (status,) = self._connection.ask(
                TaskName.BATCH, [[self._batch.batch_id]], {"refusals": False}, timeout=self._timeout
            )
            failed_at: datetime | None = status.failed_at
            return failed_at
        return None

    def _wait_out(self, on_outage: OnOutage, work: Callable[[], T]) -> T:
        """Do the work; with `on_outage`, retry it while the broker is unavailable.

        Until a chunk was published, the URL itself may be wrong, so the wait is short, and there is
        none for an error that will not pass.
        """
        started = time.monotonic()
        while True:
            try:
                return work()
            except BrokerUnavailable as error:
                may_pass = error.may_pass or self.has_published
                patience = QUEUE_PATIENCE if self.has_published else FIRST_PATIENCE
                if on_outage is None or not may_pass or time.monotonic() - started > patience:
                    raise
                on_outage(error)
                time.sleep(OUTAGE_PAUSE)

    def _find_applied(self, start: int) -> AppliedChunks:
        return find_applied(
            self._connection,
            self._batch.batch_id,
            range(start, start + MAX_LOOKUP),
            timeout=self._timeout,
            hint="Only a worker knows what was submitted under this batch id before; check that"
            " one is running and serves the queue lookups, then submit again.",
        )

    def _has_room(self, max_queued: int) -> bool:
        """Return whether the queue has room, as far as is known without a count."""
        queued = self._connection.known_queued_chunks()
        return queued is not None and queued < max_queued

    def _wait_for_room(self, max_queued: int, on_outage: OnOutage) -> Iterator[None]:
        """Yield once for each chunk that may be published, after waiting for room in the queue.

        A full queue may become half empty first: to publish one chunk whenever one was taken would
        mean a count for each.
        """
        while True:
            started = time.monotonic()
            pause = 0.01
            count, full = self._connection.count_queued_chunks, max_queued
            while (queued := self._wait_out(on_outage, count)) >= full:
                waited = time.monotonic() - started
                full = max_queued // 2 + 1 if waited < HALF_EMPTY_PATIENCE else max_queued
                if waited > QUEUE_PATIENCE:
                    raise NoWorkerAnswered(
                        f"The queue has been full for {QUEUE_PATIENCE:g} s, with {queued} chunks"
                        " waiting. Start a worker, then submit again under the same batch id"
                        " to continue."
                    )
                time.sleep(pause)
                pause = min(pause * 1.5, 0.2)
            # Half of the room is left to other submitters, who may be counting at the same time.
            yield from repeat(None, max(1, (max_queued - queued) // 2))


def find_applied(
    connection: BrokerConnection, batch_id: str, numbers: Sequence[int], **options: Any
) -> AppliedChunks:
    """Ask a worker which chunks of a batch were applied; `options` are those of `ask`."""
    applied: AppliedChunks = connection.ask(TaskName.CHUNKS, [batch_id, list(numbers)], **options)
    return applied


def check_kind(applied: AppliedChunks, batch: SubmittedBatch) -> None:
    """Raise BatchConflict if the applied part of a batch holds records of another kind."""
    if applied.kind not in (None, batch.kind):
        raise BatchConflict(
            f"Batch {batch.batch_id} already holds {applied.kind}, not {batch.kind}. Choose another"
            " batch id."
        )


def _with_chunk(batch: SubmittedBatch, chunk: EncodedChunk, *, published: bool) -> SubmittedBatch:
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
