"""Report the status of batches: counts, refusals by cause, state and advice."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from producer.contract.batches import (
    AppliedChunks,
    BatchState,
    BatchStatus,
    Books,
    RefusalGroup,
)
from producer.contract.chunks import Tally
from producer.contract.file_forms import FileForm
from producer.contract.marks import AgedMark, SubmissionMark
from producer.schemas import CODE_MEANINGS, Code, Kind
from worker.answer_size import AnswerSize, fewer_ids
from worker.batches.causes import add_likely_causes
from worker.batches.counts import ROW_COUNTS
from worker.batches.members.repository import members_of_plans
from worker.batches.members.standing import Membership
from worker.batches.places.repository import find_places
from worker.batches.repository import (
    find_chunks,
    find_columns,
    find_kind,
    sum_chunks,
)
from worker.batches.state import (
    DeadChunks,
    Standing,
    batch_state,
    missing_chunks,
    relevant_mark,
    total_chunks,
)
from worker.batches.undone import advice_on_undone, batch_it_undoes, standing_of_undo
from worker.database.clock import database_time
from worker.database.engine import Database
from worker.dead_letters.repository import count_dead_chunks
from worker.intervals.undone.repository import Undo, find_undos
from worker.moments import Clock, own_clock
from worker.plain_text import waiting_for_database
from worker.refused_lines.repository import group_refusals

_WAITING = (BatchState.QUEUED, BatchState.RUNNING, BatchState.STALLED)

RefusalGroups = tuple[RefusalGroup, ...]


def batch_statuses(
    database: Database,
    batch_ids: Sequence[str],
    marks: Mapping[str, AgedMark],
    *,
    refusals: bool,
    with_files: bool = True,
    outage: str | None = None,
    waiting: int | None = None,
    clock: Clock = own_clock,
) -> list[BatchStatus]:
    """Return the status of batches, in order, with their refusals by cause if `refusals` is true.

    Without `with_files`, the columns and the forms of their files are left out. `outage` is the
    reason why work waits, or None. `waiting` is the number of chunks that wait. Before this call,
    first read the marks, then that number (see `batch_state`). Raises AnswerTooLarge.
    """
    size = AnswerSize(fewer_ids(len(batch_ids)))
    with database.reading() as connection:
        ledgers = {row.id: row for row in sum_chunks(connection, batch_ids)}
        files = _find_files(connection, ledgers if with_files else (), size)
        refused = [i for i, ledger in ledgers.items() if refusals and ledger.rejected]
        groups = {batch_id: refusal_groups(connection, batch_id) for batch_id in refused}
        dead = count_dead_chunks(connection, batch_ids)
        planned = members_of_plans(connection, batch_ids)
        undos = _find_undos(connection, batch_ids, ledgers)
        now = database_time(connection) or clock()
    statuses = []
    for batch_id in batch_ids:
        ledger = ledgers.get(batch_id)
        dead_chunks = DeadChunks(*dead.get(batch_id, ()))
        mark = relevant_mark(ledger, marks.get(batch_id))
        standing = batch_state(ledger, mark, dead_chunks, now, waiting)
        more = {"refusals": groups.get(batch_id, ()), **_file_of(files.get(batch_id))}
        if batch_id in planned:
            membership = Membership(*planned[batch_id])
            standing = membership.standing(standing, dead_chunks, now)
            mark = membership.mark(mark)
            more |= membership.fields(mark, with_files=with_files)
        standing = standing_of_undo(batch_id, standing, undos, now)
        more |= _undo_of(batch_id, undos.get(batch_id), standing)
        standing = _with_outage(standing, outage)
        status = _status(batch_id, ledger, mark, standing)
        statuses.append(status.model_copy(update=_missing(standing, dead_chunks) | more))
    return _within(size, add_likely_causes(database, statuses))


def _within(size: AnswerSize, statuses: list[BatchStatus]) -> list[BatchStatus]:
    """Return statuses that fit into an answer. Raises AnswerTooLarge if they do not."""
    for status in statuses:
        size.add(status)
    return statuses


def _find_files(
    connection: Connection, batch_ids: Iterable[str], size: AnswerSize
) -> dict[str, Any]:
    """Return the headers and forms of the files of batches, by batch. Raises AnswerTooLarge."""
    named, characters = find_columns(connection, batch_ids, size.left)
    if characters >= size.left:
        raise size.exceeded()
    return {row.id: row for row in named}


def _missing(standing: Standing, dead: DeadChunks) -> dict[str, Any]:
    """Return what happened to chunks that were not applied, as fields of a batch's status."""
    return {
        "chunks_lost": standing.lost,
        "chunks_failed": dead.failed,
        "failed_at": dead.failed_at,
        "conflicts": dead.conflicts,
    }


def _find_undos(
    connection: Connection, batch_ids: Sequence[str], ledgers: Mapping[str, Any]
) -> dict[str, Undo]:
    """Return the undos of batches, and of those that such batches undo, by the undone batch."""
    undone = {undone for batch_id in batch_ids if (undone := batch_it_undoes(batch_id)) is not None}
    stopped = {batch_id for batch_id, ledger in ledgers.items() if ledger.stopped_at}
    return find_undos(connection, undone | stopped)


