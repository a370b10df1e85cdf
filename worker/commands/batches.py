"""`enroll batches`: list batches and where they stand."""

import json
from datetime import UTC, datetime
from typing import Any

import click
from sqlalchemy import Connection

from producer.contract.batches import BatchState
from worker.batches.repository import newest_batches, refused_batches, sum_chunks
from worker.batches.state import DeadChunks, batch_state
from worker.commands.session import EPILOG, print_table, tell, with_database
from worker.database.engine import Database
from worker.dead_letters.repository import count_dead_chunks

Row = dict[str, Any]

BATCHES_EXAMPLES = """
\b
Examples:
  enroll batches
  enroll batches --unfinished --json
"""


@click.command(epilog=EPILOG + BATCHES_EXAMPLES)
@click.option("--unfinished", is_flag=True, help="Those only of which something is missing.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many."
)
@with_database
def batches(database: Database, unfinished: bool, limit: int, as_json: bool) -> int:
    """List batches, the one that was worked on last first; then those wholly refused.

    One that is not done has chunks that wait in the queue, were lost with it, or are dead letters;
    `enroll status BATCH` says which. A batch that waits wholly in the queue is not listed.
    """
    with database.reading() as connection:
        found = _newest(connection, limit, unfinished=unfinished)
        refused = refused_batches(connection, limit - len(found))
        dead = count_dead_chunks(connection, refused) if refused else {}
    found += [_row(batch_id, None, DeadChunks(*dead[batch_id])) for batch_id in refused]
    if as_json:
        for row in found:
            click.echo(json.dumps(row))
    elif found:
        print_table(tuple(found[0]), [tuple(row.values()) for row in found], "applied", "of")
    else:
        tell("There are no unfinished batches." if unfinished else "There are no batches.")
    return 0


def _newest(connection: Connection, limit: int, *, unfinished: bool) -> list[Row]:
    """Return the newest batches of the ledger, on request only those that are not done."""
    found: list[Row] = []
    offset = 0
    while len(found) < limit:
        ids = newest_batches(connection, limit, offset, perhaps_unfinished=unfinished)
        if not ids:
            break
        offset += len(ids)
        ledgers = {row.id: row for row in sum_chunks(connection, ids)}
        dead = count_dead_chunks(connection, ids)
        rows = [_row(i, ledgers[i], DeadChunks(*dead.get(i, ()))) for i in ids]
        found += [row for row in rows if not (unfinished and row["state"] == BatchState.DONE)]
    return found[:limit]


def _row(batch_id: str, ledger: Any | None, dead: DeadChunks) -> Row:
    """Return a line about a batch; `of` is how many chunks it has, unknown until the last came."""
    state = batch_state(ledger, None, dead, datetime.now(UTC)).state
    if ledger is None:
        nothing = dict.fromkeys(("kind", "applied", "of", "rows", "rejected", "newest"))
        return {"batch": batch_id, "state": state, **nothing, "dead_letters": dead.letters}
    return {
        "batch": batch_id,
        "state": state,
        "kind": ledger.kind,
        "applied": ledger.applied,
        "of": ledger.chunks,
        "rows": ledger.rows,
        "rejected": ledger.rejected,
        "newest": ledger.finished_at.isoformat(timespec="seconds"),
        "dead_letters": dead.letters,
    }
