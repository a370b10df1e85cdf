"""Implement `enroll prune`: remove what is older than an age."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.plans import PlanState
from producer.contract.printable import moment_text, shell_argument
from producer.fields import UNDO_PREFIX
from worker.commands.results import changing_results
from worker.commands.session import (
    DATABASE,
    NO_DATABASE,
    confirmed,
    print_json,
    print_message,
    print_table,
    with_database,
    yes_option,
)
from worker.database.engine import Database
from worker.retention import prune as retention

PRUNE_EPILOG = DATABASE + exit_codes(
    refused="nothing was removed, because the answer was no", unreachable=NO_DATABASE
)
PRUNE_EXAMPLES = """
\b
Examples:
  enroll prune --older-than 400d --dry-run
  enroll prune --older-than 400d
  enroll prune --older-than 400d --yes
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


@click.command(epilog=PRUNE_EPILOG + PRUNE_EXAMPLES)
@click.option(
    "--older-than",
    metavar="AGE",
    required=True,
    type=_Age(),
    help="An age in hours, days or weeks, for example 36h, 400d or 12w.",
)
@click.option("--dry-run", is_flag=True, help="Count what would be removed, and remove nothing.")
@yes_option
@with_database
def prune(
    database: Database, older_than: timedelta, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Remove what is older than an age.

    \b
    results           by the time at which the request was decided, and at which it counts
    past enrollments  by the time at which they ended
    batches           by the newest chunk, with all chunks and refused lines
    dead letters      by the time at which they last arrived
    plans             by the time at which they ended

    Enrollments and rosters are never removed. The id of a request whose result was removed counts
    as new if it is submitted again. Requests that count before the history that is left are refused
    from then on. Workers can keep running. On a terminal, the command first
    counts what it would remove, and asks; elsewhere it needs --yes.
    """  # noqa: D301 - click's mark for a paragraph that is not folded
    before = datetime.now(UTC) - older_than
    age = f"what is older than {moment_text(before)}"

    def describe() -> None:
        print_message(f"Counting {age} ...")
        _say_limit(database, before)
        counts = retention.prune(database, before, dry_run=True)
        listed = ", ".join(f"{_name(kind)} {count:,}" for kind, count in counts.items())
        print_message(f"This removes for good {age}: {listed}.")

    if not dry_run and not confirmed(yes, verb="removes anything", describe=describe):
        return ExitCode.REFUSED
    print_message(f"{'Counting' if dry_run else 'Removing'} {age} ...")
    if dry_run or yes:
        _say_limit(database, before)
    if dry_run:
        removed = retention.prune(database, before, dry_run=True)
    else:
        with changing_results() as remove_copies:
            removed = retention.prune(database, before, on_page=remove_copies)
    if as_json:
        print_json({"before": before, "dry_run": dry_run, "removed": removed})
    else:
        rows = [(_name(kind), f"{count:,}") for kind, count in removed.items()]
        heading = "would be removed" if dry_run else "removed"
        print_table(("", heading), rows, heading)
    return ExitCode.DONE


def _say_limit(database: Database, before: datetime) -> None:
    """Name the batch or the plan that keeps history from being removed, if there is one."""
    limit = retention.find_limit(database, before)
    if limit.plan_state is not None:
        print_message(
            f"The plan {limit.held_back_by} is not done and counts at {moment_text(limit.moment)}:"
            " results and past enrollments that count later stay, so that it is applied correctly."
            f" {_remedy_of_plan(limit.plan_state, shell_argument(limit.held_back_by or ''))}"
        )
    elif limit.held_back_by is not None:
        undone = limit.held_back_by.removeprefix(UNDO_PREFIX)
        word, is_undo = shell_argument(undone), undone != limit.held_back_by
        remedy = (
            f"Its undo was interrupted: run `enroll undo {word}` again, which goes on with it"
            if is_undo
            else "Resume it with `enroll submit --resume`; if it holds enrollments that are not"
            f" wanted, undo it (`enroll undo {word}`)"
        )
        print_message(
            f"The batch {limit.held_back_by} is not done and counts at {moment_text(limit.moment)}:"
            " results and past enrollments that count later stay, so that its missing lines are"
            f" decided correctly. {remedy}; or wait until it is older."
        )


def _remedy_of_plan(state: PlanState, word: str) -> str:
    """Return what an operator can do about a plan that is not done, by its state."""
    if state is PlanState.HELD:
        return (
            f"Approve or discard it (`enroll approve {word}`, `enroll discard {word}`), or wait"
            " until it expires."
        )
    if state is PlanState.STAGED:
        return (
            f"It waits for its chunks or its report: `enroll plan {word}` says more. Discard it if"
            f" it is not needed (`enroll discard {word}`), or wait until it expires."
        )
    return f"It is being applied: see how far it is with `enroll plan {word}`."


def _name(kind: str) -> str:
    return kind.replace("_", " ")
