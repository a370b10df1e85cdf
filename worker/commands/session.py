"""The operator's commands: batches, dead letters and retention, on the database itself.

The queue has no such commands: whoever can publish must not be able to discard evidence. Data on
standard output, talk on standard error; what strangers wrote is never sent to a terminal raw.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from worker import migrate
from worker.database.engine import Database
from worker.plain_text import printable
from worker.recovery.trial import TrialInterrupted
from worker.settings import SettingsError, load_database_url

REMAINS, USAGE, UNREACHABLE = 1, 2, 3
EXIT_CODES = """
\b
Exit codes: 0 all good, 1 a dead letter is not there or could not be retried,
2 wrong usage or settings, 3 the database is not reachable.
"""
DATABASE = "Acts on the database of ENROLL_DATABASE_URL, with the operator's rights."
EPILOG = DATABASE + "\n" + EXIT_CODES


def with_database(command: Callable[..., int]) -> Callable[..., None]:
    """Give a command the database, and make its exit code of what it returns."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON, a document a line.")
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with contextlib.closing(Database(load_database_url())) as database:
                if not migrate.is_current(database.engine):
                    fail(
                        "The database of ENROLL_DATABASE_URL lacks migrations;"
                        " run `python -m worker.migrate`.",
                        USAGE,
                    )
                code = command(database, *args, **kwargs)
        except SettingsError as error:
            fail(str(error), USAGE)
        except TrialInterrupted:
            fail("The database went away. What was done so far stays; run it again.", UNREACHABLE)
        except DBAPIError as error:
            said = str(error.orig).strip().splitlines()[:1] or [type(error.orig).__name__]
            fail(
                f"The database of ENROLL_DATABASE_URL did not answer: {said[0]}. Is it running, and"
                " is the URL right?",
                UNREACHABLE,
            )
        sys.exit(code)

    return run


def fail(sentence: str, code: int) -> NoReturn:
    click.echo(f"Error: {sentence}", err=True)
    sys.exit(code)


def tell(sentence: str) -> None:
    click.echo(sentence, err=True)


def safe_text(text: object) -> str:
    """Text of strangers, for a terminal: nothing in it moves a cursor or hides a letter."""
    return printable(str(text), keep="\n\t")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *right: str) -> None:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe_text("" if cell is None else cell)) for cell in row))
    console = Console(highlight=False)
    # A pipe has no width; lines for a program to read are not folded at 80 columns.
    (console if console.is_terminal else Console(highlight=False, width=200)).print(table)


def shown_moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
