"""Apply a chunk exactly once, with its results, its refusals and its entry in the ledger."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from producer.contract.chunks import (
    KIND_CHUNKS,
    Chunk,
    fingerprint_of,
    line_request_id,
)
from producer.contract.headers import UNKNOWN_ORIGIN, BatchOrigin
from producer.contract.routing import KIND_TASKS
from producer.schemas import Kind, ResultStatus
from worker.batches.clean import DecideClean, decide_by_shortcut
from worker.batches.counts import (
    Counts,
    Poison,
)
from worker.batches.deciding import decide_requests, enroll, moments_of_chunk
from worker.batches.lines import pack_lines
from worker.batches.members.repository import batches_of_plans
from worker.batches.opening import open_chunk
from worker.batches.refusals import plain_record, refusal_of_unread_line
from worker.batches.repository import (
    OpenBatch,
    add_chunk,
    find_chunk,
    has_ended_before,
)
from worker.batches.roster import upsert_records
from worker.database.clock import database_time
from worker.database.engine import Database, transaction
from worker.dead_letters.letters import dead_letter
from worker.dead_letters.repository import add_dead_letters
from worker.enrollment.derived.entries import FreshRequests
from worker.enrollment.incoming import readable_id
from worker.enrollment.values import Times
from worker.models import LetterForm, LetterReason
from worker.moments import Clock, Reading, moment_of_message, own_clock, read_clock
from worker.refused_lines.repository import add_refusals


class ChunkOutcome(StrEnum):
    """What happened to a delivery of a chunk."""

    APPLIED = "applied"
    """Its records were decided, and the chunk was entered into the ledger."""
    REPEATED = "repeated"
    """It was already applied before, or stored for its plan; nothing was changed."""
    STAGED = "staged"
    """It was stored for its plan; nothing is applied before the whole plan is made."""
    CONFLICT = "conflict"
    """The batch id is that of another submission; nothing was changed.

    A different chunk was applied under this number, or the batch has another kind of records or
    another data set, ends before this number, or belongs to a plan that the chunk does not carry.
    """


@dataclass(frozen=True)
class Applied:
    """A delivery of a chunk, and what it added to the counts of its batch."""

    outcome: ChunkOutcome
    batch_id: str
    number: int
    counts: Counts = field(default_factory=dict)
    """The counts of its ledger entry; empty unless this delivery was applied."""
    requests: Counter[ResultStatus] = field(default_factory=Counter)
    """Requests by the status of their results."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refused lines by code."""
    poisoned: int = 0
    """Records that became dead letters."""


def apply_chunk(
    database: Database,
    kind: Kind,
    payload: object,
    poison: Poison | None = None,
    origin: BatchOrigin = UNKNOWN_ORIGIN,
    *,
    clock: Clock = own_clock,
) -> Applied:
    """Apply a chunk, its results and its entry in the ledger, exactly once.

    `payload` is a JSON object, or a string that holds one. Poison records are refused and become
    dead letters. Raises ValidationError, DBAPIError.
    """
    chunk, fingerprint = read_chunk(kind, payload)
    return apply_read_chunk(database, kind, chunk, fingerprint, poison, origin, clock=clock)


def apply_read_chunk(
    database: Database,
    kind: Kind,
    chunk: Chunk,
    fingerprint: int,
    poison: Poison | None = None,
    origin: BatchOrigin = UNKNOWN_ORIGIN,
    *,
    clock: Clock = own_clock,
    decide_clean: DecideClean = decide_by_shortcut,
) -> Applied:
    """Apply a chunk that was parsed, as `apply_chunk` does. Raises DBAPIError."""

    def apply(connection: Connection) -> Applied:
        return apply_to(
            connection,
            kind,
            chunk,
            fingerprint,
            poison or {},
            origin,
            clock=clock,
            decide_clean=decide_clean,
        )

    return transaction(database, apply)


def text_of(payload: object) -> str:
    """Return the JSON of a chunk of which its fingerprint is made."""
    return payload if isinstance(payload, str) else json.dumps(payload, sort_keys=True)


def read_chunk(kind: Kind, payload: object) -> tuple[Chunk, int]:
    """Parse a chunk; return it with its fingerprint. Raises ValidationError."""
    if isinstance(payload, str):
        return KIND_CHUNKS[kind].model_validate_json(payload), fingerprint_of(payload)
    return KIND_CHUNKS[kind].model_validate(payload), fingerprint_of(text_of(payload))


def rehearse(connection: Connection, kind: Kind, chunk: Chunk, records: Sequence[Any]) -> None:
    """Apply some records of a chunk as a trial, which the caller rolls back."""
    part = type(chunk).model_construct(
        batch_id=chunk.batch_id, number=chunk.number, records=tuple(records)
    )
    now = own_clock()
    if kind is Kind.ENROLLMENTS:
        times = Times(now, now, now, now)
        shortcut = decide_by_shortcut(connection, part, {}, times, derives=True)
        enroll(connection, part, {}, times, shortcut)
    else:
        upsert_records(connection, kind, part, {}, now, now)


