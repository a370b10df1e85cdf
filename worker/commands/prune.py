"""Implement `enroll prune`: remove what is older than an age."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from worker.commands.results import changing_results
from worker.commands.session import EPILOG, format_moment, print_message, print_table, with_database
from worker.database.engine import Database
from worker.retention import prune as retention

PRUNE_EXAMPLES = """
\b
Examples:
  enroll prune --older-than 400d --dry-run
  enroll prune --older-than 400d
"""


class _Age(click.ParamType[timedelta]):
    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        try:
            return retention.parse_age(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(epilog=EPILOG + PRUNE_EXAMPLES)
@click.option(
    "--older-than",
    metavar="AGE",
    required=True,
    type=_Age(),
    help="An age in hours, days or weeks, for example 36h, 400d or 12w.",
)
@click.option("--dry-run", is_flag=True, help="Count what would be removed, and remove nothing.")
@with_database
def prune(database: Database, older_than: timedelta, dry_run: bool, as_json: bool) -> int:
    """Remove results, batches and dead letters that are older than an age.

    \b
    results       by the time at which the request was decided
    batches       by the newest chunk, with all chunks and refused lines
    dead letters  by the time at which they last arrived

    Enrollments and rosters are never removed. The id of a request whose result was removed counts
    as new if it is submitted again. Workers can keep running.
    """  # noqa: D301 - click's mark for a paragraph that is not folded
    before = datetime.now(UTC) - older_than
    print_message(
        f"{'Counting' if dry_run else 'Removing'} what is older than {format_moment(before)} ..."
    )
    if dry_run:
        removed = retention.prune(database, before, dry_run=True)
    else:
        with changing_results() as remove_copies:
            removed = retention.prune(database, before, on_page=remove_copies)
    if as_json:
        click.echo(
            json.dumps({"before": before.isoformat(), "dry_run": dry_run, "removed": removed})
        )
    else:
        rows = [(kind.replace("_", " "), f"{count:,}") for kind, count in removed.items()]
        heading = "would be removed" if dry_run else "removed"
        print_table(("", heading), rows, heading)
    return 0
