"""Define `enroll up`, which runs the embedded stack until Ctrl-C."""

import os
import select
import shlex
import signal
import sys
from pathlib import Path

import click

from producer.commands.connection_options import key_prefix_option
from producer.commands.session import end_on_signals, fail
from producer.commands.terminal import tell
from producer.contract.connection_option import FOLDER_TYPE, ConnectionOption, is_given
from producer.contract.exit_codes import exit_codes
from producer.contract.stack_folder import FOLDER, given_folder, is_locked
from producer.embedded import stack
from producer.embedded.folder import BROKER_URL, PROCESSES_LOCK
from producer.embedded.starter import Contents
from producer.errors import EnrollmentError

LOOK_SECONDS = 1.0
"""How often to look whether the terminal and all parts of the stack are still there."""

EXIT_CODES = exit_codes(
    done="stopped with Ctrl-C",
    unreachable="the broker, the database or the worker could not be started",
    interrupted=None,
)
UP_EXAMPLES = """
\b
Examples:
  enroll up
  enroll up --http
  enroll up --folder /tmp/enroll-trial
"""


@click.command(epilog=EXIT_CODES + UP_EXAMPLES)
@click.option(
    "--folder",
    cls=ConnectionOption,
    envvar="ENROLL_FOLDER",
    show_envvar=True,
    type=FOLDER_TYPE,
    default=FOLDER,
    show_default=True,
    help="The folder for the data and the logs.",
)
@key_prefix_option
@click.option("--http", is_flag=True, help="Serve the HTTP front and its web page, too.")
@click.option(
    "--http-port",
    type=click.IntRange(1, 65535),
    help="The port of the page on 127.0.0.1; by default the last one, 8000, or a free one.",
)
@click.pass_context
def up(
    context: click.Context, folder: Path, key_prefix: str, http: bool, http_port: int | None
) -> None:
    """Run an embedded broker, database and worker until Ctrl-C.

    Only you can read the folder with the data. Other commands find the stack if they are started
    beside the folder .enroll or below, or with the same --folder.
    """
    end_on_signals()
    terminals = _terminals()
    given_prefix = key_prefix if key_prefix or is_given(context, "key_prefix") else None
    folder = given_folder(folder)
    try:
        with stack.running(
            folder,
            given_prefix,
            page=http or http_port is not None,
            page_port=http_port,
            notify=tell,
        ) as running:
            for sentence in _description(running):
                tell(sentence)
            while not _is_closed(terminals):
                running.check(LOOK_SECONDS)
        sys.exit(128 + signal.SIGHUP)
    except EnrollmentError as error:
        fail(error)
    except KeyboardInterrupt:
        # After a second Ctrl-C, the processes go on stopping without this one.
        tell("Stopping in the background." if is_locked(folder, PROCESSES_LOCK) else "Stopped.")


def _description(running: stack.Stack) -> list[str]:
    """Return what runs, what it found, and what to do with it, a sentence or two a line."""
    folder = running.folder
    lines = [
        f"Running at {running.shown_url}; data and logs are in {folder}/.",
        "The folder is new and empty."
        if running.contents.is_new
        else f"Found there: {_counts(running.contents)}.",
    ]
    if running.page_url is not None:
        who = "with a token" if os.environ.get("ENROLL_HTTP_TOKENS") else "on this machine"
        lines.append(f"The page is at {running.page_url} for everybody {who}.")
    if Path.cwd() != folder.parent or folder.name != FOLDER:
        lines.append(f"Other commands need --folder {shlex.quote(str(folder))} or ENROLL_FOLDER.")
    return [
        *lines,
        f"Other programs need the URL with its password; it is in {folder / BROKER_URL}.",
        f"The data stay there after the stop; to delete them: rm -r {shlex.quote(str(folder))}",
        "Try `enroll submit FILE` in a second terminal. Press Ctrl-C to stop.",
    ]


def _counts(contents: Contents) -> str:
    counts = (
        (contents.students, "student", "students"),
        (contents.courses, "course", "courses"),
        (contents.enrollments, "enrollment", "enrollments"),
        (contents.batches, "batch", "batches"),
    )
    *most, last = (f"{n:,} {singular if n == 1 else plural}" for n, singular, plural in counts)
    return f"{', '.join(most)} and {last}"


def _terminals() -> list[int]:
    """Return the standard files that are a terminal; none if this program is to outlive it."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return []
    return [file for file in range(3) if os.isatty(file)]


def _is_closed(terminals: list[int]) -> bool:
    """Return whether a terminal was closed; SIGHUP reaches only the programs in its foreground."""
    poll = select.poll()
    for file in terminals:
        poll.register(file, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