def _undo_of(batch_id: str, undo: Undo | None, standing: Standing) -> dict[str, Any]:
    """Return what undid a batch, and what it undid, as fields of its status."""
    if standing.state is BatchState.UNKNOWN:
        return {}
    shown: dict[str, Any] = {"undoes": batch_it_undoes(batch_id)}
    if undo is None:
        return shown
    shown |= {"undone_by": undo.batch_id, "undone_at": undo.begun_at}
    if (advice := advice_on_undone(batch_id, undo, standing.state)) is not None:
        shown["advice"] = advice
    return shown


def _file_of(row: Any | None) -> dict[str, Any]:
    """Return the header and the form of a batch's file, as fields of its status."""
    if row is None:
        return {}
    return {
        "columns": row.columns and tuple(row.columns),
        "form": row.form and FileForm.model_validate(row.form, extra="ignore"),
    }


def _with_outage(standing: Standing, outage: str | None) -> Standing:
    """Explain why an unfinished batch waits, if the database refuses to work."""
    if outage is None or standing.lost or standing.state not in _WAITING:
        return standing
    return Standing(standing.state, waiting_for_database(outage))


def _status(
    batch_id: str, ledger: Any | None, aged: AgedMark | None, standing: Standing
) -> BatchStatus:
    mark = aged.mark if aged else SubmissionMark()
    if ledger is None:
        return BatchStatus(
            batch_id=batch_id,
            state=standing.state,
            advice=standing.advice,
            kind=mark.kind,
            submitted_at=mark.moment,
            books=Books(received=mark.tally.rows, not_applied=mark.tally.rows),
            requests=mark.tally.requests,
            chunks=total_chunks(None, aged),
            chunks_missing=missing_chunks(None, aged),
        )
    is_done = standing.state is BatchState.DONE
    # A batch that is done has received exactly what was applied, whatever its mark says.
    known = Tally() if is_done else mark.tally
    received = max(known.rows, 0 if is_done else ledger.rows_through, ledger.rows)
    speed = _rows_per_second(ledger)
    # The end of a batch that is discarded, or that waits for somebody, cannot be foreseen.
    goes_on = standing.state is BatchState.RUNNING and standing.advice is None
    return BatchStatus(
        batch_id=batch_id,
        state=standing.state,
        advice=standing.advice,
        kind=ledger.kind,
        file_name=ledger.file_name,
        submitter=ledger.submitter,
        data_set=ledger.data_set_name,
        submitted_at=ledger.submitted_at,
        books=books_of(ledger, received),
        requests=max(known.requests, 0 if is_done else ledger.requests_through, ledger.requests),
        requests_applied=ledger.requests,
        requests_rejected=ledger.requests_rejected,
        chunks=total_chunks(ledger, aged),
        chunks_applied=ledger.applied,
        chunks_missing=missing_chunks(ledger, aged),
        started_at=ledger.started_at,
        finished_at=ledger.finished_at if is_done else None,
        rows_per_second=speed,
        seconds_left=(received - ledger.rows) / speed if speed and goes_on else None,
    )


def _rows_per_second(ledger: Any) -> float | None:
    """Return the speed from the first chunk to the last; the first chunk itself is not counted."""
    seconds = (ledger.finished_at - ledger.started_at).total_seconds()
    if seconds <= 0:
        return None
    return float(ledger.rows * (ledger.applied - 1) / ledger.applied / seconds)


def recent_batch_ids(database: Database, limit: int) -> list[str]:
    """Return the newest batches, at most `limit`."""
    with database.reading() as connection:
        return [place.id for place in find_places(connection, None, limit)]


def applied_chunks(
    database: Database, batch_id: str, numbers: Sequence[int], mark: AgedMark | None = None
) -> AppliedChunks:
    """Return which of these chunks of a batch were applied, in order, and who claimed its id.

    If a chunk could not be processed, the batch may be corrected, so its id counts as unclaimed.
    """
    with database.reading() as connection:
        kind = find_kind(connection, batch_id)
        applied = find_chunks(connection, batch_id, numbers) if kind else {}
        dead = DeadChunks(*count_dead_chunks(connection, [batch_id]).get(batch_id, ()))
    return AppliedChunks(
        kind=Kind(kind) if kind else None,
        fingerprints=tuple(map(applied.get, numbers)),
        first_chunk=None if mark is None or dead.failed else mark.mark.first_chunk,
    )


def books_of(ledger: Any, received: int) -> Books:
    """Return the counts of a batch of which so many rows were received, from its ledger."""
    counts = {name: getattr(ledger, name) for name in ROW_COUNTS}
    return Books(received=received, not_applied=received - ledger.rows, **counts)


def refusal_groups(connection: Connection, batch_id: str) -> RefusalGroups:
    """Return the refusals of a batch, grouped by cause."""
    return tuple(
        RefusalGroup(
            code=Code(code),
            message=CODE_MEANINGS[Code(code)],
            count=count,
            first_lines=tuple(line for line, _ in first),
            example=first[0].message,
        )
        for code, count, first in group_refusals(connection, batch_id)
    )
