"""Define `enroll request`, which enrolls one student and prints the result."""

import click

from producer.commands import display
from producer.commands.session import IDS, Session, parse_identifier, with_session
from producer.contract.exit_codes import ExitCode, exit_codes

EXIT_CODES = exit_codes(
    refused="the request was refused, or some of its courses were",
    unreachable="the broker or a worker cannot be reached, or the request is lost",
)
REQUEST_EXAMPLES = """
\b
Examples:
  enroll request S1 LOGIC-1 ALG-1
  enroll request S1 LOGIC-1 --request-id sis-2026-000123 --partial
  enroll request key:4711 key:17 --json
"""


@click.command(epilog=IDS + EXIT_CODES + REQUEST_EXAMPLES)
@click.argument("student")
@click.argument("courses", metavar="COURSE...", nargs=-1, required=True)
@click.option(
    "--request-id",
    help="Your own id for the request; the same request under the same id has no further effect.",
)
@click.option(
    "--partial", is_flag=True, help="Enroll the student in the other courses if some are refused."
)
@with_session
def request(
    session: Session,
    student: str,
    courses: tuple[str, ...],
    request_id: str | None,
    partial: bool,
) -> int:
    """Enroll one student in courses, and wait for the result."""
    enrollment = {
        "student_id": parse_identifier(student),
        "course_ids": [parse_identifier(course) for course in courses],
        "request_id": request_id,
        "atomic": not partial,
    }
    result = session.client.enroll(enrollment)
    session.show(result, display.response(result))
    return ExitCode.REFUSED if result.errors else ExitCode.DONE
