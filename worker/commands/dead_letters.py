"""Implement `enroll dead-letters`: list, show, retry and discard them."""

import base64
import functools
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.printable import moment_text, printable
from worker.commands.results import changing_results, present_clock
from worker.commands.session import (
    DATABASE,
    EPILOG,
    NO_DATABASE,
    confirmed,
    limit_option,
    print_json,
    print_message,
    print_table,
    with_database,
    yes_option,
)
from worker.database.engine import Database, transaction
from worker.dead_letters.repository import (
    delete_dead_letter,
    find_dead_letters,
    list_dead_letters,
    newest_dead_letter,
    summarize_dead_letters,
)
from worker.recovery.retry import CannotRetry, retry_letter

UNKNOWN = "a dead letter does not exist"
SHOW_EPILOG = DATABASE + exit_codes(refused=UNKNOWN, unreachable=NO_DATABASE)
RETRY_EPILOG = DATABASE + exit_codes(
    refused=f"{UNKNOWN} or could not be retried", unreachable=NO_DATABASE
)
DISCARD_EPILOG = DATABASE + exit_codes(
    refused=f"{UNKNOWN}, or nothing was deleted, because the answer was no",
    unreachable=NO_DATABASE,
)
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
  enroll dead-letters discard 7 8 --yes
"""

LETTER_ID = click.IntRange(1, 2**63 - 1)
SHOWN = 20
"""How many of the dead letters that would be deleted are shown."""
FIELDS: Final = (
    "id", "reason", "form", "task", "request_id", "batch_id", "deliveries", "first_at", "last_at",
    "detail",
)  # fmt: skip


def _as_json(letter: Any) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in FIELDS}


@click.group(epilog=DATABASE + "\n" + EXAMPLES)
def dead_letters() -> None:
    """List, show, retry or discard what could not be processed."""


@dead_letters.command("list", epilog=EPILOG + LIST_EXAMPLES)
@click.option(
    "--after",
    metavar="ID",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    help="List only dead letters whose id is higher.",
)
@limit_option
@with_database
def list_letters(database: Database, after: int, limit: int, as_json: bool) -> int:
    """List dead letters, oldest first."""
    with database.reading() as connection:
        letters = list_dead_letters(connection, after=after, limit=limit + 1)
    page = letters[:limit]
    if as_json:
        for letter in page:
            print_json({**_as_json(letter), "bytes": letter.size})
    elif page:
        columns = ("id", "last", "times", "reason", "bytes", "task", "request or batch", "detail")
        print_table(columns, map(_row, page), "id", "times", "bytes")
    if not letters:
        print_message(f"There are no dead letters{f' after {after}' if after else ''}.")
    if len(letters) > limit:
        print_message(f"There are more: enroll dead-letters list --after {page[-1].id}")
    return ExitCode.DONE


def _row(letter: Any) -> tuple[object, ...]:
    request_or_batch = letter.request_id or letter.batch_id
    # The last line of a traceback has the error.
    detail = (letter.detail.strip().splitlines() or [""])[-1]
    if len(detail) > 100:  # noqa: PLR2004 - what fits a line
        detail = detail[:99] + "…"
    return (
        letter.id,
        moment_text(letter.last_at),
        letter.deliveries,
        letter.reason,
        f"{letter.size:,}",
        letter.task,
        request_or_batch,
        detail,
    )


@dead_letters.command(epilog=SHOW_EPILOG + SHOW_EXAMPLES)
@click.argument("letter_id", metavar="ID", type=LETTER_ID)
@with_database
def show(database: Database, letter_id: int, as_json: bool) -> int:
    """Show one dead letter with its whole content."""
    with database.reading() as connection:
        letters = find_dead_letters(connection, only=letter_id)
    if not letters:
        print_message(f"There is no dead letter {letter_id}. List them: enroll dead-letters list")
        return ExitCode.REFUSED
    letter = letters[0]
    content = _text(letter.content)
    in_base64 = "" if content is not None else base64.b64encode(letter.content).decode()
    if as_json:
        whole = {"content": content} if content is not None else {"content_base64": in_base64}
        print_json({**_as_json(letter), "bytes": len(letter.content), **whole})
        return ExitCode.DONE
    fields = {
        "reason": letter.reason,
        "form": f"{letter.form}, {len(letter.content):,} bytes",
        "task": letter.task,
        "request": letter.request_id,
        "batch": letter.batch_id,
        "deliveries": letter.deliveries,
        "first": moment_text(letter.first_at),
        "last": moment_text(letter.last_at),
    }
    click.echo(f"Dead letter {letter.id}")
    for name, value in fields.items():
        if value is not None:
            click.echo(f"{name:<12}{printable(str(value))}")
    click.echo(f"\nDetail\n{_lines(letter.detail.rstrip())}")
    heading = "Content" if content is not None else "Content in base64"
    click.echo(f"\n{heading}\n{_lines(content if content is not None else in_base64)}")
    return ExitCode.DONE


def _lines(text: str) -> str:
    """Return a text of several lines, indented, so that none can be taken for one of ours."""
    return textwrap.indent(printable(text, keep="\n\t"), "  ")


def _text(content: bytes) -> str | None:
    """Return the content as text; None if it is not text."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if any(c < " " and c not in "\t\n\r" for c in text) else text


