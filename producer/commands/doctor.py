"""Define `enroll doctor`, which prints findings for people and for health checks."""

from itertools import chain

import click
from rich.table import Table
from rich.text import Text

from producer.commands.checks.examine import examine
from producer.commands.session import Session, with_session
from producer.commands.terminal import one_line, print_json
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.findings import Finding, State, warning
from producer.contract.keys import Keys

EXIT_CODES = exit_codes(done="nothing is wrong", refused="something is wrong")
EXAMPLES = """
\b
Examples:
  enroll doctor
  enroll doctor --strict --timeout 3
  enroll doctor --json | jq 'select(.state != "ok")'
"""
_ANOTHER_FOLDER = "If it is yours, correct this; or name the folder to use: --folder FOLDER."
_COLORS = {State.OK: "green", State.WARNING: "yellow", State.WRONG: "red"}


@click.command(epilog=EXIT_CODES + EXAMPLES)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@with_session
def doctor(session: Session, strict: bool) -> int:
    """Check broker, worker and database, and advise what to do.

    The checks run from this machine and include the queues, clocks and versions. One worker checks
    its database through its own connections: it writes and rolls back. If ENROLL_DATABASE_URL is
    set and the extra `worker` is installed, the database is also checked directly, and compared
    with the worker's. To check whether Redis can lose data, connect as the user `operator`
    of docs/redis-acl.conf.
    """
    bad_states = {State.WRONG, State.WARNING} if strict else {State.WRONG}
    findings = []
    broker = session.broker
    keys = Keys(broker.key_prefix)
    others = (warning("folder", sentence, _ANOTHER_FOLDER) for sentence in broker.ignored)
    for finding in chain(others, examine(session.client, broker.url, session.client.timeout, keys)):
        findings.append(finding)
        if session.as_json:
            print_json(finding)
    if not session.as_json:
        session.out.print(_table(findings))
    is_wrong = any(finding.state in bad_states for finding in findings)
    return ExitCode.REFUSED if is_wrong else ExitCode.DONE


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        state = Text(finding.state.value, style=_COLORS[finding.state])
        table.add_row(state, finding.check, finding.found)
        if finding.remedy:
            table.add_row("", "", one_line((f"-> {finding.remedy}", "bold")))
    return table
