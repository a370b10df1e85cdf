"""Define the commands about the past: `history` of a student, and `who` is in a course."""

from collections.abc import Iterator
from datetime import datetime

import click

from producer.client import EnrollmentClient
from producer.commands import history_display
from producer.commands.moments import MomentText
from producer.commands.queries import UNREACHABLE, unknown_student
from producer.commands.session import IDS, Session, parse_identifier, with_session
from producer.commands.terminal import tell
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.history import CourseRoll, StudentHistory
from producer.fields import MAX_KEY, MAX_LOOKUP, show_moment

ENTRIES = 20
"""The entries that are shown if no option says how many."""

ALL_AT_ONCE = 100
"""How many entries `--all` asks for at a time."""

HISTORY_CODES = exit_codes(refused="the student or the course is unknown", unreachable=UNREACHABLE)
WHO_CODES = exit_codes(refused="the course is unknown", unreachable=UNREACHABLE)
HISTORY_EXAMPLES = """
\b
Examples:
  enroll history S1
  enroll history S1 ALG-1 --all
  enroll history key:4711 --limit 5 --before 2026-09-01T08:00:00Z --json
"""
WHO_EXAMPLES = """
\b
Examples:
  enroll who ALG-1
  enroll who key:17 --at 2026-09-01T08:00:00Z --json
"""


@click.command(epilog=IDS + HISTORY_CODES + HISTORY_EXAMPLES)
@click.argument("student")
@click.argument("course", required=False)
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LOOKUP),
    help=f"The number of entries to show, {ENTRIES} by default; a few more if several have the same"
    " moment.",
)
@click.option("--all", "show_all", is_flag=True, help="Show all entries.")
@click.option(
    "--before",
    type=MomentText(),
    metavar="TIME",
    help="Show only what counts earlier: a time with its time zone.",
)
@with_session
def history(
    session: Session,
    student: str,
    course: str | None,
    limit: int | None,
    show_all: bool,
    before: datetime | None,
) -> int:
    """Show what happened to a student's enrollments, the latest first.

    Each entry is an enrollment that began or ended, or a request that was refused or superseded by
    a later one. With COURSE, only what was changed or superseded in this course is shown, without
    refusals.
    """
    if show_all and limit is not None:
        raise click.UsageError("--limit and --all contradict each other; use one of them.")
    course_id = None if course is None else parse_identifier(course)
    page_size = ALL_AT_ONCE if show_all else limit or ENTRIES
    pages = _pages(session.client, parse_identifier(student), course_id, page_size, before)
    page = next(pages)
    if not page.entries:
        if page.student_id is None:
            return unknown_student(student)
        if course_id is not None and not _exists(session.client, course_id):
            return _unknown_course(str(course))
    session.show(page.entries, history_display.history(page))
    for older in pages if show_all else ():
        session.show(older.entries, history_display.history(older, headings=False))
    if page.more and not show_all:
        oldest = show_moment(page.entries[-1].moment)
        tell(f"There are older entries: add --before {oldest}, or show all with --all.")
    return ExitCode.DONE


def _pages(
    client: EnrollmentClient,
    student: int | str,
    course: int | str | None,
    limit: int,
    before: datetime | None,
) -> Iterator[StudentHistory]:
    """Yield a history page by page, each when it is asked for."""
    page = client.history(student, course, limit=limit, before=before)
    yield page
    while page.more:
        page = client.history(student, course, limit=limit, before=page.entries[-1].moment)
        yield page


def _exists(client: EnrollmentClient, course: int | str) -> bool:
    """Return whether a course exists; no student comes after the largest key."""
    return client.roll(course, limit=1, after=MAX_KEY) is not None


@click.command(epilog=IDS + WHO_CODES + WHO_EXAMPLES)
@click.argument("course")
@click.option(
    "--at",
    type=MomentText(),
    metavar="TIME",
    help="Show who was enrolled at this moment: a time with its time zone.",
)
@with_session
def who(session: Session, course: str, at: datetime | None) -> int:
    """Show who is enrolled in a course, or was at a moment.

    Students are in the order of their keys. The worker reads the enrollments of all students for
    this, which takes seconds if there are millions.
    """
    course_id = parse_identifier(course)
    page = session.client.roll(course_id, at)
    if page is None:
        return _unknown_course(course)
    _show(session, page, at)
    while page is not None and page.more:
        page = session.client.roll(course_id, at, after=page.students[-1].id)
        if page is not None:
            _show(session, page, at, headings=False)
    return ExitCode.DONE


def _show(
    session: Session, page: CourseRoll, at: datetime | None, *, headings: bool = True
) -> None:
    layout = history_display.roll(page, ended=at is not None, headings=headings)
    session.show(page.students, layout)


def _unknown_course(course: str) -> ExitCode:
    tell(f"No course has the id {course}. Check the id, or submit the course.")
    return ExitCode.REFUSED
