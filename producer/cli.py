"""Define the command `enroll`: data on standard output, messages and progress on standard error.

The module of a command is imported when the command is used, so that help and completion are fast.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any

import click
from click.shell_completion import CompletionItem

from producer.commands.connection_options import before_commands, refuse_foreign_options
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.printable import printable
from producer.installation import how_to_install

COMMANDS = {
    "submit": ("submit", "Submit files or exports as batches: CSV, JSON Lines, Excel."),
    "formats": ("formats", "List the systems whose files are read as they are."),
    "request": ("request", "Enroll or drop one student, and wait for the result."),
    "status": ("status", "Show the status of a request or a batch."),
    "wait": ("status", "Wait until requests and batches have ended."),
    "plan": ("plan", "Show the report of a plan: what it would change, and why it waits."),
    "errors": ("queries", "Show the refusals of a batch by cause, or write them to a file."),
    "student": ("queries", "Show a student with their courses, or search for students."),
    "results": ("queries", "Show the results of a student's requests, newest first."),
    "history": ("history", "Show what happened to a student's enrollments, the latest first."),
    "who": ("history", "Show who is enrolled in a course, or was at a moment."),
    "doctor": ("doctor", "Check broker, worker and database, and advise what to do."),
    "up": ("up", "Run an embedded broker, database and worker until Ctrl-C."),
    "demo": ("demo", "Demonstrate the system with sample data, then stop."),
    "serve": ("serve", "Serve the HTTP front and its web page."),
    "schema": ("schema", "Print the contract for other languages."),
    "completion": ("completion", "Print the completion script for a shell."),
}
"""The module of each command in `producer.commands`, and its line in the list of commands."""

OPERATOR_LINES = {
    "batches": "List batches, newest first.",
    "database": "Show or change which database the workers of a Redis use.",
    "approve": "Let a held plan be applied.",
    "data-sets": "Create and list data sets, and say when snapshots are held.",
    "discard": "Discard a plan, so that it is never applied.",
    "dead-letters": "List, show, retry or discard what could not be processed.",
    "prune": "Remove what is older than an age.",
    "undo": "Undo a batch of enrollments.",
}
"""The lines of the operator's commands: without them, the list would have to load SQL."""

EXIT_CODES = exit_codes(
    refused="something was refused, is unknown, failed or is wrong",
    usage="wrong usage or settings, an unreadable file, or a batch id used for different records",
    unreachable="the broker, a worker or the database cannot be used, or a request is lost",
    cannot_finish="a batch cannot finish unless somebody acts",
    held="a submission waits for a decision",
)
EXAMPLES = """
\b
Examples:
  enroll demo
  enroll submit students.csv courses.csv enrollments.csv
  enroll student S1
"""


class _Commands(click.Group):
    """The producer's own commands, and the operator's commands if they are installed.

    The operator's commands are the entry points `enroll.commands`, which need SQL; a submitter
    does not need them.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's form
        """Return the names of all commands."""
        return [*COMMANDS, *_operator_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or None if there is no such command."""
        if cmd_name in COMMANDS:
            module = f"producer.commands.{COMMANDS[cmd_name][0]}"
            own: click.Command = resolve_name(f"{module}:{cmd_name}")
            return own
        entry_point = _operator_commands().get(cmd_name)
        try:
            command: click.Command | None = entry_point.load() if entry_point else None
        except ImportError as error:
            if ctx.resilient_parsing:
                return None  # During completion, an error message would disturb the shell.
            raise click.UsageError(
                f"`enroll {cmd_name}` works on the database and needs the extra worker, which is"
                f" not installed ({error}). Install it: {how_to_install('worker')}"
            ) from None
        return command

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the options before the command."""
        with _escaping_errors():
            return super().make_context(*args, **options)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, if it has all options before its name.

        Suggests the nearest commands if there is none with this name.
        """
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            names = self.list_commands(ctx)
            raise click.NoSuchCommand(error.command_name, possibilities=names, ctx=ctx) from None
        if name is not None and command is not None:
            refuse_foreign_options(ctx, name, command)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C ends every command in the same way."""
        try:
            with _escaping_errors():
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort) as error:
            # A question leaves the cursor in its line.
            line_end = "\n" if isinstance(error, click.Abort) else ""
            click.echo(f"{line_end}Interrupted.", err=True)
            sys.exit(ExitCode.INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])
        if names := _operator_commands():
            with formatter.section("Operator commands, which work on the database"):
                see = {name: f"See: enroll {name} --help" for name in names}
                formatter.write_dl([(name, OPERATOR_LINES.get(name, see[name])) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with `incomplete`; import no command."""
        lines = OPERATOR_LINES | {name: line for name, (_, line) in COMMANDS.items()}
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=lines.get(name)) for name in names), *options]


@contextmanager
def _escaping_errors() -> Iterator[None]:
    """Escape what an error of usage quotes, such as the name of a file."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise click.UsageError(printable(error.format_message()), error.ctx) from error


@cache
def _operator_commands() -> dict[str, EntryPoint]:
    """Return the operator's commands by name; to look for them reads a file of every package."""
    return {entry.name: entry for entry in sorted(entry_points(group="enroll.commands"))}


@click.group(
    cls=_Commands,
    epilog=EXIT_CODES + EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@before_commands
@click.version_option(package_name="enrollment-worker")
def enroll(**_connection: Any) -> None:
    """Enroll students in courses through the queue, and look up the results.

    The options about the connection may also follow the command.
    """
    # Reading a file creates millions of objects without cycles; looking for cycles would take
    # longer than reading. The command's module is loaded by now, so its objects are skipped too.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gc.enable()


def main() -> None:
    """Run the command line."""
    gc.disable()  # The imports of a command create no cycles; `enroll` enables it again.
    enroll(prog_name="enroll")