@dead_letters.command(epilog=RETRY_EPILOG + RETRY_EXAMPLES)
@click.argument("letters", metavar="ID...", nargs=-1, type=LETTER_ID)
@click.option(
    "--all", "everything", is_flag=True, help="Retry all dead letters that are stored now."
)
@with_database
def retry(database: Database, letters: tuple[int, ...], everything: bool, as_json: bool) -> int:
    """Process dead letters again, and remove those that succeed.

    Each dead letter is retried in its own transaction and takes effect only once: if two operators
    retry the same one at the same time, the second gets an error. One that fails again stays.
    """
    if everything == bool(letters):
        raise click.UsageError("Name the ids of dead letters, or use --all, but not both.")
    code = ExitCode.DONE
    clock = present_clock()
    with changing_results() as remove_copies:
        for letter_id in _all_ids(database) if everything else letters:
            remove_copies()
            try:
                outcome = retry_letter(database, letter_id, clock=clock)
            except CannotRetry as error:
                code = ExitCode.REFUSED
                data = {"retried": False, "why": str(error)}
                _print_result(letter_id, data, f"retry failed: {error}", as_json)
            else:
                _print_result(letter_id, {"retried": True, "outcome": outcome}, outcome, as_json)
    return code


def _all_ids(database: Database) -> Iterator[int]:
    """Yield the ids of all letters stored at the start, page by page; leave out later ones."""
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


def _print_result(letter_id: int, data: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        print_json({"id": letter_id, **data})
    else:
        click.echo(f"{letter_id}: {printable(sentence)}")


@dead_letters.command(epilog=DISCARD_EPILOG + DISCARD_EXAMPLES)
@click.argument("letters", metavar="ID...", nargs=-1, required=True, type=LETTER_ID)
@yes_option
@with_database
def discard(database: Database, letters: tuple[int, ...], yes: bool, as_json: bool) -> int:
    """Delete dead letters and their content for good.

    On a terminal, the command first shows what it would delete, and asks; elsewhere it needs --yes.
    """
    if not confirmed(
        yes, verb="deletes anything", describe=lambda: _describe_discard(database, letters)
    ):
        return ExitCode.REFUSED
    code = ExitCode.DONE
    for letter_id in letters:
        discarded = transaction(
            database, functools.partial(delete_dead_letter, letter_id=letter_id)
        )
        gone = "there is no such dead letter; it may have been retried, discarded or pruned"
        sentence = "discarded" if discarded else gone
        _print_result(letter_id, {"discarded": discarded}, sentence, as_json)
        code = code if discarded else ExitCode.REFUSED
    return code


def _describe_discard(database: Database, letter_ids: Sequence[int]) -> None:
    """Print how many dead letters would be deleted, and the first of them."""
    with database.reading() as connection:
        letters = summarize_dead_letters(connection, letter_ids)
    print_message(f"This deletes dead letters for good, with their content: {len(letters):,}")
    for letter in letters[:SHOWN]:
        belongs_to = letter.request_id or letter.batch_id
        of = f", of {belongs_to}" if belongs_to else ""
        when = moment_text(letter.last_at)
        print_message(f"  {letter.id}: {letter.reason}, {letter.size:,} bytes, last {when}{of}")
    if len(letters) > SHOWN:
        print_message(f"  and {len(letters) - SHOWN:,} more")
