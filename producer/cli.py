"""The command `enroll`: data on standard output, talk and progress on standard error.

A command's module is imported when the command is used, so that help and completion are quick.
"""

import gc
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name

import click
from click.shell_completion import CompletionItem

from producer.commands.exit_codes import EXIT_CODES

COMMANDS = {
    "submit": ("submit", "Submit CSV or JSON Lines files as batches."),
    "request": ("request", "Enroll one student in courses, and wait for the outcome."),
    "status": ("queries", "Say where a request or a batch stands."),
    "errors": ("queries", "Show or write what was refused of a batch."),
    "student": ("queries", "Show a student with courses."),
    "results": ("queries", "Show what became of a student's requests."),
    "doctor": ("doctor", "Look at broker, worker and database, and say what to do."),
    "up": ("up", "Keep an embedded broker, database and worker running."),
    "demo": ("demo", "Show it all with a sample, and stop."),
    "serve": ("serve", "Serve the HTTP front and its page for people."),
    "schema": ("schema", "Print the contract for other languages."),
    "completion": ("completion", "Print the script for completion in a shell."),
}
"""Each command's module in `producer.commands`, and its line in the list of commands."""

EXAMPLES = """
\b
Examples:
  enroll demo
  enroll submit students.csv courses.csv enrollments.csv
  enroll student S1
"""


class _Commands(click.Group):
    """The commands of the producer, and those that other installed parts bring.

    Theirs are the entry points `enroll.commands`: a submitter needs no SQL.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's form
        """The names of all."""
        return [*COMMANDS, *_brought()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; None if there is none."""
        if cmd_name in COMMANDS:
            module = f"producer.commands.{COMMANDS[cmd_name][0]}"
            own: click.Command = resolve_name(f"{module}:{cmd_name}")
            return own
        brought = _brought().get(cmd_name)
        try:
            command: click.Command | None = brought.load() if brought else None
        except ImportError as error:
            if ctx.resilient_parsing:
                return None  # A shell that completes is told nothing.
            raise click.UsageError(
                f"`enroll {cmd_name}` acts on the database, which needs another part:"
                f" pip install 'enrollment-worker[worker]' ({error})."
            ) from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the help's list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])
        if brought := _brought():
            with formatter.section("Commands of the operator, on the database"):
                formatter.write_dl([(name, f"See: enroll {name} --help") for name in brought])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What begins with what was typed; no command is imported for it."""
        lines = {name: line for name, (_, line) in COMMANDS.items()}
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=lines.get(name)) for name in names), *options]


def _brought() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group="enroll.commands"))}


@click.group(
    cls=_Commands,
    epilog=EXIT_CODES + EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="enrollment-worker")
def enroll() -> None:
    """Enroll students in courses through the queue, and ask what became of it."""
    # A file is millions of objects without a cycle; to look for one takes longer than to read.
    # This runs when the command's module is loaded, so that nothing of it is looked at either.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def main() -> None:
    """Run the command line."""
    enroll(prog_name="enroll")
