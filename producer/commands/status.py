"""Define `enroll status` and `enroll wait`, which report where requests and batches stand."""

from collections.abc import Mapping, Sequence

import click
from rich.console import RenderableType
from rich.live import Live

from producer.commands import display
from producer.commands.following import Follower, Status, exit_code, look_up, summary
from producer.commands.package_ids import parts_of_package
from producer.commands.session import Session, session_options, with_session
from producer.commands.terminal import one_line, tell
from producer.contract.batches import BatchStatus
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.schemas import RequestState

REDRAW_SECONDS = 0.5
LINE_SECONDS = 5.0
"""The longest pause between two look-ups, on a terminal and elsewhere."""
WAIT_SECONDS = 1.0
"""The longest pause of `enroll wait` between two look-ups."""

UNREACHABLE = "the broker or a worker cannot be reached"
CANNOT_FINISH = "a batch is stalled: it cannot finish unless somebody acts"
HELD = "a batch waits for a decision about its plan"
STATUS_CODES = exit_codes(
    refused="something was refused or discarded, or the id is unknown",
    unreachable=UNREACHABLE,
    cannot_finish=CANNOT_FINISH,
    held=HELD,
)
STATUS_EXAMPLES = """
\b
Examples:
  enroll status night-2026-09-01
  enroll status night-2026-09-01 --watch
  enroll status sis-2026-000123 --json
"""
WAIT_CODES = exit_codes(
    refused="something was refused or discarded, or an id is unknown",
    unreachable=f"{UNREACHABLE}, or the time is up",
    cannot_finish=CANNOT_FINISH,
    held=HELD,
)
WAIT_EXAMPLES = """
\b
Examples:
  enroll wait night-2026-09-01
  enroll wait sis-2026-000123 sis-2026-000124 --timeout 60
  enroll wait night-2026-09-01 --json | jq .books
"""


@click.command(epilog=STATUS_CODES + STATUS_EXAMPLES)
@click.argument("identity", metavar="ID")
@click.option(
    "--watch",
    is_flag=True,
    help="Go on until the request or batch has ended: on a terminal, redraw its status; elsewhere,"
    " print a line for each change.",
)
@with_session
def status(session: Session, identity: str, watch: bool) -> int:
    """Show the status of a request or a batch."""
    if watch:
        return _watch(session, identity)
    found = look_up(session.client, [identity])[identity]
    session.show(found, _layout(found))
    if found.state is RequestState.UNKNOWN and (hint := parts_of_package(session.client, identity)):
        tell(hint)
    return exit_code(found)


@click.command(epilog=WAIT_CODES + WAIT_EXAMPLES)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(0),
    help="The longest wait in seconds; by default there is no limit.",
)
@session_options("--answer-timeout")
def wait(session: Session, ids: Sequence[str], seconds: float | None) -> int:
    """Wait until requests and batches have ended.

    Nothing is printed meanwhile; at the end, a line for each of them says how it ended. If several
    exit codes apply, the command ends with the highest.
    """
    follower = Follower(session.client, ids)
    for _ in follower.follow(WAIT_SECONDS, seconds):
        pass
    code = ExitCode.DONE
    for identity, found in follower.statuses.items():
        session.show_line(found, one_line(f"{identity}: {summary(found)}"))
        code = max(code, exit_code(found))
    if follower.unfinished:
        tell(
            f"Error: After {seconds:g} s, {len(follower.unfinished):,} of {len(ids):,} have not"
            f" ended, the first of them {follower.unfinished[0]}. They continue by themselves;"
            " run the same command again to wait longer."
        )
        code = max(code, ExitCode.UNREACHABLE)
    return code


def _watch(session: Session, identity: str) -> int:
    """Show the status of a request or batch until it has ended; return the exit code."""
    follower = Follower(session.client, [identity])
    if session.as_json or not session.on_terminal:
        _print_changes(session, identity, follower)
        return exit_code(follower.statuses[identity])
    with Live(console=session.out, auto_refresh=False, transient=True) as live:
        for statuses in follower.follow(REDRAW_SECONDS):
            live.update(_layout(statuses[identity]), refresh=True)
    found = follower.statuses[identity]
    session.show(found, _layout(found))
    return exit_code(found)


def _print_changes(session: Session, identity: str, follower: Follower) -> None:
    """Print a line for each change."""
    last: Mapping[str, object] | None = None
    for statuses in follower.follow(LINE_SECONDS):
        found = statuses[identity]
        # Estimates differ each time, and are not a change.
        content = found.model_dump(exclude={"seconds_left", "rows_per_second"})
        if content != last:
            session.show_line(found, one_line(f"{identity}: {summary(found)}"))
        last = content


def _layout(found: Status) -> RenderableType:
    if isinstance(found, BatchStatus):
        return display.batch(found, timed=True)
    return display.request(found)
