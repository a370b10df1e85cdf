"""The commands that ask: `status`, `errors`, `student` and `results`."""

from typing import TextIO

import click

from producer.commands import display
from producer.commands.exit_codes import EXIT_CODES, REFUSED
from producer.commands.session import IDS, Session, parse_identifier, with_session
from producer.contract.batches import BatchState, BatchStatus
from producer.files import refused_lines
from producer.schemas import RequestState, RequestStatus

_CSV_HELP = "Write every refused line with its cells and the reason, to be mended and submitted."
_JSONL_HELP = "Write the refused records as JSON Lines, as they were submitted."
STATUS_EXAMPLES = """
\b
Examples:
  enroll status night-2026-09-01
  enroll status sis-2026-000123 --json
"""
ERRORS_EXAMPLES = """
\b
Examples:
  enroll errors night-2026-09-01
  enroll errors night-2026-09-01 --csv refused.csv
  enroll errors night-2026-09-01 --jsonl - | wc -l
"""
STUDENT_EXAMPLES = """
\b
Examples:
  enroll student S1
  enroll student key:4711 --json
"""
RESULTS_EXAMPLES = """
\b
Examples:
  enroll results S1
  enroll results S1 --limit 1 --json
"""


@click.command(epilog=EXIT_CODES + STATUS_EXAMPLES)
@click.argument("identity", metavar="ID")
@with_session
def status(session: Session, identity: str) -> int:
    """Say where a request or a batch stands."""
    found: RequestStatus | BatchStatus = session.client.status(identity)
    if found.state is RequestState.UNKNOWN:
        batch = session.client.batch(identity)
        found = batch if batch.state is not BatchState.UNKNOWN else found
    if isinstance(found, BatchStatus):
        session.say(found, display.batch(found, timed=True))
        return REFUSED if found.books.rejected else 0
    session.say(found, display.request(found))
    refused = found.state is RequestState.UNKNOWN or (
        found.result is not None and found.result.errors
    )
    return REFUSED if refused else 0


@click.command(epilog=EXIT_CODES + ERRORS_EXAMPLES)
@click.argument("batch_id", metavar="BATCH")
@click.option("--csv", "csv_file", type=click.File("w", encoding="utf-8"), help=_CSV_HELP)
@click.option("--jsonl", "jsonl_file", type=click.File("w", encoding="utf-8"), help=_JSONL_HELP)
@with_session
def errors(
    session: Session, batch_id: str, csv_file: TextIO | None, jsonl_file: TextIO | None
) -> int:
    """Show the refusals of a batch by cause, or write every refused line to a file."""
    found = session.client.batch(batch_id)
    if found.state is BatchState.UNKNOWN:
        click.echo(f"Nobody submitted the batch {batch_id}.", err=True)
        return REFUSED
    if csv_file is not None:
        with csv_file:  # On a full disk it is the closing that fails.
            count = refused_lines.write_csv(
                csv_file, found.columns, session.client.refusals(batch_id)
            )
        click.echo(f"{count:,} refused lines written to {csv_file.name}.", err=True)
    if jsonl_file is not None:
        with jsonl_file:
            count = refused_lines.write_json_lines(jsonl_file, session.client.refusals(batch_id))
        click.echo(f"{count:,} refused records written to {jsonl_file.name}.", err=True)
    if csv_file is None and jsonl_file is None:
        session.say(list(found.refusals), display.refusals(found.refusals))
    return REFUSED if found.refusals else 0


@click.command(epilog=IDS + EXIT_CODES + STUDENT_EXAMPLES)
@click.argument("student")
@with_session
def student(session: Session, student: str) -> int:
    """Show a student with courses."""
    found = session.client.student(parse_identifier(student))
    if found is None:
        click.echo(f"No student has the id {student}.", err=True)
        return REFUSED
    session.say(found, display.student(found))
    return 0


@click.command(epilog=IDS + EXIT_CODES + RESULTS_EXAMPLES)
@click.argument("student")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most so many."
)
@with_session
def results(session: Session, student: str, limit: int) -> int:
    """Show what became of a student's requests, newest first."""
    found = session.client.results(parse_identifier(student), limit=limit)
    session.say(found, display.results(found))
    return 0
