"""Chunks of a batch: applied once, with results, refusals and an entry in the ledger."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from producer.contract.chunks import (
    KIND_CHUNKS,
    CheckedColumns,
    Chunk,
    fingerprint_of,
    line_request_id,
)
from producer.contract.routing import KIND_TASKS
from producer.schemas import Code, EnrollmentProblem, Kind, StudentEnrollmentRequest
from worker.batches.counts import Counts, Poison, _lines, _no_counts, _parse
from worker.batches.refusals import Refusals, _plain, _refusal, _refusals
from worker.batches.repository import add_chunk, add_refusals, find_chunk, open_batch
from worker.batches.roster import _upsert
from worker.database.engine import Database, transaction
from worker.dead_letters.letters import Form, Reason, dead_letter
from worker.dead_letters.repository import add_dead_letters
from worker.enrollment.repository import find_results, find_results_of_chunk
from worker.enrollment.rules import Asked, Decided, not_processed, readable_id, settle
from worker.enrollment.shortcuts import settle_plain


class ChunkOutcome(StrEnum):
    """What became of a delivery of a chunk."""

    APPLIED = "applied"
    REPEATED = "repeated"
    CONFLICT = "conflict"
    """Another content was applied under this batch id and number; nothing was changed."""


@dataclass(frozen=True)
class Applied:
    """A delivery of a chunk, and what it added to the books of its batch."""

    outcome: ChunkOutcome
    batch_id: str
    number: int
    counts: Counts = field(default_factory=dict)
    """As in the ledger; empty unless it was applied now."""
    requests: Counter[str] = field(default_factory=Counter)
    """Requests by the status of their results."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refused lines by their codes."""
    poisoned: int = 0
    """Records that became dead letters."""


def apply_chunk(
    database: Database, kind: Kind, payload: object, poison: Poison | None = None
) -> Applied:
    """Apply a chunk, its results and its entry in the ledger, exactly once.

    `payload` is a JSON object, or a string that holds one. Records that are poison become dead
    letters, and are refused. Raises ValidationError, DBAPIError.
    """
    chunk, fingerprint = read_chunk(kind, payload)
    return transaction(
        database,
        lambda connection: apply_to(connection, kind, chunk, fingerprint, poison or {}),
    )


def read_chunk(kind: Kind, payload: object) -> tuple[Chunk, int]:
    """A chunk and its fingerprint. Raises ValidationError."""
    if isinstance(payload, str):
        return KIND_CHUNKS[kind].model_validate_json(payload), fingerprint_of(payload)
    text = json.dumps(payload, sort_keys=True)
    return KIND_CHUNKS[kind].model_validate(payload), fingerprint_of(text)


def rehearse(connection: Connection, kind: Kind, chunk: Chunk, records: Sequence[Any]) -> None:
    """Do for some records of a chunk what applying it does; the caller rolls back."""
    part = type(chunk).model_construct(
        batch_id=chunk.batch_id, number=chunk.number, records=tuple(records)
    )
    if kind is Kind.ENROLLMENTS:
        _enroll(connection, part, {}, datetime.now(UTC))
    else:
        _upsert(connection, kind, part, {})


def apply_to(
    connection: Connection, kind: Kind, chunk: Chunk, fingerprint: int, poison: Poison
) -> Applied:
    """Apply a chunk within a transaction."""
    entered = find_chunk(connection, chunk.batch_id, chunk.number)
    if entered is not None:
        same = entered.kind == kind and entered.fingerprint == fingerprint
        outcome = ChunkOutcome.REPEATED if same else ChunkOutcome.CONFLICT
        return Applied(outcome, chunk.batch_id, chunk.number)
    if open_batch(connection, chunk.batch_id, kind, chunk.columns) != kind:
        return Applied(ChunkOutcome.CONFLICT, chunk.batch_id, chunk.number)
    now = datetime.now(UTC)
    statuses: Counter[str] = Counter()
    if kind is Kind.ENROLLMENTS:
        counts, refusals, statuses = _enroll(connection, chunk, poison, now)
        statuses["rejected"] += len(chunk.refused)
    else:
        counts, refusals = _upsert(connection, kind, chunk, poison)
    if poison:
        letters = [_letter(kind, chunk, place, what) for place, what in poison.items()]
        add_dead_letters(connection, letters)
    for line in chunk.refused:
        problem = EnrollmentProblem(
            code=Code.INVALID_REQUEST, message=line.message, field=line.field
        )
        refusals.append(_refusal(line.line, problem, None, line.cells))
    add_refusals(connection, chunk.batch_id, refusals)
    counts["rejected"] += len(chunk.refused)
    counts["requests_rejected"] += len(chunk.refused)
    tally = chunk.tally()
    add_chunk(
        connection,
        batch_id=chunk.batch_id,
        number=chunk.number,
        fingerprint=fingerprint,
        last=chunk.last,
        requests_through=chunk.before.requests + tally.requests,
        rows_through=chunk.before.rows + tally.rows,
        requests=tally.requests,
        rows=tally.rows,
        applied_at=now,
        **counts,
    )
    return Applied(
        ChunkOutcome.APPLIED,
        chunk.batch_id,
        chunk.number,
        counts,
        statuses,
        Counter(refusal["code"] for refusal in refusals),
        len(poison),
    )


