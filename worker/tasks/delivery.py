"""Handle deliveries of chunks: apply each or make it a dead letter, and report which."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from producer.contract.explain import explain
from producer.contract.headers import UNKNOWN_ORIGIN, BatchOrigin
from producer.contract.routing import KIND_TASKS
from producer.schemas import Kind
from worker.batches.apply import Applied, ChunkOutcome, apply_chunk, read_chunk
from worker.batches.together import ReceivedChunk, apply_together
from worker.database.engine import Database
from worker.dead_letters.letters import keep
from worker.models import LetterReason
from worker.moments import Clock, moment_of_message, own_clock
from worker.monitoring.events import Events
from worker.recovery.isolate import call_letter, isolate_chunk


class ChunkDelivery:
    """One delivery of a message that should hold a chunk. The methods raise DBAPIError.

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
        clock: Clock = own_clock,
    ) -> None:
        self._database = database
        self._events = events
        self._clock = clock
        self._kind = kind
        self.task_id = task_id
        self._call = (args, kwargs)
        self._origin = origin
        self._payload = args[0] if len(args) == 1 and not kwargs else None
        self._started = time.perf_counter()
        self.refused: str | None = None
        self.applied: Applied | None = None

    def apply(self) -> None:
        """Apply the chunk as it came."""
        try:
            applied = apply_chunk(
                self._database, self._kind, self._payload, origin=self._origin, clock=self._clock
            )
        except ValidationError as error:
            self.refuse(error)
        else:
            self.report(applied)

    def read(self) -> ReceivedChunk:
        """Return the chunk as it came. Raises ValidationError."""
        return ReceivedChunk(*read_chunk(self._kind, self._payload), self._origin)

    def refuse(self, error: ValidationError) -> None:
        """Store the message as a dead letter, because it does not hold a chunk."""
        self._dead_letter(LetterReason.INVALID_CHUNK, "; ".join(p.message for p in explain(error)))

    def isolate(self) -> None:
        """Apply the chunk without its poison records. Raises TrialInterrupted."""
        outcome = isolate_chunk(
            self._database, self._kind, self._payload, self._origin, clock=self._clock
        )
        if isinstance(outcome, Applied):
            self.report(outcome)
        else:
            self._dead_letter(LetterReason.NOT_PROCESSED, outcome)

    def give_up(self) -> None:
        """Store the whole chunk as a dead letter, for an operator."""
        self._dead_letter(
            LetterReason.NOT_PROCESSED, "it killed its worker even without its poison records"
        )

    def report(self, applied: Applied, together: int = 1) -> None:
        """Report what was done, in a transaction of several chunks that were applied `together`.

        If the chunk is in conflict, store the message as a dead letter.
        """
        self.applied = applied
        duration = time.perf_counter() - self._started
        self._events.chunk_delivered(self._kind, self.task_id, applied, duration, together)
        if applied.outcome is ChunkOutcome.CONFLICT:
            self._dead_letter(
                LetterReason.CONFLICT,
                "a different chunk was already applied under its batch id and number,"
                " or the batch ends before it or has another data set",
            )

    def _dead_letter(self, reason: LetterReason, why: str) -> None:
        task = KIND_TASKS[self._kind]
        moment = moment_of_message(self._origin.moment, self._clock())
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


def apply_deliveries(
    database: Database, deliveries: Sequence[ChunkDelivery], *, clock: Clock
) -> None:
    """Apply small chunks of enrollments in one transaction, and report each of them.

    A message that does not hold a chunk becomes a dead letter, as a conflict does. Raises
    DBAPIError.
    """
    chunks: list[tuple[ChunkDelivery, ReceivedChunk]] = []
    invalid: list[tuple[ChunkDelivery, ValidationError]] = []
    for delivery in deliveries:
        try:
            chunks.append((delivery, delivery.read()))
        except ValidationError as error:
            invalid.append((delivery, error))
    together = apply_together(database, [chunk for _, chunk in chunks], clock=clock)
    for (delivery, _), applied in zip(chunks, together, strict=True):
        delivery.report(applied, len(chunks))
    for delivery, reason in invalid:
        delivery.refuse(reason)
