"""Define `enroll plan`, which shows what a planned submission would do."""

import click

from producer.commands import plan_display
from producer.commands.output_files import Output, OutputFile
from producer.commands.package_ids import related_batches
from producer.commands.session import Session, with_session
from producer.commands.terminal import tell
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.plans import PlanState, PlanStatus
from producer.errors import DropsNotKnown
from producer.files.planned_drops import write_csv

PLAN_CODES = exit_codes(
    done="the plan is a dry run, is under way or is done",
    refused="lines would be or were refused, or the plan was discarded or is unknown; with"
    " --csv, also if it has no report",
    usage="wrong usage, or a file cannot be written",
    unreachable="the broker or a worker cannot be reached",
    held="the plan waits for a decision",
)
PLAN_EXAMPLES = """
\b
Examples:
  enroll plan night-2026-09-01
  enroll plan night-2026-09-01 --csv drops.csv
  enroll plan night-2026-09-01 --json | jq .absent
"""


@click.command(epilog=PLAN_CODES + PLAN_EXAMPLES)
@click.argument("plan_id", metavar="PLAN")
@click.option(
    "--csv",
    "csv_file",
    type=OutputFile(),
    help="Write every enrollment that the snapshot drops to a file, with names; an apostrophe"
    " stands before each cell that a spreadsheet would run as a formula.",
)
@with_session
def plan(session: Session, plan_id: str, csv_file: Output | None) -> int:
    """Show the report of a plan: what it would change, and why it waits.

    The id of a plan is that of its batch; for a package, that of its last batch.
    """
    status = session.client.plan(plan_id)
    if status.state is PlanState.UNKNOWN:
        related = related_batches(session.client, plan_id)
        tell(plan_display.meant(plan_id, related) or plan_display.unknown(plan_id))
        return ExitCode.REFUSED
    if csv_file is not None:
        try:
            with csv_file.opened() as file:
                count = write_csv(file, session.client.planned_drops(plan_id))
        except DropsNotKnown as error:
            tell(str(error))
            return ExitCode.REFUSED
        tell(f"Planned drops written to {csv_file.name}: {count:,}.")
        return ExitCode.DONE
    session.show(status, plan_display.plan(status))
    return exit_code(status)


def exit_code(status: PlanStatus) -> ExitCode:
    """Return the exit code for what a command reports about a plan."""
    if status.state is PlanState.HELD:
        return ExitCode.HELD
    is_refused = status.state in (PlanState.DISCARDED, PlanState.UNKNOWN)
    if is_refused or any(batch.books.rejected for batch in status.batches):
        return ExitCode.REFUSED
    return ExitCode.DONE
