"""Handle deliveries of chunks: apply each or make it a dead letter, and report which."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from producer.contract.chunks import Chunk
from producer.contract.explain import explain
from producer.contract.headers import UNKNOWN_ORIGIN, BatchOrigin
from producer.contract.routing import KIND_TASKS
from producer.schemas import Kind
from worker.batches.apply import Applied, ChunkOutcome, apply_read_chunk, read_chunk, text_of
from worker.batches.together import ReceivedChunk, apply_together
from worker.data_sets.repository import TooManyDataSets
from worker.database.engine import Database
from worker.database.errors import sentence_of
from worker.dead_letters.letters import keep
from worker.models import LetterReason
from worker.moments import Clock, TrustingClock, moment_of_message, own_clock, read_clock
from worker.monitoring.events import Events
from worker.plans.applying import StoredChunk, apply_unchanged
from worker.plans.staging import Delivered, StagingConflict, stage_chunk
from worker.plans.times import Expiry
from worker.recovery.isolate import call_letter, isolate_chunk


class ChunkDelivery:
    """One delivery of a message that should hold a chunk. The methods raise DBAPIError.

    A chunk that carries a plan is stored for it, unless it comes `from_plan`: then it is applied.
    `refused` is the reason why the chunk became a dead letter, or None if it did not. `applied` is
    what was done, if the chunk was applied.
    """

    def __init__(
        self,
        database: Database,
        events: Events,
        kind: Kind,
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        origin: BatchOrigin = UNKNOWN_ORIGIN,
        *,
        expiry: Expiry = Expiry(),  # noqa: B008 - immutable
        clock: Clock = own_clock,
        from_plan: StoredChunk | None = None,
    ) -> None:
        self._from_plan = from_plan
        self._database = database
        self._expiry = expiry
        self._events = events
        if from_plan is not None and origin.moment is not None:
            clock = TrustingClock(clock, origin.moment)
        self._clock = clock
        self._kind = kind
        self.task_id = task_id
        self._arguments = (args, kwargs)
        self._origin = origin
        self._started = time.perf_counter()
        self._failure: str | None = None
        """The error of the chunk without its poison records, if it did not kill its process."""
        self.refused: str | None = None
        self.applied: Applied | None = None
        self.completes_plan = False
        """Whether the chunk was the last one that its plan waited for."""

    @property
    def _call(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of the task."""
        return self._arguments if self._from_plan is None else ([self._from_plan.text], {})

    @cached_property
    def _payload(self) -> Any:
        """What should be a chunk."""
        args, kwargs = self._call
        return args[0] if len(args) == 1 and not kwargs else None

    @property
    def sent(self) -> datetime | None:
        """The moment in the header of the message, which is not trusted."""
        return self._origin.moment

    def apply(self) -> None:
        """Apply the chunk as it came; store one that carries a plan."""
        if self._from_plan is not None:
            applied = apply_unchanged(self._database, self._from_plan, self._clock)
            if applied is not None:
                self.report(applied)
                return
        try:
            received = self.read()
            if received.chunk.plan is not None and not isinstance(self._payload, str):
                # It will be read again, from the text that is stored.
                read_chunk(self._kind, text_of(self._payload))
        except ValidationError as error:
            self.refuse(error)
            return
        chunk, fingerprint, origin = received
        if chunk.plan is not None and self._from_plan is None:
            self.stage(chunk, fingerprint)
            return
        try:
            applied = apply_read_chunk(
                self._database, self._kind, chunk, fingerprint, origin=origin, clock=self._clock
            )
        except TooManyDataSets as error:
            # No record is to blame, so none is looked for.
            self._dead_letter(LetterReason.NOT_PROCESSED, str(error))
        else:
            self.report(applied)

    def read(self) -> ReceivedChunk:
        """Return the chunk as it came. Raises ValidationError."""
        return ReceivedChunk(*read_chunk(self._kind, self._payload), self._origin)

    def stage(self, chunk: Chunk, fingerprint: int) -> Applied:
        """Store a chunk that carries a plan instead of applying it; return what was done."""
        text = text_of(self._payload)
        delivered = Delivered(self._kind, chunk, fingerprint, text, self._origin)
        conflict, outcome = None, ChunkOutcome.REPEATED
        try:
            staging = stage_chunk(self._database, delivered, self._expiry, clock=self._clock)
        except StagingConflict as error:
            conflict, outcome = str(error), ChunkOutcome.CONFLICT
        else:
            self.completes_plan |= staging.is_complete
            if staging.is_stored:
                outcome = ChunkOutcome.STAGED
        staged = Applied(outcome, chunk.batch_id, chunk.number)
        self.report(staged, conflict=conflict)
        return staged

    def refuse(self, error: ValidationError) -> None:
        """Store the message as a dead letter, because it does not hold a chunk."""
        self._dead_letter(LetterReason.INVALID_CHUNK, "; ".join(p.message for p in explain(error)))

    def isolate(self) -> None:
        """Apply the chunk without its poison records. Raises TrialInterrupted."""
        try:
            outcome = isolate_chunk(
                self._database,
                self._kind,
                self._payload,
                self._origin,
                store=self.stage if self._from_plan is None else None,
                clock=self._clock,
            )
        except Exception as error:
            self._failure = sentence_of(error)
            raise
        if isinstance(outcome, Applied):
            if self.applied is None:  # What was stored for a plan is reported already.
                self.report(outcome)
        else:
            self._dead_letter(LetterReason.NOT_PROCESSED, outcome)

    def give_up(self) -> None:
        """Store the whole chunk as a dead letter, for an operator."""
        what = "killed its worker" if self._failure is None else "failed"
        why = f"it {what} even without its poison records"
        cause = "" if self._failure is None else f": {self._failure}"
        self._dead_letter(LetterReason.NOT_PROCESSED, why + cause)

    def report(self, applied: Applied, together: int = 1, conflict: str | None = None) -> None:
        """Report what was done, in a transaction of several chunks that were applied `together`.

        If the chunk is in conflict, store the message as a dead letter; `conflict` says with what.
        """
        self.applied = applied
        duration = time.perf_counter() - self._started
        self._events.chunk_delivered(self._kind, self.task_id, applied, duration, together)
        if applied.outcome is ChunkOutcome.CONFLICT:
            self._dead_letter(
                LetterReason.CONFLICT,
                conflict
                or "a different chunk was already applied under its batch id and number,"
                " or the batch ends before it, has another data set, or belongs to a plan that the"
                " chunk does not carry",
            )

    def _dead_letter(self, reason: LetterReason, why: str) -> None:
        task = KIND_TASKS[self._kind]
        moment = moment_of_message(self._origin.moment, read_clock(self._clock))
        origin = self._origin._replace(moment=moment)
        letter = call_letter(task, self.task_id, *self._call, reason, why, origin)
        keep(self._database, letter)
        self.refused = why
        self._events.dead_letter(
            reason,
            why,
            task_id=self.task_id,
            kind=self._kind.value,
            batch_id=letter["batch_id"],
        )


