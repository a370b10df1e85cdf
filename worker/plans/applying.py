"""Apply the stored chunks of a plan by the ordinary path, one after another, each exactly once."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from producer.contract.headers import BatchOrigin
from producer.contract.printable import shell_argument
from producer.schemas import Kind
from worker.batches.apply import Applied, apply_read_chunk
from worker.batches.repository import find_chunk, find_chunks
from worker.database.engine import Database
from worker.moments import Clock
from worker.plans.holder import Holder
from worker.plans.remedies import RETRY
from worker.plans.repository import (
    LeaseLost,
    find_changing,
    find_members,
    read_payload,
    read_staged,
    staged_fingerprints,
)
from worker.plans.stored import Stored, TextNeeded
from worker.snapshots.unchanged import FORM, DecideUnchanged

SLICE_SECONDS: Final = 20.0
"""Seconds after which a worker releases a plan that it applies, to let other work have its turn."""


class StoredChunk(NamedTuple):
    """A stored chunk that is to be applied now."""

    kind: Kind
    batch_id: str
    number: int
    stored: Stored
    origin: BatchOrigin
    may_have_killed: bool = False
    """Whether a process that had begun to apply this plan was lost: perhaps because of this chunk.
    """

    @property
    def text(self) -> str:
        """Return the text of the chunk."""
        return self.stored.text


ApplyStored = Callable[[StoredChunk], str | None]
"""Applies a chunk as if its message had just come; returns why it became a dead letter, or None."""


def origin_of(member: Any) -> BatchOrigin:
    """Return where and when a member of a plan was submitted."""
    return BatchOrigin(member.file_name, member.submitter, member.moment)


def chunks_of(
    database: Database, holder: Holder, member: Any, *, changing: bool = False
) -> Iterator[tuple[int, Stored]]:
    """Yield the stored chunks of a member with their numbers, in order.

    With `changing`, only those of which no unchanged requests were noted. Raises LeaseLost,
    DBAPIError.
    """
    numbers: Iterable[int] = range(member.chunks)
    if changing:
        with database.reading() as connection:
            numbers = find_changing(connection, member.batch_id, bytes([FORM]))
    for number in numbers:
        holder.renew()
        stored = read_stored(database, member.batch_id, number)
        if stored is not None:
            yield number, stored


def read_stored(database: Database, batch_id: str, number: int) -> Stored | None:
    """Return what is stored of a chunk; None if it is not stored any more. Raises DBAPIError."""
    with database.reading() as connection:
        row = read_staged(connection, batch_id, number)
    if row is None:
        return None

    def load() -> bytes:
        if row.payload is not None:
            return bytes(row.payload)
        with database.reading() as connection:
            payload = read_payload(connection, batch_id, number)
        if payload is None:
            raise LeaseLost(batch_id)
        return payload

    return Stored(load, row.fingerprint, row.unchanged, row.losses)


def apply_some(database: Database, holder: Holder, apply: ApplyStored) -> bool:
    """Apply stored chunks for a while, those of rosters first; return whether all are applied.

    If not, the plan is released. A chunk that cannot be applied holds up those after it: it is a
    dead letter, and once it was retried the plan goes on. Raises LeaseLost, DBAPIError.
    """
    end = time.monotonic() + SLICE_SECONDS
    with database.reading() as connection:
        members = find_members(connection, holder.plan.id)
    was_lost = holder.plan.attempts > 0
    for member in members:
        for number in missing_chunks(database, member):
            if time.monotonic() > end:
                holder.go_on()
                return False
            holder.renew()
            why = apply_number(database, member, number, apply, was_lost=was_lost)
            was_lost = False
            if why is not None:
                holder.retry(
                    f"chunk {number} of the batch {member.batch_id} could not be applied and became"
                    f" a dead letter ({why}). {RETRY}"
                )
                return False
    return _is_whole(database, holder, members)


def missing_chunks(database: Database, member: Any) -> list[int]:
    """Return the numbers of the chunks of a member that are not applied yet."""
    with database.reading() as connection:
        applied = find_chunks(connection, member.batch_id, range(member.chunks))
    return [number for number in range(member.chunks) if number not in applied]


def apply_number(
    database: Database, member: Any, number: int, apply: ApplyStored, *, was_lost: bool = False
) -> str | None:
    """Apply a stored chunk, unless it is applied by now; return why it became a dead letter."""
    with database.reading() as connection:
        if find_chunk(connection, member.batch_id, number) is not None:
            return None
    stored = read_stored(database, member.batch_id, number)
    if stored is None:
        return None  # Another worker has finished the plan; the next change finds that out.
    origin, batch_id = origin_of(member), member.batch_id
    return apply(
        StoredChunk(Kind(member.kind), batch_id, number, stored, origin, may_have_killed=was_lost)
    )


def apply_unchanged(database: Database, chunk: StoredChunk, clock: Clock) -> Applied | None:
    """Apply a chunk of which unchanged requests were noted; None if it must be parsed.

    That is so if none were noted, or if all of its requests were, and they may change something by
    now. Then nothing was done. Raises LeaseLost, DBAPIError.
    """
    read = chunk.stored.read_for_transaction()
    if read is None:
        return None
    try:
        return apply_read_chunk(
            database,
            chunk.kind,
            read.chunk,
            read.fingerprint,
            origin=chunk.origin,
            clock=clock,
            decide_clean=DecideUnchanged(read.unchanged, read.losses),
        )
    except TextNeeded:
        return None


def _is_whole(database: Database, holder: Holder, members: Sequence[Any]) -> bool:
    """Return whether the ledger has exactly the stored chunks; if not, release the plan."""

    def differs(connection: Connection, member: Any) -> bool:
        applied = find_chunks(connection, member.batch_id, range(member.chunks))
        return applied != staged_fingerprints(connection, member.batch_id)

    with database.reading() as connection:
        others = [member.batch_id for member in members if differs(connection, member)]
    if others:
        holder.retry(
            f"the chunks that were applied under the batch id {others[0]} are not those that were"
            f" planned. Discard the plan (`enroll discard {shell_argument(holder.plan.id)}`), and"
            " submit its file again under another batch id."
        )
    return not others
