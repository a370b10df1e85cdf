"""The operator's commands: batches, dead letters and retention, on the database itself.

The queue has no such commands: whoever can publish must not be able to discard evidence. Data on
standard output, talk on standard error; what strangers wrote is never sent to a terminal raw.
"""

import base64
import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from worker import migrate, recovery
from worker.database.engine import Database, transaction
from worker.dead_letters.repository import (
    count_dead_letters,
    delete_dead_letter,
    find_dead_letters,
    list_dead_letters,
    newest_dead_letter,
)
from worker.plain_text import printable
from worker.poison import TrialInterrupted
from worker.repository import newest_batches, refused_batches, sum_chunks
from worker.retention import prune as retention
from worker.settings import SettingsError, load_database_url

REMAINS, USAGE, UNREACHABLE = 1, 2, 3
EXIT_CODES = """
\b
Exit codes: 0 all good, 1 a dead letter is not there or could not be retried,
2 wrong usage or settings, 3 the database is not reachable.
"""
DATABASE = "Acts on the database of ENROLL_DATABASE_URL, with the operator's rights."
EPILOG = DATABASE + "\n" + EXIT_CODES
EXAMPLES = """
\b
Examples:
  enroll dead-letters list
  enroll dead-letters show 7
  enroll dead-letters retry --all
"""
LIST_EXAMPLES = """
\b
Examples:
  enroll dead-letters list
  enroll dead-letters list --after 50 --limit 50 --json
"""
SHOW_EXAMPLES = """
\b
Examples:
  enroll dead-letters show 7
  enroll dead-letters show 7 --json > letter-7.json
"""
RETRY_EXAMPLES = """
\b
Examples:
  enroll dead-letters retry 7 8
  enroll dead-letters retry --all
"""
DISCARD_EXAMPLES = """
\b
Examples:
  enroll dead-letters show 7
  enroll dead-letters discard 7
"""
BATCHES_EXAMPLES = """
\b
Examples:
  enroll batches
  enroll batches --unfinished --json
"""
PRUNE_EXAMPLES = """
\b
Examples:
  enroll prune --older-than 400d --dry-run
  enroll prune --older-than 400d
"""

LETTER_ID = click.IntRange(1, 2**63 - 1)
FIELDS: Final = (
    "id", "reason", "form", "task", "request_id", "batch_id", "deliveries", "first_at", "last_at",
    "detail",
)  # fmt: skip


