"""Share what the operator's commands need: the database, exit codes and printing.

These commands act on the database itself. The queue offers none of them, because a client must not
be able to discard dead letters. Data goes to standard output, messages go to standard error.
Text from clients is never printed to a terminal unescaped.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from producer.contract.connection_option import folder_option
from producer.contract.printable import printable
from producer.contract.stack_folder import UnusableFolder
from worker import migrate
from worker.commands.location import find_location
from worker.database.engine import Database
from worker.database.errors import sentence_of
from worker.recovery.trial import TrialInterrupted
from worker.settings import SettingsError

REMAINS, USAGE, UNREACHABLE = 1, 2, 3
DATABASE = (
    "Works directly on the database at ENROLL_DATABASE_URL, or on that of `enroll up`; run it as"
    " the operator."
)
EPILOG = f"""{DATABASE}

\b
Exit codes: 0 success, 2 wrong usage or settings, 3 the database cannot be used.
"""
LETTERS_EPILOG = f"""{DATABASE}

\b
Exit codes: 0 success, 1 a dead letter does not exist or could not be retried,
2 wrong usage or settings, 3 the database cannot be used.
"""

limit_option = click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="List at most this many.",
)


def with_database(command: Callable[..., int]) -> Callable[..., None]:
    """Pass the database to a command, and exit with the code that it returns."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one document per line.")
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
            fail(str(error), USAGE)
        except TrialInterrupted:
            fail(
                f"{where} became unavailable. What was done so far stays done; run the command"
                " again when the database is back.",
                UNREACHABLE,
            )
        except DBAPIError as error:
            fail(
                f"{where} cannot be used: {sentence_of(error)}. Check that it is running, that the"
                " URL is right, and that its user has the necessary privileges.",
                UNREACHABLE,
            )
        sys.exit(code)

    return run


def _require_migrations(database: Database, where: str) -> None:
    if not migrate.is_current(database.engine):
        fail(
            f"{where} and this version have different migrations. If the database is older, run"
            " `python -m worker.migrate`, or start `enroll up` if it is the database of that; if"
            " it is newer, install the newer version.",
            USAGE,
        )


def fail(sentence: str, code: int) -> NoReturn:
    """Print an error message and exit."""
    click.echo(f"Error: {safe_text(sentence)}", err=True)
    sys.exit(code)


def print_message(sentence: str) -> None:
    """Print a message that is not data, on standard error."""
    click.echo(safe_text(sentence), err=True)


def safe_text(text: object) -> str:
    """Escape text from clients, so that it cannot move a terminal's cursor or hide letters."""
    return printable(str(text), keep="\n\t")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *right: str) -> None:
    """Print a table; the columns named in `right` are aligned to the right."""
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe_text("" if cell is None else cell)) for cell in row))
    console = Console(highlight=False)
    # A pipe has no width; do not fold lines at 80 columns that another program reads.
    (console if console.is_terminal else Console(highlight=False, width=200)).print(table)


def format_moment(moment: datetime) -> str:
    """Return a moment as text, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