def apply_to(
    connection: Connection,
    kind: Kind,
    chunk: Chunk,
    fingerprint: int,
    poison: Poison,
    origin: BatchOrigin = UNKNOWN_ORIGIN,
    *,
    clock: Clock = own_clock,
    decide_clean: DecideClean = decide_by_shortcut,
) -> Applied:
    """Apply a chunk within an open transaction; `decide_clean` decides its clean requests."""
    reading = read_clock(clock)
    batch = _open(connection, kind, chunk, fingerprint, origin, reading)
    if isinstance(batch, Applied):
        return batch
    now, latest = reading.now, reading.latest
    times = Times(batch.moment, now, database_time(connection) or now, latest)
    lines = pack_lines(chunk) if kind is Kind.ENROLLMENTS else None
    if kind is Kind.ENROLLMENTS:
        decided = decide_requests(connection, chunk, batch, poison, times, decide_clean)
        counts, refusals, statuses, fresh = decided
        statuses[ResultStatus.REJECTED] += len(chunk.refused)
    else:
        counts, refusals = upsert_records(connection, kind, chunk, poison, times.batch, latest)
        statuses, fresh = Counter(), None
    add_dead_letters(connection, _letters(kind, chunk, poison, times))
    refusals += map(refusal_of_unread_line, chunk.refused)
    add_refusals(connection, chunk.batch_id, refusals)
    counts["rejected"] += len(chunk.refused)
    counts["requests_rejected"] += len(chunk.refused)
    entry = ledger_entry(chunk, fingerprint, counts, times.stored, lines)
    add_chunk(connection, **entry | _packed(lines, fresh))
    return Applied(
        ChunkOutcome.APPLIED,
        chunk.batch_id,
        chunk.number,
        counts,
        statuses,
        Counter(refusal["code"] for refusal in refusals),
        len(poison),
    )


def _packed(lines: bytes | None, fresh: FreshRequests | None) -> dict[str, bytes | int | None]:
    """Return what the ledger holds of single requests, as columns of its entry."""
    entries, size = (None, None) if fresh is None else fresh
    return {"lines": lines, "fresh": entries, "fresh_size": size}


def _letters(kind: Kind, chunk: Chunk, poison: Poison, times: Times) -> list[dict[str, Any]]:
    moments = moments_of_chunk(times, kind, chunk) if poison else []
    return [_letter(kind, chunk, i, what, moments[i]) for i, what in poison.items()]


def _open(
    connection: Connection,
    kind: Kind,
    chunk: Chunk,
    fingerprint: int,
    origin: BatchOrigin,
    reading: Reading,
) -> OpenBatch | Applied:
    """Open a chunk's batch, or return the outcome of a repeat or a conflict."""
    entry = find_chunk(connection, chunk.batch_id, chunk.number)
    if entry is not None:
        is_same = entry.kind == kind and entry.fingerprint == fingerprint
        outcome = ChunkOutcome.REPEATED if is_same else ChunkOutcome.CONFLICT
        return Applied(outcome, chunk.batch_id, chunk.number)
    if chunk.plan is None and batches_of_plans(connection, [chunk.batch_id]):
        return Applied(ChunkOutcome.CONFLICT, chunk.batch_id, chunk.number)
    dated = origin._replace(moment=moment_of_message(origin.moment, reading))
    batch, is_other = open_chunk(connection, kind, chunk, dated)
    if is_other or has_ended_before(connection, chunk.batch_id, chunk.number):
        return Applied(ChunkOutcome.CONFLICT, chunk.batch_id, chunk.number)
    return batch


def ledger_entry(
    chunk: Chunk, fingerprint: int, counts: Counts, now: datetime, lines: bytes | None
) -> dict[str, Any]:
    """Return the entry of a chunk in the ledger; `lines` are those of its requests, packed."""
    tally = chunk.tally()
    return {
        "batch_id": chunk.batch_id,
        "number": chunk.number,
        "fingerprint": fingerprint,
        "last": chunk.last,
        "requests_through": chunk.before.requests + tally.requests,
        "rows_through": chunk.before.rows + tally.rows,
        "requests": tally.requests,
        "rows": tally.rows,
        "applied_at": now,
        "lines": lines,
        **counts,
    }


def _letter(
    kind: Kind, chunk: Chunk, position: int, what_happened: str, moment: datetime
) -> dict[str, Any]:
    record = plain_record(chunk.records_in_order[position])
    own_id = record.get("request_id") if isinstance(record, dict) else None
    return dead_letter(
        LetterForm.RECORD,
        json.dumps(record, default=repr).encode(),
        LetterReason.NOT_PROCESSED,
        what_happened,
        task=KIND_TASKS[kind],
        batch_id=chunk.batch_id,
        request_id=own_id or line_request_id(chunk.batch_id, chunk.number, position),
        moment=moment,
    )


def batch_of(chunk: Any) -> str | None:
    """Return the batch id of a chunk, even of an invalid one; None if there is none."""
    try:
        return readable_id((json.loads(chunk) if isinstance(chunk, str) else chunk)["batch_id"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
