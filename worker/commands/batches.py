"""`enroll batches`: list batches and where they stand."""

import json
from typing import Any

import click

from worker.batches.repository import newest_batches, refused_batches, sum_chunks
from worker.commands.session import EPILOG, print_table, tell, with_database
from worker.database.engine import Database
from worker.dead_letters.repository import count_dead_letters

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

    Of one that is unfinished, chunks wait in the queue, were lost with it, or are dead letters;
    `enroll status BATCH` says which. What still waits wholly in the queue is not among them.
    """
    with database.reading() as connection:
        ids = newest_batches(connection, limit, unfinished=unfinished)
        ledgers = {row.id: row for row in sum_chunks(connection, ids)}
        ids += refused_batches(connection, limit - len(ids))
        letters = count_dead_letters(connection, ids) if ids else {}
    found = [_batch(i, ledgers.get(i), letters.get(i, (0, ""))[0]) for i in ids]
    if as_json:
        for batch in found:
            click.echo(json.dumps(batch))
    elif found:
        print_table(tuple(found[0]), [tuple(batch.values()) for batch in found], "applied", "of")
    else:
        tell("There are no unfinished batches." if unfinished else "There are no batches.")
    return 0


def _batch(batch_id: str, ledger: Any | None, dead_letters: int) -> dict[str, Any]:
    """A line about a batch; `of` is how many chunks it has, unknown until the last one came."""
    if ledger is None:
        nothing = dict.fromkeys(("kind", "applied", "of", "rows", "rejected", "newest"))
        return {"batch": batch_id, "state": "unfinished", **nothing, "dead_letters": dead_letters}
    return {
        "batch": batch_id,
        "state": "done" if ledger.applied == ledger.chunks else "unfinished",
        "kind": ledger.kind,
        "applied": ledger.applied,
        "of": ledger.chunks,
        "rows": ledger.rows,
        "rejected": ledger.rejected,
        "newest": ledger.finished_at.isoformat(timespec="seconds"),
        "dead_letters": dead_letters,
    }
