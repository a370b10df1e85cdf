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
from producer.contract.explain import parse_record
from producer.contract.headers import UNKNOWN_ORIGIN, BatchOrigin
from producer.contract.rosters import from_microseconds, moments_of_records
from producer.contract.routing import KIND_TASKS
from producer.schemas import Action, Kind, ResultStatus, StudentEnrollmentRequest
from worker.batches.clean import DecideClean, decide_by_shortcut
from worker.batches.counts import (
    Counts,
    Poison,
    add_to_counts,
    no_counts,
)
from worker.batches.lines import pack_lines
from worker.batches.opening import open_chunk, owner_of
from worker.batches.refusals import Refusals, plain_record, refusal_of_unread_line, refusals_of
from worker.batches.repository import (
    OpenBatch,
    add_chunk,
    find_chunk,
    has_ended_before,
)
from worker.batches.roster import upsert_records
from worker.data_sets.values import Owner
from worker.database.clock import database_time
from worker.database.engine import Database, transaction
from worker.dead_letters.letters import dead_letter
from worker.dead_letters.repository import add_dead_letters
from worker.enrollment.derived.entries import FreshRequests
from worker.enrollment.incoming import IncomingRequest, readable_id
from worker.enrollment.problems import not_processed, refused_as_undone
from worker.enrollment.shortcuts import ShortcutResult
from worker.enrollment.values import Times
from worker.models import LetterForm, LetterReason
from worker.moments import Clock, moment_of_message, own_clock
from worker.refused_lines.repository import add_refusals
from worker.service import add_enrollments


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
    another data set, or ends before this number."""


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
) -> Applied:
    """Apply a chunk that was parsed, as `apply_chunk` does. Raises DBAPIError."""

    def apply(connection: Connection) -> Applied:
        return apply_to(connection, kind, chunk, fingerprint, poison or {}, origin, clock=clock)

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
        times = Times(now, now, now)
        shortcut = decide_by_shortcut(connection, part, {}, times, derives=True)
        _enroll(connection, part, {}, times, shortcut)
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
    now = clock()
    batch = _open(connection, kind, chunk, fingerprint, origin, now)
    if isinstance(batch, Applied):
        return batch
    times = Times(batch.moment, now, database_time(connection) or now)
    lines = pack_lines(chunk) if kind is Kind.ENROLLMENTS else None
    statuses: Counter[ResultStatus] = Counter()
    fresh: FreshRequests | None = None
    if kind is Kind.ENROLLMENTS:
        decided = _decide_requests(connection, chunk, batch, poison, times, decide_clean)
        counts, refusals, statuses, fresh = decided
        statuses[ResultStatus.REJECTED] += len(chunk.refused)
    else:
        counts, refusals = upsert_records(connection, kind, chunk, poison, times.batch, now)
    moments = _moments_of_records(times, kind, chunk) if poison else []
    letters = [_letter(kind, chunk, i, what, moments[i]) for i, what in poison.items()]
    add_dead_letters(connection, letters)
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


def _moments_of_records(times: Times, kind: Kind, chunk: Chunk) -> list[datetime]:
    """Return when each record of a chunk counts that names no time of its own."""
    count = len(chunk.row_counts)
    if kind is Kind.ENROLLMENTS and not chunk.ordered:
        return [times.batch] * count
    moments = moments_of_records(times.batch, chunk.number, count, times.now)
    return list(map(from_microseconds, moments))


def _open(
    connection: Connection,
    kind: Kind,
    chunk: Chunk,
    fingerprint: int,
    origin: BatchOrigin,
    now: datetime,
) -> OpenBatch | Applied:
    """Open a chunk's batch, or return the outcome of a repeat or a conflict."""
    entry = find_chunk(connection, chunk.batch_id, chunk.number)
    if entry is not None:
        is_same = entry.kind == kind and entry.fingerprint == fingerprint
        outcome = ChunkOutcome.REPEATED if is_same else ChunkOutcome.CONFLICT
        return Applied(outcome, chunk.batch_id, chunk.number)
    dated = origin._replace(moment=moment_of_message(origin.moment, now))
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


