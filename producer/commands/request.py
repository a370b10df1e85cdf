"""Define `enroll request`, which enrolls or drops one student and prints the result."""

import click

from producer.commands import display
from producer.commands.session import IDS, Session, parse_identifier, with_session
from producer.contract.exit_codes import ExitCode, exit_codes

EXIT_CODES = exit_codes(
    done="the request was applied, as far as no later request asks for the opposite",
    refused="the request was refused, or some of its courses were",
    unreachable="the broker or a worker cannot be reached, or the request is lost",
)
REQUEST_EXAMPLES = """
\b
Examples:
  enroll request S1 LOGIC-1 ALG-1
  enroll request S1 LOGIC-1 --request-id sis-2026-000123 --partial
  enroll request S1 --drop ALG-1 --reason "moved to evening classes"
  enroll request S1 ALG-2 --drop ALG-1
  enroll request key:4711 key:17 --json
"""


@click.command(epilog=IDS + EXIT_CODES + REQUEST_EXAMPLES)
@click.argument("student")
@click.argument("courses", metavar="[COURSE]...", nargs=-1)
@click.option(
    "--drop",
    "drops",
    metavar="COURSE",
    multiple=True,
    help="Drop the student from this course; may be repeated.",
)
@click.option(
    "--request-id",
    help="Your own id for the request; the same request under the same id has no further effect.",
)
@click.option("--partial", is_flag=True, help="Apply the other courses if some are refused.")
@click.option(
    "--reason",
    metavar="TEXT",
    help="Why, in up to 255 characters; the student's history shows it.",
)
@with_session
def request(
    session: Session,
    student: str,
    courses: tuple[str, ...],
    drops: tuple[str, ...],
    request_id: str | None,
    partial: bool,
    reason: str | None,
) -> int:
    """Enroll or drop one student, and wait for the result.

    With courses of both kinds, the request is a swap: either all of it is applied, or nothing is.
    """
    if not courses and not drops:
        raise click.UsageError("Name a course to enroll the student in, or one to --drop.")
    enrollment = {
        "student_id": parse_identifier(student),
        "course_ids": [parse_identifier(course) for course in courses],
        "drop_course_ids": [parse_identifier(course) for course in drops],
        "request_id": request_id,
        "atomic": not partial,
        "reason": reason,
    }
    result = session.client.enroll(enrollment)
    session.show(result, display.response(result))
    return ExitCode.REFUSED if result.errors else ExitCode.DONE