def latest_sent(deliveries: Sequence[ChunkDelivery]) -> datetime | None:
    """Return the latest moment in the headers of messages; None if they have none."""
    sent = [delivery.sent for delivery in deliveries if delivery.sent is not None]
    return max(sent, default=None)


def apply_deliveries(
    database: Database, deliveries: Sequence[ChunkDelivery], *, clock: Clock
) -> None:
    """Apply small chunks of enrollments in one transaction, and report each of them.

    A message that does not hold a chunk becomes a dead letter, as a conflict does. A chunk that
    carries a plan is stored, in a transaction of its own. Raises DBAPIError.
    """
    chunks: list[tuple[ChunkDelivery, ReceivedChunk]] = []
    planned: list[tuple[ChunkDelivery, ReceivedChunk]] = []
    invalid: list[tuple[ChunkDelivery, ValidationError]] = []
    for delivery in deliveries:
        try:
            received = delivery.read()
            (chunks if received.chunk.plan is None else planned).append((delivery, received))
        except ValidationError as error:
            invalid.append((delivery, error))
    for delivery, received in planned:
        delivery.stage(received.chunk, received.fingerprint)
    direct = [received for _, received in chunks]
    together = apply_together(database, direct, clock=clock) if direct else []
    for (delivery, _), applied in zip(chunks, together, strict=True):
        delivery.report(applied, len(chunks))
    for delivery, reason in invalid:
        delivery.refuse(reason)
