"""Implement `enroll batches`: list batches with their states."""

from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import click
from sqlalchemy import Connection

from producer.contract.batches import BatchState
from producer.contract.exit_codes import ExitCode
from producer.contract.headers import UNKNOWN_ORIGIN, BatchOrigin
from producer.contract.printable import moment_text
from worker.batches.members.repository import members_of_plans
from worker.batches.members.standing import Membership
from worker.batches.places.repository import (
    ended_plans,
    newest_batches,
    refused_batches,
    waiting_batches,
)
from worker.batches.repository import find_origins, sum_chunks
from worker.batches.state import DeadChunks, Standing, batch_state
from worker.commands.session import (
    EPILOG,
    limit_option,
    print_json,
    print_message,
    print_table,
    with_database,
)
from worker.database.clock import database_time
from worker.database.engine import Database
from worker.dead_letters.repository import count_dead_chunks

Row = dict[str, Any]

HEADINGS = (
    "batch", "state", "kind", "file", "submitter", "chunks applied", "chunks in all", "rows",
    "rejected", "newest chunk", "dead letters", "conflicts",
)  # fmt: skip
"""The headings of the table, in the order of the fields of a row."""
NUMBERS = ("chunks applied", "chunks in all", "rows", "rejected", "dead letters", "conflicts")

FINISHED = (BatchState.DONE, BatchState.DISCARDED)
"""The states of batches with applied chunks that need nothing any more."""

BATCHES_EXAMPLES = """
\b
Examples:
  enroll batches
  enroll batches --unfinished --json
"""


@click.command(epilog=EPILOG + BATCHES_EXAMPLES)
@click.option("--unfinished", is_flag=True, help="List only batches that are not done.")
@limit_option
@with_database
def batches(database: Database, unfinished: bool, limit: int, as_json: bool) -> int:
    """List batches, newest first.

    Batches that are being planned, or wait for a decision, come first; those whose chunks are all
    dead letters come last. Dry runs and discarded plans are listed as well, although nothing of
    them was applied. A batch that is not done has chunks that
    wait in the queue, were lost with the queue, or became dead letters; `enroll status BATCH` says
    which. A batch is listed once its first chunk has been applied or has become a dead letter. A
    conflict is a refused chunk of a different submission under the same batch id; the batch itself
    can still be done. The file and the submitter are what the client wrote into its messages;
    nothing checks them.
    """
    with database.reading() as connection:
        rows = _planned(connection, waiting_batches(connection, limit))
        rows += _newest(connection, limit - len(rows), unfinished=unfinished)
        refused = refused_batches(connection, limit - len(rows))
        dead = count_dead_chunks(connection, refused) if refused else {}
        now = _now(connection)
    rows += [
        _row(batch_id, None, UNKNOWN_ORIGIN, DeadChunks(*dead.get(batch_id, ())), now)
        for batch_id in refused
    ]
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        print_table(HEADINGS, map(_cells, rows), *NUMBERS)
    else:
        print_message("There are no unfinished batches." if unfinished else "There are no batches.")
    return ExitCode.DONE


def _cells(row: Row) -> list[object]:
    return [moment_text(cell) if isinstance(cell, datetime) else cell for cell in row.values()]


def _planned(connection: Connection, ids: list[str]) -> list[Row]:
    """Return these batches, of which only a plan exists and nothing is applied."""
    dead, now = count_dead_chunks(connection, ids), _now(connection)
    planned = members_of_plans(connection, ids)
    rows = []
    for batch_id in ids:
        membership = Membership(*planned[batch_id])
        letters = DeadChunks(*dead.get(batch_id, ()))
        unknown = Standing(BatchState.UNKNOWN)
        rows.append(_planned_row(membership, unknown, letters, now))
    return rows


def _planned_row(membership: Membership, applied: Standing, dead: DeadChunks, now: datetime) -> Row:
    member = membership.member
    return {
        "batch": member.batch_id,
        "state": membership.standing(applied, dead, now).state,
        "kind": member.kind,
        "file": member.file_name,
        "submitter": member.submitter,
        "applied": 0,
        "of": member.chunks,
        "rows": member.rows,
        "rejected": None,
        "newest": member.staged_at,
        "dead_letters": dead.failed + dead.conflicts,
        "conflicts": dead.conflicts,
    }


def _newest(connection: Connection, limit: int, *, unfinished: bool) -> list[Row]:
    """Return the newest batches in the ledger; with `unfinished`, only those that are not done."""
    listed: list[Row] = []
    offset = 0
    while len(listed) < limit:
        ids = newest_batches(connection, limit, offset, incomplete_only=unfinished)
        if not ids:
            break
        offset += len(ids)
        ledgers = {row.id: row for row in sum_chunks(connection, ids)}
        dead = count_dead_chunks(connection, ids)
        origins = find_origins(connection, ids)
        planned = members_of_plans(connection, ids)
        now = _now(connection)
        for batch_id in (i for i in ids if i in ledgers):
            letters = DeadChunks(*dead.get(batch_id, ()))
            origin = origins.get(batch_id, UNKNOWN_ORIGIN)
            row = _row(batch_id, ledgers[batch_id], origin, letters, now)
            if batch_id in planned:
                membership = Membership(*planned[batch_id])
                row["state"] = membership.standing(Standing(row["state"]), letters, now).state
            if not (unfinished and row["state"] in FINISHED):
                listed.append(row)
    if not unfinished:
        listed += _planned(connection, ended_plans(connection, limit))
        listed.sort(key=itemgetter("newest"), reverse=True)
    return listed[:limit]


def _now(connection: Connection) -> datetime:
    return database_time(connection) or datetime.now(UTC)


def _row(
    batch_id: str, ledger: Any | None, origin: BatchOrigin, dead: DeadChunks, now: datetime
) -> Row:
    """Return a row of the list; `of` is the number of chunks, None until the last one arrives."""
    state = batch_state(ledger, None, dead, now).state
    letters = {"dead_letters": dead.failed + dead.conflicts, "conflicts": dead.conflicts}
    counts = ("applied", "of", "rows", "rejected", "newest")
    if ledger is None:
        unknown = dict.fromkeys(("kind", "file", "submitter", *counts))
        return {"batch": batch_id, "state": state, **unknown, **letters}
    return {
        "batch": batch_id,
        "state": state,
        "kind": ledger.kind,
        "file": origin.file_name,
        "submitter": origin.submitter,
        "applied": ledger.applied,
        "of": ledger.chunks,
        "rows": ledger.rows,
        "rejected": ledger.rejected,
        "newest": ledger.finished_at,
        **letters,
    }
