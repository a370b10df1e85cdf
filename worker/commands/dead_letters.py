"""`enroll dead-letters`: list, show, retry and discard them."""

import base64
import functools
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import click

from worker.commands.session import (
    DATABASE,
    EPILOG,
    REMAINS,
    print_table,
    safe_text,
    shown_moment,
    tell,
    with_database,
)
from worker.database.engine import Database, transaction
from worker.dead_letters.repository import (
    delete_dead_letter,
    find_dead_letters,
    list_dead_letters,
    newest_dead_letter,
)
from worker.recovery.retry import CannotRetry, retry_letter

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

LETTER_ID = click.IntRange(1, 2**63 - 1)
FIELDS: Final = (
    "id", "reason", "form", "task", "request_id", "batch_id", "deliveries", "first_at", "last_at",
    "detail",
)  # fmt: skip


def _as_json(letter: Any) -> dict[str, Any]:
    data = {name: getattr(letter, name) for name in FIELDS}
    return {n: v.isoformat() if isinstance(v, datetime) else v for n, v in data.items()}


@click.group(epilog=DATABASE + "\n" + EXAMPLES)
def dead_letters() -> None:
    """See, try again or discard what could not be processed."""


@dead_letters.command("list", epilog=EPILOG + LIST_EXAMPLES)
@click.option("--after", metavar="ID", type=click.IntRange(0, 2**63 - 1), default=0, help="Go on.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many."
)
@with_database
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
        print_table(columns, map(_row, page), "id", "times", "bytes")
    if not found:
        tell("There are no dead letters." if not after else f"There are none after {after}.")
    if len(found) > limit:
        tell(f"There are more: enroll dead-letters list --after {page[-1].id}")
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
@with_database
def show(database: Database, letter_id: int, as_json: bool) -> int:
    """Show a dead letter whole: why it is one, and what it holds."""
    with database.reading() as connection:
        found = find_dead_letters(connection, only=letter_id)
    if not found:
        tell(f"There is no dead letter {letter_id}.")
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
        "first": shown_moment(letter.first_at),
        "last": shown_moment(letter.last_at),
    }
    click.echo(f"Dead letter {letter.id}")
    for name, value in about.items():
        if value is not None:
            click.echo(f"{name:<12}{safe_text(value)}")
    click.echo(f"\nDetail\n{safe_text(letter.detail.rstrip())}")
    how = "Content" if content is not None else "Content in base64"
    click.echo(f"\n{how}\n{safe_text(content) if content is not None else in_base64}")
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
@with_database
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
            outcome = retry_letter(database, letter_id)
        except CannotRetry as error:
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
    line = (
        json.dumps({"id": letter_id, **data}) if as_json else f"{letter_id}: {safe_text(sentence)}"
    )
    click.echo(line)


@dead_letters.command(epilog=EPILOG + DISCARD_EXAMPLES)
@click.argument("letters", metavar="ID...", nargs=-1, required=True, type=LETTER_ID)
@with_database
def discard(database: Database, letters: tuple[int, ...], as_json: bool) -> int:
    """Remove dead letters for good, with what they hold."""
    code = 0
    for letter_id in letters:
        gone = transaction(database, functools.partial(delete_dead_letter, letter_id=letter_id))
        sentence = "discarded" if gone else "there is no such dead letter"
        _tell(letter_id, {"discarded": gone}, sentence, as_json)
        code = code if gone else REMAINS
    return code
