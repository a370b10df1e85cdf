"""The commands about single requests, and the questions: what became of it."""

from typing import TextIO

import click

from producer import display, refusals
from producer.commands.exit_codes import EXIT_CODES, REFUSED
from producer.commands.session import IDS, Session, with_session
from producer.schemas import BatchStatus, RequestStatus

_CSV_HELP = "Write every refused line with its cells and the reason, to be mended and submitted."
_JSONL_HELP = "Write the refused records as JSON Lines, as they were submitted."

REQUEST_EXAMPLES = """
\b
Examples:
  enroll request S1 LOGIC-1 ALG-1
  enroll request S1 LOGIC-1 --request-id sis-2026-000123 --partial
  enroll request key:4711 key:17 --json
"""
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


def _identifier(text: str) -> int | str:
    if text.startswith("sis:"):
        return text.removeprefix("sis:")
    if not text.startswith("key:"):
        return text
    digits = text.removeprefix("key:")
    if not (digits.isascii() and digits.isdigit()):
        raise click.UsageError(f"{text!r}: a key is an integer, as key:4711.")
    return int(digits)


@click.command(epilog=IDS + EXIT_CODES + REQUEST_EXAMPLES)
@click.argument("student")
@click.argument("courses", metavar="COURSE...", nargs=-1, required=True)
@click.option("--request-id", help="Your own id; a repeat under it has no further effect.")
@click.option("--partial", is_flag=True, help="Keep the good courses when some are refused.")
@with_session
def request(
    session: Session,
    student: str,
    courses: tuple[str, ...],
    request_id: str | None,
    partial: bool,
) -> int:
    """Enroll one student in courses; waits, and prints the outcome."""
    asked = {
        "student_id": _identifier(student),
        "course_ids": [_identifier(course) for course in courses],
        "request_id": request_id,
        "atomic": not partial,
    }
    result = session.client.enroll(asked)
    session.say(result, display.response(result))
    return REFUSED if result.errors else 0


@click.command(epilog=EXIT_CODES + STATUS_EXAMPLES)
@click.argument("identity", metavar="ID")
@with_session
def status(session: Session, identity: str) -> int:
    """Say where a request or a batch stands."""
    found: RequestStatus | BatchStatus = session.client.status(identity)
    if found.state == "unknown":
        batch = session.client.batch(identity)
        found = batch if batch.state != "unknown" else found
    if isinstance(found, BatchStatus):
        session.say(found, display.batch(found, timed=True))
        return REFUSED if found.books.rejected else 0
    session.say(found, display.request(found))
    refused = found.state == "unknown" or (found.result is not None and found.result.errors)
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
    if found.state == "unknown":
        click.echo(f"Nobody submitted the batch {batch_id}.", err=True)
        return REFUSED
    if csv_file is not None:
        with csv_file:  # On a full disk it is the closing that fails.
            count = refusals.write_csv(csv_file, found.columns, session.client.refusals(batch_id))
        click.echo(f"{count:,} refused lines written to {csv_file.name}.", err=True)
    if jsonl_file is not None:
        with jsonl_file:
            count = refusals.write_json_lines(jsonl_file, session.client.refusals(batch_id))
        click.echo(f"{count:,} refused records written to {jsonl_file.name}.", err=True)
    if csv_file is None and jsonl_file is None:
        session.say(list(found.refusals), display.refusals(found.refusals))
    return REFUSED if found.refusals else 0


@click.command(epilog=IDS + EXIT_CODES + STUDENT_EXAMPLES)
@click.argument("student")
@with_session
def student(session: Session, student: str) -> int:
    """Show a student with courses."""
    found = session.client.student(_identifier(student))
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
    found = session.client.results(_identifier(student), limit=limit)
    session.say(found, display.results(found))
    return 0