def _with_database(command: Callable[..., int]) -> Callable[..., None]:
    """Give a command the database, and make its exit code of what it returns."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON, a document a line.")
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with contextlib.closing(Database(load_database_url())) as database:
                if not migrate.is_current(database.engine):
                    _fail(
                        "The database of ENROLL_DATABASE_URL lacks migrations;"
                        " run `python -m worker.migrate`.",
                        USAGE,
                    )
                code = command(database, *args, **kwargs)
        except SettingsError as error:
            _fail(str(error), USAGE)
        except TrialInterrupted:
            _fail("The database went away. What was done so far stays; run it again.", UNREACHABLE)
        except DBAPIError as error:
            said = str(error.orig).strip().splitlines()[:1] or [type(error.orig).__name__]
            _fail(
                f"The database of ENROLL_DATABASE_URL did not answer: {said[0]}. Is it running, and"
                " is the URL right?",
                UNREACHABLE,
            )
        sys.exit(code)

    return run


def _fail(sentence: str, code: int) -> NoReturn:
    click.echo(f"Error: {sentence}", err=True)
    sys.exit(code)


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


def _safe(text: object) -> str:
    """Text of strangers, for a terminal: nothing in it moves a cursor or hides a letter."""
    return printable(str(text), keep="\n\t")


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *right: str) -> None:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_safe("" if cell is None else cell)) for cell in row))
    console = Console(highlight=False)
    # A pipe has no width; lines for a program to read are not folded at 80 columns.
    (console if console.is_terminal else Console(highlight=False, width=200)).print(table)


def _as_json(letter: Any) -> dict[str, Any]:
    data = {name: getattr(letter, name) for name in FIELDS}
    return {n: v.isoformat() if isinstance(v, datetime) else v for n, v in data.items()}


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


@click.group(epilog=DATABASE + "\n" + EXAMPLES)
def dead_letters() -> None:
    """See, try again or discard what could not be processed."""


@dead_letters.command("list", epilog=EPILOG + LIST_EXAMPLES)
@click.option("--after", metavar="ID", type=click.IntRange(0, 2**63 - 1), default=0, help="Go on.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many."
)
@_with_database
def list_letters(database: Database, after: int, limit: int, as_json: bool) -> int:
    """List dead letters, the oldest first."""
    with database.reading() as connection:
        found = list_dead_letters(connection, after=after, limit=limit + 1)
    page = found[:limit]
    if as_json:
        for letter in page:
            click.echo(json.dumps({**_as_json(letter), "bytes": letter.size}))
    elif page:
        columns = ("id", "last", "times", "reason", "bytes", "task", "request or batch", "detail")
        _print_table(columns, map(_row, page), "id", "times", "bytes")
    if not found:
        _say("There are no dead letters." if not after else f"There are none after {after}.")
    if len(found) > limit:
        _say(f"There are more: enroll dead-letters list --after {page[-1].id}")
    return 0


def _row(letter: Any) -> tuple[object, ...]:
    about = letter.request_id or letter.batch_id
    # Of a traceback the last line says what happened.
    detail = letter.detail.strip().splitlines()[-1:] or [""]
    short = detail[0] if len(detail[0]) <= 100 else detail[0][:99] + "…"  # noqa: PLR2004 - a line
    last = f"{letter.last_at:%Y-%m-%d %H:%M}"
    size = f"{letter.size:,}"
    return letter.id, last, letter.deliveries, letter.reason, size, letter.task, about, short


@dead_letters.command(epilog=EPILOG + SHOW_EXAMPLES)
@click.argument("letter_id", metavar="ID", type=LETTER_ID)
@_with_database
def show(database: Database, letter_id: int, as_json: bool) -> int:
    """Show a dead letter whole: why it is one, and what it holds."""
    with database.reading() as connection:
        found = find_dead_letters(connection, only=letter_id)
    if not found:
        _say(f"There is no dead letter {letter_id}.")
        return REMAINS
    letter = found[0]
    content = _text(letter.content)
    in_base64 = "" if content is not None else base64.b64encode(letter.content).decode()
    if as_json:
        kept = {"content": content} if content is not None else {"content_base64": in_base64}
        click.echo(json.dumps({**_as_json(letter), "bytes": len(letter.content), **kept}))
        return 0
    about = {
        "reason": letter.reason,
        "form": f"{letter.form}, {len(letter.content):,} bytes",
        "task": letter.task,
        "request": letter.request_id,
        "batch": letter.batch_id,
        "deliveries": letter.deliveries,
        "first": _moment(letter.first_at),
        "last": _moment(letter.last_at),
    }
    click.echo(f"Dead letter {letter.id}")
    for name, value in about.items():
        if value is not None:
            click.echo(f"{name:<12}{_safe(value)}")
    click.echo(f"\nDetail\n{_safe(letter.detail.rstrip())}")
    how = "Content" if content is not None else "Content in base64"
    click.echo(f"\n{how}\n{_safe(content) if content is not None else in_base64}")
    return 0


def _text(content: bytes) -> str | None:
    """Content that is text; None if it is not."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if any(c < " " and c not in "\t\n\r" for c in text) else text


@dead_letters.command(epilog=EPILOG + RETRY_EXAMPLES)
@click.argument("letters", metavar="ID...", nargs=-1, type=LETTER_ID)
@click.option("--all", "everything", is_flag=True, help="All that are there now.")
@_with_database
def retry(database: Database, letters: tuple[int, ...], everything: bool, as_json: bool) -> int:
    """Do what dead letters ask for, and remove those that it went well for.

    Each in a transaction of its own, and once in effect: of two operators who retry the same one
    at once the second is told that it is gone. A letter that fails again stays.
    """
    if everything == bool(letters):
        raise click.UsageError("Give the ids of dead letters, or --all.")
    code = 0
    for letter_id in _all_ids(database) if everything else letters:
        try:
            outcome = recovery.retry(database, letter_id)
        except recovery.CannotRetry as error:
            code = REMAINS
            _tell(
                letter_id, {"retried": False, "why": str(error)}, f"not retried: {error}", as_json
            )
        else:
            _tell(letter_id, {"retried": True, "outcome": outcome}, outcome, as_json)
    return code


def _all_ids(database: Database) -> Iterator[int]:
    """Those that are there at the start, a page at a time; new ones are another day's work."""
    with database.reading() as connection:
        newest = newest_dead_letter(connection)
    after = 0
    while True:
        with database.reading() as connection:
            page = list_dead_letters(connection, after=after, through=newest)
        if not page:
            return
        yield from [letter.id for letter in page]
        after = page[-1].id


