"""Share what the operator's commands need: the database, exit codes, printing and questions.

These commands act on the database itself. The queue offers none of them, because a client must not
be able to discard dead letters. Data goes to standard output, messages go to standard error.
Text from clients is never printed to a terminal unescaped.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from producer.contract.connection_option import folder_option
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.printable import json_line, printable
from producer.contract.stack_folder import UnusableFolder
from worker import migrate
from worker.commands.location import find_location
from worker.database.engine import Database
from worker.database.errors import sentence_of
from worker.recovery.trial import TrialInterrupted
from worker.settings import SettingsError

DATABASE = (
    "Works directly on the database at ENROLL_DATABASE_URL, or on that of `enroll up`; run it as"
    " the operator."
)
NO_DATABASE = "the database cannot be used"
EPILOG = DATABASE + exit_codes(unreachable=NO_DATABASE)

limit_option = click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="List at most this many.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


def with_database(command: Callable[..., int]) -> Callable[..., None]:
    """Pass the database to a command, and exit with the code that it returns."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
    @folder_option
    @functools.wraps(command)
    def run(*args: Any, folder: Path | None, **kwargs: Any) -> None:
        where = "The database"
        try:
            location = find_location(click.get_current_context(), folder)
            where = location.name
            for sentence in location.notices:
                print_message(sentence)
            with contextlib.closing(Database(location.url)) as database:
                _require_migrations(database, where)
                code = command(database, *args, **kwargs)
        except (SettingsError, UnusableFolder) as error:
            fail(str(error), ExitCode.USAGE)
        except TrialInterrupted:
            fail(
                f"{where} became unavailable. What was done so far stays done; run the command"
                " again when the database is back.",
                ExitCode.UNREACHABLE,
            )
        except DBAPIError as error:
            fail(
                f"{where} cannot be used: {sentence_of(error)}. Check that it is running, that the"
                " URL is right, and that its user has the necessary privileges.",
                ExitCode.UNREACHABLE,
            )
        sys.exit(code)

    return run


def _require_migrations(database: Database, where: str) -> None:
    if not migrate.is_current(database.engine):
        fail(
            f"{where} and this version have different migrations. If the database is older, run"
            " `python -m worker.migrate`, or start `enroll up` if it is the database of that; if"
            " it is newer, install the newer version.",
            ExitCode.USAGE,
        )


def fail(sentence: str, code: ExitCode) -> NoReturn:
    """Print an error message and exit."""
    print_message(f"Error: {sentence}")
    sys.exit(code)


def print_message(sentence: str) -> None:
    """Print a message that is not data, in one line, on standard error."""
    click.echo(printable(sentence), err=True)


def print_json(data: Any) -> None:
    """Print data as one line of JSON."""
    click.echo(json_line(data))


def confirmed(yes: bool, *, verb: str, describe: Callable[[], None] = lambda: None) -> bool:
    """Return whether to do what cannot be undone; without `yes`, ask on the terminal.

    `describe` prints, before the question, what would be done. Raises UsageError if there is no
    terminal to ask on.
    """
    if yes:
        return True
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        command = click.get_current_context().command_path
        raise click.UsageError(
            f"`{command}` asks before it {verb}, and there is no terminal to ask on. If you are"
            " sure, run it again with --yes."
        )
    describe()
    if click.confirm("Continue?", err=True):
        return True
    print_message("Nothing was changed.")
    return False


def _is_terminal(stream: Any) -> bool:
    return stream is not None and bool(stream.isatty())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *right: str) -> None:
    """Print a table; the columns named in `right` are aligned to the right."""
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable("" if cell is None else str(cell))) for cell in row))
    console = Console(highlight=False)
    # A pipe has no width; do not fold lines at 80 columns that another program reads.
    (console if console.is_terminal else Console(highlight=False, width=200)).print(table)
