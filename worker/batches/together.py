"""Apply small chunks of enrollments that wait together, in one transaction.

Each has its own entry in the ledger and its own counts, as if it were applied alone. The rulebook
decides all their requests at once.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple

from sqlalchemy import Connection

from producer.contract.chunks import Chunk
from producer.contract.headers import BatchOrigin
from producer.schemas import Kind, ResultStatus
from worker.batches.apply import (
    Applied,
    ChunkOutcome,
    ledger_entry,
)
from worker.batches.counts import add_to_counts, no_counts
from worker.batches.deciding import incoming_requests
from worker.batches.lines import pack_lines
from worker.batches.members.repository import batches_of_plans
from worker.batches.opening import form_of, open_chunk, owner_of
from worker.batches.refusals import refusal_of_unread_line, refusals_of
from worker.batches.repository import (
    OpenBatch,
    add_chunks,
    find_entries,
    has_ended_before,
    open_batches,
)
from worker.data_sets.values import Owner
from worker.database.clock import database_time
from worker.database.engine import Database, transaction
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.problems import refused_as_undone
from worker.enrollment.rules import Decision
from worker.enrollment.values import Times
from worker.moments import STEP, Clock, Reading, moment_of_message, own_clock, read_clock
from worker.refused_lines.repository import add_refusals
from worker.service import add_enrollments


class ReceivedChunk(NamedTuple):
    """A chunk of enrollments that was read, and what its message says about its batch."""

    chunk: Chunk
    fingerprint: int
    origin: BatchOrigin

    @property
    def key(self) -> tuple[str, int]:
        """Return what identifies the chunk: its batch and its number."""
        return self.chunk.batch_id, self.chunk.number

    @property
    def steps(self) -> int:
        """Return for how many microseconds its requests count, from the moment of its batch on."""
        return max(1, len(self.chunk.row_counts)) if self.chunk.ordered else 1


def apply_together(
    database: Database, received: Sequence[ReceivedChunk], *, clock: Clock = own_clock
) -> list[Applied]:
    """Apply chunks of enrollments, all or none of them; return what happened to each, in order.

    A repeated chunk, or one in conflict with what was applied before it, changes nothing and does
    not hold up the others. Raises DBAPIError.
    """

    def apply(connection: Connection) -> list[Applied]:
        reading = read_clock(clock)
        outcomes, batches = _open(connection, received, reading)
        stored = database_time(connection) or reading.now
        fresh = [
            _fresh(each, batches[each.chunk.batch_id], reading, stored)
            for each, outcome in zip(received, outcomes, strict=True)
            if outcome is ChunkOutcome.APPLIED
        ]
        applied = iter(_decide(connection, fresh))
        return [
            next(applied) if outcome is ChunkOutcome.APPLIED else Applied(outcome, *each.key)
            for each, outcome in zip(received, outcomes, strict=True)
        ]

    return transaction(database, apply)


class _Fresh(NamedTuple):
    """A chunk that was not applied before."""

    chunk: Chunk
    fingerprint: int
    times: Times
    owner: Owner | None
    is_stopped: bool
    """True if its batch is undone."""

    def requests(self) -> list[IncomingRequest]:
        """Return its requests; they are refused if its batch is undone."""
        positions = range(len(self.chunk.row_counts))
        requests = incoming_requests(self.chunk, positions, {}, self.times, self.owner)
        return refused_as_undone(requests) if self.is_stopped else requests


def _fresh(received: ReceivedChunk, batch: OpenBatch, reading: Reading, stored: datetime) -> _Fresh:
    times = Times(batch.moment, reading.now, stored, reading.latest)
    chunk, fingerprint, _ = received
    return _Fresh(chunk, fingerprint, times, owner_of(chunk, batch), batch.is_stopped)


def _open(
    connection: Connection, received: Sequence[ReceivedChunk], reading: Reading
) -> tuple[list[ChunkOutcome], dict[str, OpenBatch]]:
    """Open the batches of chunks; return what is to happen to each chunk, and the batches."""
    keys = [each.key for each in received]
    entered = find_entries(connection, keys)
    turns = accumulate((each.steps for each in received), initial=0)
    new = [
        (each, reading.now + turn * STEP)
        for each, turn in zip(received, turns, strict=False)
        if each.key not in entered
    ]
    batches, others = _open_batches(connection, new, reading)
    known = {key: (row.kind, row.fingerprint) for key, row in entered.items()}
    ends: dict[str, int] = {}
    outcomes = []
    for each in received:
        is_other = each.key in others
        outcome = _outcome(connection, each, known, batches, ends, is_other=is_other)
        outcomes.append(outcome)
        if outcome is ChunkOutcome.APPLIED:
            batch_id, number = each.key
            known[each.key] = (Kind.ENROLLMENTS, each.fingerprint)
            if each.chunk.last:
                ends[batch_id] = min(number, ends.get(batch_id, number))
    return outcomes, batches


def _open_batches(
    connection: Connection, new: Sequence[tuple[ReceivedChunk, datetime]], reading: Reading
) -> tuple[dict[str, OpenBatch], set[tuple[str, int]]]:
    """Open the batches of chunks, each with its turn.

    Also returns the batch and number of each chunk that names another data set than its batch, or
    whose batch belongs to a plan.
    """
    planned = batches_of_plans(connection, {each.chunk.batch_id for each, _ in new})
    others = {each.key for each, _ in new if each.chunk.batch_id in planned}
    own = [(each, turn) for each, turn in new if each.key not in others]
    plain = [(each, turn) for each, turn in own if each.chunk.data_set is None]
    batches = open_batches(connection, [_new_batch(each, reading, turn) for each, turn in plain])
    others |= {each.key for each, _ in plain if batches[each.key[0]].data_set is not None}
    for each, turn in sorted(own, key=lambda item: item[0].key):
        if each.chunk.data_set is not None:
            moment = moment_of_message(each.origin.moment, reading, turn)
            origin = each.origin._replace(moment=moment)
            batch, is_other = open_chunk(connection, Kind.ENROLLMENTS, each.chunk, origin)
            batches.setdefault(each.chunk.batch_id, batch)
            others |= {each.key} if is_other else set()
    return batches, others


def _new_batch(received: ReceivedChunk, reading: Reading, turn: datetime) -> dict[str, Any]:
    """Return the batch of a chunk, as it is stored if it is new; without a moment, it has its turn.

    Batches without moments count in the order of their messages.
    """
    chunk, _, origin = received
    return {
        "id": chunk.batch_id,
        "kind": Kind.ENROLLMENTS,
        "columns": chunk.columns,
        "form": form_of(chunk),
        **origin._replace(moment=moment_of_message(origin.moment, reading, turn))._asdict(),
    }


def _outcome(
    connection: Connection,
    received: ReceivedChunk,
    known: dict[tuple[str, int], tuple[str, int]],
    batches: dict[str, OpenBatch],
    ends: dict[str, int],
    *,
    is_other: bool,
) -> ChunkOutcome:
    """Return what is to happen to a chunk after those before it; `is_other` leads to a conflict.

    `known` has the kinds and fingerprints of chunks that were applied, by batch and number, and
    `ends` the number of the last chunk of each batch that ends in this transaction.
    """
    batch_id, number = received.key
    if received.key in known:
        is_same = known[received.key] == (Kind.ENROLLMENTS, received.fingerprint)
        return ChunkOutcome.REPEATED if is_same else ChunkOutcome.CONFLICT
    has_ended = ends.get(batch_id, number) < number or (
        number > 0 and has_ended_before(connection, batch_id, number)
    )
    if has_ended or is_other or batches[batch_id].kind != Kind.ENROLLMENTS:
        return ChunkOutcome.CONFLICT
    return ChunkOutcome.APPLIED


def _decide(connection: Connection, fresh: Sequence[_Fresh]) -> list[Applied]:
    """Decide the requests of all chunks together, and enter the chunks into the ledger."""
    if not fresh:
        return []
    requests = [each.requests() for each in fresh]
    times = fresh[0].times
    clock = Reading(times.now, times.latest)
    everything = [request for of_chunk in requests for request in of_chunk]
    decided = iter(add_enrollments(connection, everything, clock=clock).decided)
    applied, entries = [], []
    for each, of_chunk in zip(fresh, requests, strict=True):
        own = [next(decided) for _ in of_chunk]
        applied.append(_conclude(connection, each, own))
        lines = pack_lines(each.chunk)
        counts = applied[-1].counts
        entries.append(ledger_entry(each.chunk, each.fingerprint, counts, each.times.stored, lines))
    add_chunks(connection, sorted(entries, key=lambda entry: (entry["batch_id"], entry["number"])))
    return applied


def _conclude(connection: Connection, fresh: _Fresh, decided: Sequence[Decision]) -> Applied:
    """Store the refused lines of a chunk, and return what was done."""
    chunk = fresh.chunk
    counts = no_counts()
    add_to_counts(counts, decided, chunk.row_counts)
    counts["rejected"] += len(chunk.refused)
    counts["requests_rejected"] += len(chunk.refused)
    cells = dict(zip(chunk.lines or (), chunk.cells or (), strict=False))
    refusals = [refusal for decision in decided for refusal in refusals_of(decision, cells)]
    refusals += map(refusal_of_unread_line, chunk.refused)
    add_refusals(connection, chunk.batch_id, refusals)
    statuses = Counter(decision.result.status for decision in decided)
    statuses[ResultStatus.REJECTED] += len(chunk.refused)
    refused = Counter(refusal["code"] for refusal in refusals)
    return Applied(ChunkOutcome.APPLIED, chunk.batch_id, chunk.number, counts, statuses, refused)
