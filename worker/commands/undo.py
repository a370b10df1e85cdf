"""Implement `enroll undo`: end what a batch opened, and open what it ended."""

from datetime import datetime
from typing import Any

import click

from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.printable import moment_text, shell_argument
from producer.schemas import Action
from worker.commands.results import changing_results, present_clock
from worker.commands.session import (
    DATABASE,
    NO_DATABASE,
    confirmed,
    fail,
    print_json,
    print_message,
    print_table,
    with_database,
    yes_option,
)
from worker.database.engine import Database
from worker.undo.left import MAX_LEFT
from worker.undo.run import UndoReport, rehearse
from worker.undo.run import undo as undo_batch
from worker.undo.values import CannotUndo, LeftPair

UNDO_EPILOG = DATABASE + exit_codes(
    refused="the batch cannot be undone, or the answer was no; nothing was changed",
    unreachable=f"{NO_DATABASE}, or Redis cannot",
)
UNDO_EXAMPLES = """
\b
Examples:
  enroll undo nightly-7 --dry-run
  enroll undo nightly-7
  enroll undo undo:nightly-7 --yes
"""

_ROWS = {
    "dropped": "dropped: the batch had enrolled them",
    "enrolled": "enrolled again: the batch had dropped them",
    "superseded": "left: a later request wins",
    "not_enrolled": "already dropped",
    "already_enrolled": "already enrolled",
    "rejected": "refused",
}
"""The counts of an undo, and what the table calls them."""


@click.command(epilog=UNDO_EPILOG + UNDO_EXAMPLES)
@click.argument("batch_id", metavar="BATCH")
@click.option("--dry-run", is_flag=True, help="Show what would happen, and change nothing.")
@yes_option
@with_database
def undo(database: Database, batch_id: str, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Undo a batch of enrollments.

    Drops what the batch enrolled, and enrolls what it dropped. This counts one microsecond after
    the batch, so every request that counts later wins, whenever it arrives: a pair that such a
    request has confirmed or changed is left, and listed. If the batch is still running, it is
    stopped, and the rest of its lines is refused. Rosters are not undone. If the batch waits as a
    plan, the plan is discarded instead.

    \b
    The undo is a batch of its own, undo:BATCH. It is shown like any other,
    and can be undone as well. If the command is interrupted, run it again.

    On a terminal, the command first shows what it would do, and asks; elsewhere it needs --yes.
    """  # noqa: D301 - click's mark for a paragraph that is not folded
    clock = present_clock()

    def describe() -> None:
        _print_intent(rehearse(database, batch_id, clock=clock))

    try:
        if dry_run:
            report = rehearse(database, batch_id, clock=clock)
        elif not confirmed(yes, verb="changes anything", describe=describe):
            return ExitCode.REFUSED
        else:
            print_message(f"Undoing the batch {batch_id} ...")
            with changing_results() as remove_copies:
                report = undo_batch(database, batch_id, on_chunk=remove_copies, clock=clock)
    except CannotUndo as error:
        fail(str(error), ExitCode.REFUSED)
    if as_json:
        print_json(_as_json(report, dry_run=dry_run))
    else:
        _print_report(report, is_done=not dry_run)
    return ExitCode.DONE


def _print_intent(report: UndoReport) -> None:
    """Print what an undo would do, beside the data on standard output."""
    if report.discarded_plan is not None:
        _print_report(report, is_done=False)
        return
    counts = report.counts
    print_message(
        f"This drops {counts['dropped']:,} pairs that the batch {report.batch_id} enrolled, and"
        f" enrolls {counts['enrolled']:,} that it dropped. {counts['superseded']:,} pairs are left"
        " as they are, because later requests or snapshots win; --dry-run lists them."
    )


def _as_json(report: UndoReport, *, dry_run: bool) -> dict[str, Any]:
    return {
        "batch_id": report.batch_id,
        "undo_id": report.undo_id,
        "dry_run": dry_run,
        "counts": {name: report.counts[name] for name in _ROWS},
        "discarded_plan": report.discarded_plan,
        "left_to_snapshots": report.left_to_snapshots,
        "left": [pair._asdict() for pair in report.left],
    }


def _print_report(report: UndoReport, *, is_done: bool) -> None:
    if report.discarded_plan is not None:
        is_or_will = "was" if is_done else "would be"
        print_message(
            f"No part of the batch {report.batch_id} is applied yet. Its plan"
            f" {report.discarded_plan} {is_or_will} discarded instead."
        )
        return
    counts = report.counts
    shown = [
        (label, f"{counts[name]:,}")
        for name, label in _ROWS.items()
        if counts[name] or name in ("dropped", "enrolled", "superseded")
    ]
    if report.left_to_snapshots:
        left = ("of these: absent from a later snapshot", f"{report.left_to_snapshots:,}")
        shown.insert(list(dict(shown)).index(_ROWS["superseded"]) + 1, left)
    heading = "pairs" if is_done else "pairs, if undone"
    print_table(("", heading), shown, heading)
    if report.left:
        click.echo()
        print_table(_LEFT, map(_cells, report.left))
    if counts["superseded"] > MAX_LEFT:
        print_message(
            f"These are the first {MAX_LEFT} of {counts['superseded']:,} pairs that are left."
        )
    if is_done:
        print_message(
            f"The batch {report.undo_id} has undone {report.batch_id}. To undo that:"
            f" enroll undo {shell_argument(report.undo_id)}"
        )


_LEFT = ("student", "course", "left: it was", "at", "by request")
_DECIDED = {Action.DROP: "enrolled or confirmed", Action.ENROLL: "dropped"}
"""What the later request did, by what the undo asked for."""


def _cells(pair: LeftPair) -> tuple[str, str, str, str, str]:
    moment: datetime = pair.moment
    return (
        pair.student_sis_id,
        pair.course_sis_id,
        _DECIDED[pair.action],
        moment_text(moment),
        pair.request_id or "(pruned)",
    )