def _letter(kind: Kind, chunk: Chunk, place: int, what_happened: str) -> dict[str, Any]:
    record = _plain(chunk.records_in_order[place])
    own_id = record.get("request_id") if isinstance(record, dict) else None
    return dead_letter(
        Form.RECORD,
        json.dumps(record, default=repr).encode(),
        Reason.NOT_PROCESSED,
        what_happened,
        task=KIND_TASKS[kind],
        batch_id=chunk.batch_id,
        request_id=own_id or line_request_id(chunk.batch_id, chunk.number, place),
    )


def _enroll(
    connection: Connection, chunk: Chunk, poison: Poison, now: datetime
) -> tuple[Counts, Refusals, Counter[str]]:
    counts = _no_counts()
    statuses: Counter[str] = Counter()
    known = find_results_of_chunk(connection, chunk.batch_id, chunk.number)
    left: Sequence[int] = range(len(chunk.row_counts))
    columns = _columns(chunk)
    if columns is not None and not known and not poison:
        ids = [line_request_id(chunk.batch_id, chunk.number, place) for place in left]
        plain = settle_plain(connection, ids, *columns, chunk.batch_id, now)
        if plain is not None:
            counts["enrolled"] = plain.added
            counts["already_enrolled"] = plain.rows - plain.added
            statuses["enrolled"] = plain.requests
            left = plain.left
    refusals: Refusals = []
    if left:
        asked = _asked(chunk, left, poison)
        own_ids = [one.request_id for one in asked if one.own_id]
        if own_ids:
            known += find_results(connection, own_ids)
        decided, _ = settle(connection, asked, known, chunk.batch_id, now)
        statuses.update(one.result.status for one in decided)
        refusals = _count(chunk, left, decided, counts)
    return counts, refusals, statuses


def _columns(
    chunk: Chunk,
) -> tuple[Sequence[Any], Sequence[Sequence[Any]], Sequence[bool]] | None:
    """Students, courses and `atomic` of all requests; no student for what breaks the contract.

    None if a request has an id of its own.
    """
    given = getattr(chunk, "requests", None)
    if isinstance(given, CheckedColumns):
        return given.student_ids, given.course_ids, [given.atomic] * len(given.student_ids)
    requests = [
        r if isinstance(r, StudentEnrollmentRequest) else None for r in chunk.records_in_order
    ]
    if any(request is not None and request.request_id is not None for request in requests):
        return None
    return (
        [None if request is None else request.student_id for request in requests],
        [() if request is None else request.course_ids for request in requests],
        [request is None or request.atomic for request in requests],
    )


def _asked(chunk: Chunk, places: Sequence[int], poison: Poison) -> list[Asked]:
    """The records at these places of a chunk, to be looked at one by one."""
    asked = []
    lines = _lines(chunk)
    for place in places:
        record = chunk.records_in_order[place]
        request, problems = _parse(StudentEnrollmentRequest, record)
        if place in poison:
            problems = (not_processed(poison[place]),)
        own_id = request.request_id if request else None
        request_id = own_id or line_request_id(chunk.batch_id, chunk.number, place)
        asked.append(Asked(request_id, record, request, problems, lines[place], own_id is not None))
    return asked


def _count(
    chunk: Chunk, places: Sequence[int], decided: Sequence[Decided], counts: Counts
) -> Refusals:
    """Add what became of these records to the counts; returns what was refused of them."""
    refusals: Refusals = []
    cells = dict(zip(chunk.lines or (), chunk.cells or (), strict=False))
    for one, place in zip(decided, places, strict=True):
        result = one.result
        rows = chunk.row_counts[place]
        added = 0 if one.repeated else len(result.enrolled) - len(result.already)
        counts["enrolled"] += added
        if not result.errors:
            counts["already_enrolled"] += rows - added
            continue
        rejected = result.status == "rejected"
        refused = rows if rejected else len(result.errors)
        counts["already_enrolled"] += rows - added - refused
        counts["rejected"] += refused
        counts["requests_rejected"] += rejected
        for problem in map(EnrollmentProblem.model_validate, result.errors):
            refusals.extend(_refusals(one.asked, problem, cells))
    return refusals


def batch_of(chunk: Any) -> str | None:
    """The batch of a chunk that may break the contract elsewhere."""
    try:
        return readable_id((json.loads(chunk) if isinstance(chunk, str) else chunk)["batch_id"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