def _tell(letter_id: int, data: dict[str, Any], sentence: str, as_json: bool) -> None:
    line = json.dumps({"id": letter_id, **data}) if as_json else f"{letter_id}: {_safe(sentence)}"
    click.echo(line)


@dead_letters.command(epilog=EPILOG + DISCARD_EXAMPLES)
@click.argument("letters", metavar="ID...", nargs=-1, required=True, type=LETTER_ID)
@_with_database
def discard(database: Database, letters: tuple[int, ...], as_json: bool) -> int:
    """Remove dead letters for good, with what they hold."""
    code = 0
    for letter_id in letters:
        gone = transaction(database, functools.partial(delete_dead_letter, letter_id=letter_id))
        sentence = "discarded" if gone else "there is no such dead letter"
        _tell(letter_id, {"discarded": gone}, sentence, as_json)
        code = code if gone else REMAINS
    return code


@click.command(epilog=EPILOG + BATCHES_EXAMPLES)
@click.option("--unfinished", is_flag=True, help="Those only of which something is missing.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many."
)
@_with_database
def batches(database: Database, unfinished: bool, limit: int, as_json: bool) -> int:
    """List batches, the one that was worked on last first; then those wholly refused.

    Of one that is unfinished, chunks wait in the queue, were lost with it, or are dead letters;
    `enroll status BATCH` says which. What still waits wholly in the queue is not among them.
    """
    with database.reading() as connection:
        ids = newest_batches(connection, limit, unfinished=unfinished)
        ledgers = {row.id: row for row in sum_chunks(connection, ids)}
        ids += refused_batches(connection, limit - len(ids))
        letters = count_dead_letters(connection, ids) if ids else {}
    found = [_batch(i, ledgers.get(i), letters.get(i, (0, ""))[0]) for i in ids]
    if as_json:
        for batch in found:
            click.echo(json.dumps(batch))
    elif found:
        _print_table(tuple(found[0]), [tuple(batch.values()) for batch in found], "applied", "of")
    else:
        _say("There are no unfinished batches." if unfinished else "There are no batches.")
    return 0


def _batch(batch_id: str, ledger: Any | None, dead_letters: int) -> dict[str, Any]:
    """A line about a batch; `of` is how many chunks it has, unknown until the last one came."""
    if ledger is None:
        nothing = dict.fromkeys(("kind", "applied", "of", "rows", "rejected", "newest"))
        return {"batch": batch_id, "state": "unfinished", **nothing, "dead_letters": dead_letters}
    return {
        "batch": batch_id,
        "state": "done" if ledger.applied == ledger.chunks else "unfinished",
        "kind": ledger.kind,
        "applied": ledger.applied,
        "of": ledger.chunks,
        "rows": ledger.rows,
        "rejected": ledger.rejected,
        "newest": ledger.finished_at.isoformat(timespec="seconds"),
        "dead_letters": dead_letters,
    }


class _Age(click.ParamType[timedelta]):
    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        try:
            return retention.parse_age(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(epilog=EPILOG + PRUNE_EXAMPLES)
@click.option(
    "--older-than",
    metavar="AGE",
    required=True,
    type=_Age(),
    help="In hours, days or weeks: 36h, 400d, 12w.",
)
@click.option("--dry-run", is_flag=True, help="Count the same, and remove nothing.")
@_with_database
def prune(database: Database, older_than: timedelta, dry_run: bool, as_json: bool) -> int:
    """Remove results, ledgers and dead letters that are older than an age.

    \b
    results       by the moment at which the request was decided
    batches       with chunks and refused lines, when the newest chunk is older
    dead letters  by the moment at which they came last

    Enrollments and rosters stay. What is removed is unknown: a request id of it that comes again
    is a new request. Workers may go on meanwhile.
    """  # noqa: D301 - click's mark for a paragraph that is not folded
    before = datetime.now(UTC) - older_than
    _say(f"{'Counting' if dry_run else 'Removing'} what is older than {_moment(before)} ...")
    removed = retention.prune(database, before, dry_run=dry_run)
    if as_json:
        click.echo(
            json.dumps({"before": before.isoformat(), "dry_run": dry_run, "removed": removed})
        )
    else:
        rows = [(kind.replace("_", " "), f"{count:,}") for kind, count in removed.items()]
        name = "would be removed" if dry_run else "removed"
        _print_table(("", name), rows, name)
    return 0
