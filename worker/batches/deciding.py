"""Decide the requests of a chunk: the clean ones at once, the others by the rulebook."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from producer.contract.chunks import Chunk, line_request_id
from producer.contract.explain import parse_record
from producer.contract.rosters import from_microseconds, moments_of_records
from producer.schemas import Action, Kind, ResultStatus, StudentEnrollmentRequest
from worker.batches.clean import DecideClean
from worker.batches.counts import Counts, Poison, add_to_counts, no_counts
from worker.batches.opening import owner_of
from worker.batches.refusals import Refusals, refusals_of
from worker.batches.repository import OpenBatch
from worker.data_sets.values import Owner
from worker.enrollment.derived.entries import FreshRequests
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.problems import not_processed, refused_as_undone
from worker.enrollment.shortcuts import ShortcutResult
from worker.enrollment.values import Times
from worker.moments import Reading
from worker.service import add_enrollments

Decided = tuple[Counts, Refusals, Counter[ResultStatus], FreshRequests | None]
"""The counts of a chunk, its refusals, its requests by status, and its fresh requests."""


def moments_of_chunk(times: Times, kind: Kind, chunk: Chunk) -> list[datetime]:
    """Return when each record of a chunk counts that names no time of its own."""
    count = len(chunk.row_counts)
    if kind is Kind.ENROLLMENTS and not chunk.ordered:
        return [times.batch] * count
    moments = moments_of_records(times.batch, chunk.number, count, times.latest)
    return list(map(from_microseconds, moments))


def decide_requests(
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
    return enroll(connection, chunk, poison, times, shortcut, owner)


def enroll(
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
    clock = Reading(times.now, times.latest)
    decided = add_enrollments(connection, requests, chunk.batch_id, clock=clock).decided
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
    lines, moments = chunk.lines_of_records, moments_of_chunk(times, Kind.ENROLLMENTS, chunk)
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
