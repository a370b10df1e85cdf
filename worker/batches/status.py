"""Report where batches stand: counts, refusals by cause, state and advice."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from producer.contract.batches import AppliedChunks, BatchStatus, Books, RefusalGroup, RefusedRecord
from producer.contract.chunks import Tally
from producer.contract.marks import AgedMark, SubmissionMark
from producer.schemas import CODE_MEANINGS, Code, Kind
from worker.batches.repository import (
    find_chunks,
    find_columns,
    find_kind,
    find_refusals,
    group_refusals,
    sum_chunks,
)
from worker.database.engine import Database
from worker.dead_letters.repository import count_dead_letters
from worker.plain_text import printable

STALLED_SECONDS = 60.0
"""A batch for which nothing came for so long, and of which something is missing, stands still."""

RefusalGroups = tuple[RefusalGroup, ...]


def batch_statuses(
    database: Database,
    batch_ids: Sequence[str],
    submissions: Mapping[str, AgedMark],
    *,
    refusals: bool,
) -> list[BatchStatus]:
    """Where each batch stands, on request with its refusals by cause. Same order.

    The submissions must have been read before: what is applied was submitted by then.
    """
    with database.reading() as connection:
        ledgers = {row.id: row for row in sum_chunks(connection, batch_ids)}
        columns = find_columns(connection, ledgers)
        groups = {
            batch_id: _refusal_groups(connection, batch_id)
            for batch_id in ledgers
            if refusals and ledgers[batch_id].rejected
        }
        open_ = [i for i in batch_ids if i not in ledgers or not _adds_up(ledgers[i])]
        dead = count_dead_letters(connection, open_) if open_ else {}
    return [
        _warned(
            _batch_status(
                i,
                ledgers.get(i),
                submissions.get(i),
                columns.get(i),
                groups.get(i, ()),
                mixed=i in dead,
            ),
            *dead.get(i, (0, "")),
        )
        for i in batch_ids
    ]


def _adds_up(ledger: Any) -> bool:
    """All chunks are there, and as many rows as the last of them says."""
    return bool(ledger.applied == ledger.chunks and ledger.rows >= ledger.rows_through)


def _warned(status: BatchStatus, dead_letters: int, happened: str) -> BatchStatus:
    # They stay when what they held was mended and has come.
    if not dead_letters or not (status.chunks_missing or status.state in ("stalled", "unknown")):
        return status
    last = happened.strip().splitlines()[-1:] or [""]
    advice = (
        f"{dead_letters} of its chunks became dead letters ({printable(last[0])[:200]}). If they"
        " have not been mended since, mend and submit them again, or tell the operator."
        f" {status.advice or ''}"
    )
    state = "stalled" if status.state == "unknown" else status.state
    return status.model_copy(update={"state": state, "advice": advice.strip()})


def _batch_status(
    batch_id: str,
    ledger: Any | None,
    left: AgedMark | None,
    columns: Sequence[str] | None,
    refusals: RefusalGroups,
    *,
    mixed: bool,
) -> BatchStatus:
    """Where a batch stands; `mixed`: chunks of it are dead letters, perhaps of another content."""
    submission = left.submission if left else SubmissionMark()
    total = submission.chunks if submission.complete else None
    if ledger is None:
        return BatchStatus(
            batch_id=batch_id,
            kind=submission.kind,
            books=Books(received=submission.tally.rows, not_applied=submission.tally.rows),
            requests=submission.tally.requests,
            chunks=total,
            chunks_missing=submission.chunks,
            **_standing(left, None, total, whole=False),
        )
    total = ledger.chunks if ledger.chunks is not None else total
    missing = max(submission.chunks, ledger.known) - ledger.applied
    speed = _rows_per_second(ledger)
    whole = total is not None and not missing
    # Two contents, each cut in its own way, hold each other's places: every number is there, and
    # rows are missing. Where no chunk was refused, a publisher has only counted wrong.
    done = whole and (_adds_up(ledger) or not mixed)
    # Of a batch that is whole, what was applied is what was received.
    submitted = Tally() if done else submission.tally
    received = max(submitted.rows, 0 if done else ledger.rows_through, ledger.rows)
    requests = max(submitted.requests, 0 if done else ledger.requests_through, ledger.requests)
    return BatchStatus(
        batch_id=batch_id,
        kind=ledger.kind,
        columns=columns,
        books=Books(
            received=received,
            enrolled=ledger.enrolled,
            already_enrolled=ledger.already_enrolled,
            upserted=ledger.upserted,
            unchanged=ledger.unchanged,
            rejected=ledger.rejected,
            not_applied=received - ledger.rows,
        ),
        requests=requests,
        requests_applied=ledger.requests,
        requests_rejected=ledger.requests_rejected,
        chunks=total,
        chunks_applied=ledger.applied,
        chunks_missing=missing,
        refusals=refusals,
        started_at=ledger.started_at,
        finished_at=ledger.finished_at if done else None,
        rows_per_second=speed,
        seconds_left=(received - ledger.rows) / speed if speed and not done else None,
        **({"state": "done"} if done else _standing(left, ledger.finished_at, total, whole=whole)),
    )


def _standing(
    left: AgedMark | None, applied_at: datetime | None, total: int | None, *, whole: bool
) -> dict[str, Any]:
    """The state of a batch that is not done, and what to do if it stands still."""
    if left is None and applied_at is None:
        return {"state": "unknown"}
    if whole:
        return {
            "state": "stalled",
            "advice": "A chunk came for every place, but they do not belong together: two contents"
            " were submitted under this batch id, and rows of both are missing. Submit what is"
            " right under a new batch id: what is there already is not done twice.",
        }
    quiet = [] if left is None else [left.seconds_ago]
    if applied_at is not None:
        quiet.append((datetime.now(UTC) - applied_at).total_seconds())
    if min(quiet) < STALLED_SECONDS:
        return {"state": "running" if applied_at else "queued"}
    what = "the submitter stopped before the end" if total is None else "chunks are missing"
    return {
        "state": "stalled",
        "advice": f"Nothing came for {min(quiet):.0f} s, and {what}. See that a worker is running;"
        " if one is, submit the same again under this batch id (`enroll submit --resume` does):"
        " only what is missing is done.",
    }


def _rows_per_second(ledger: Any) -> float | None:
    """Over the time between the first and the last chunk, of which the first is no part."""
    seconds = (ledger.finished_at - ledger.started_at).total_seconds()
    if seconds <= 0:
        return None
    return float(ledger.rows * (ledger.applied - 1) / ledger.applied / seconds)


def applied_chunks(database: Database, batch_id: str, numbers: Sequence[int]) -> AppliedChunks:
    """Which of these chunks of a batch were applied. Same order."""
    with database.reading() as connection:
        kind = find_kind(connection, batch_id)
        found = find_chunks(connection, batch_id, numbers) if kind else {}
    return AppliedChunks(
        kind=Kind(kind) if kind else None, fingerprints=tuple(map(found.get, numbers))
    )


def refused_records(
    database: Database, batch_id: str, after: tuple[int, int], limit: int
) -> list[RefusedRecord]:
    """A batch's refusals with their records, by line, those behind a (line, id)."""
    with database.reading() as connection:
        rows = find_refusals(connection, batch_id, after, limit)
    return [
        RefusedRecord(
            id=row.id,
            line=row.line,
            code=Code(row.code),
            message=row.message,
            record=row.record,
            cells=None if row.cells is None else tuple(row.cells),
        )
        for row in rows
    ]


def _refusal_groups(connection: Connection, batch_id: str) -> RefusalGroups:
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
