"""`enroll doctor`: findings for people and for health checks."""

import click
from rich.table import Table
from rich.text import Text

from producer.commands.checks import Finding, State, examine
from producer.commands.session import Session, with_session

FOUND = 1
EXIT_CODES = """
\b
Exit codes: 0 nothing is wrong, 1 something is, 2 wrong usage.
"""
EXAMPLES = """
\b
Examples:
  enroll doctor
  enroll doctor --strict --timeout 3
  enroll doctor --json | jq 'select(.state != "ok")'
"""
_COLORS = {State.OK: "green", State.WARNING: "yellow", State.WRONG: "red"}


@click.command(epilog=EXIT_CODES + EXAMPLES)
@click.option("--strict", is_flag=True, help="End with 1 for a warning too.")
@with_session
def doctor(session: Session, strict: bool) -> int:
    """Look at broker, queues, worker, clocks, versions and database, and say what to do.

    Looks from where it runs, and asks one worker how it finds the database. Where
    ENROLL_DATABASE_URL is set and the worker's part is installed, it looks there itself too. As
    the user `operator` of docs/redis-acl.conf it sees whether Redis may forget or evict.
    """
    bad = {State.WRONG, State.WARNING} if strict else {State.WRONG}
    found = []
    for finding in examine(session.client, session.broker_url, session.client.timeout):
        found.append(finding)
        if session.as_json:
            click.echo(finding.model_dump_json())
    if not session.as_json:
        session.out.print(_table(found))
    return FOUND if any(finding.state in bad for finding in found) else 0


def _table(found: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in found:
        state = Text(finding.state.value, style=_COLORS[finding.state])
        table.add_row(state, finding.check, Text(finding.found))
        if finding.remedy:
            table.add_row("", "", Text(f"-> {finding.remedy}", style="bold"))
    return table