Decided = tuple[Counts, Refusals, Counter[ResultStatus], FreshRequests | None]
"""The counts of a chunk, its refusals, its requests by status, and its fresh requests."""


def _decide_requests(
    connection: Connection,
    chunk: Chunk,
    batch: OpenBatch,
    poison: Poison,
    times: Times,
    decide_clean: DecideClean,
) -> Decided:
    if batch.is_stopped:
        return _refuse(connection, chunk, poison, times)
    until = batch.results_stored_until
    derives = until is None or times.stored >= until
    owner = owner_of(chunk, batch)
    shortcut = decide_clean(connection, chunk, poison, times, derives, owner)
    return _enroll(connection, chunk, poison, times, shortcut, owner)


def _enroll(
    connection: Connection,
    chunk: Chunk,
    poison: Poison,
    times: Times,
    shortcut: ShortcutResult,
    owner: Owner | None = None,
) -> Decided:
    counts = no_counts()
    is_drop = shortcut.action is Action.DROP
    counts["dropped" if is_drop else "enrolled"] = shortcut.changed
    counts["not_enrolled" if is_drop else "already_enrolled"] = shortcut.rows - shortcut.changed
    status = ResultStatus.DROPPED if is_drop else ResultStatus.ENROLLED
    statuses = Counter({status: shortcut.requests})
    if not shortcut.rest:
        return counts, [], statuses, shortcut.fresh
    requests = incoming_requests(chunk, shortcut.rest, poison, times, owner)
    refusals = _decide(connection, chunk, shortcut.rest, requests, times, counts, statuses)
    return counts, refusals, statuses, shortcut.fresh


def _refuse(connection: Connection, chunk: Chunk, poison: Poison, times: Times) -> Decided:
    """Refuse all requests of a chunk, because its batch was undone."""
    counts, statuses = no_counts(), Counter[ResultStatus]()
    positions = range(len(chunk.row_counts))
    requests = refused_as_undone(incoming_requests(chunk, positions, poison, times))
    refusals = _decide(connection, chunk, positions, requests, times, counts, statuses)
    return counts, refusals, statuses, None


def _decide(
    connection: Connection,
    chunk: Chunk,
    positions: Sequence[int],
    requests: Sequence[IncomingRequest],
    times: Times,
    counts: Counts,
    statuses: Counter[ResultStatus],
) -> Refusals:
    """Decide the requests at some positions by the rulebook, and count them; return refusals."""
    decided = add_enrollments(connection, requests, chunk.batch_id, clock=lambda: times.now).decided
    statuses.update(decision.result.status for decision in decided)
    add_to_counts(counts, decided, [chunk.row_counts[position] for position in positions])
    cells = dict(zip(chunk.lines or (), chunk.cells or (), strict=False))
    return [refusal for decision in decided for refusal in refusals_of(decision, cells)]


def incoming_requests(
    chunk: Chunk,
    positions: Sequence[int],
    poison: Poison,
    times: Times,
    owner: Owner | None = None,
) -> list[IncomingRequest]:
    """Read the records at these positions of a chunk; mark poison records as refused."""
    requests = []
    lines, moments = chunk.lines_of_records, _moments_of_records(times, Kind.ENROLLMENTS, chunk)
    for position in positions:
        record = chunk.records_in_order[position]
        request, problems = parse_record(StudentEnrollmentRequest, record)
        if position in poison:
            problems = (not_processed(poison[position]),)
        own_id = request.request_id if request else None
        request_id = own_id or line_request_id(chunk.batch_id, chunk.number, position)
        requests.append(
            IncomingRequest(
                request_id,
                record,
                request,
                problems,
                lines[position],
                has_own_id=own_id is not None,
                moment=moments[position],
                is_dated=True,
                batch_id=chunk.batch_id,
                owner=owner,
            )
        )
    return requests


def batch_of(chunk: Any) -> str | None:
    """Return the batch id of a chunk, even of an invalid one; None if there is none."""
    try:
        return readable_id((json.loads(chunk) if isinstance(chunk, str) else chunk)["batch_id"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
