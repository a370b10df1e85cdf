"""Lay out histories and rolls for people."""

from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from producer.commands.display import table
from producer.commands.terminal import one_line
from producer.contract.history import Change, CourseRoll, HistoryEntry, StudentHistory
from producer.contract.printable import moment_text

MOST_LINES: Final = 5
"""The most lines that are shown of one refused request."""


def history(data: StudentHistory, *, headings: bool = True) -> RenderableType:
    """Lay out a page of a student's history, the latest moment first."""
    key = f" (key {data.student_id})" if data.student_id is not None else ""
    head = one_line(("Student ", "bold"), f"{data.student_sis_id or ''}{key}")
    if not data.entries:
        nothing = Text("No stored enrollment or request matches.")
        return Group(head, nothing) if headings else nothing
    rows = [
        [moment_text(entry.moment), entry.change.value, _course(entry), _source(entry), _why(entry)]
        for entry in data.entries
    ]
    laid_out = table(("moment", "change", "course", "request", "reason"), rows, headings=headings)
    return Group(head, laid_out) if headings else laid_out


def _course(entry: HistoryEntry) -> str:
    if entry.course is None:
        return ""
    return entry.course.sis_id or f"key {entry.course.id}"


def _source(entry: HistoryEntry) -> str:
    """Return what asked for a change: a line of a batch, or a single request."""
    if entry.batch_id is None:
        return entry.request_id or ""
    if entry.lines:
        more = ", …" if len(entry.lines) > MOST_LINES else ""
        return f"{entry.batch_id}, lines {', '.join(map(str, entry.lines[:MOST_LINES]))}{more}"
    return entry.batch_id if entry.line is None else f"{entry.batch_id}, line {entry.line}"


def _why(entry: HistoryEntry) -> str:
    """Return the reason that a request gave, and why it changed nothing."""
    parts = [entry.reason] if entry.reason else []
    if entry.change is Change.SUPERSEDED and entry.superseded_by is not None:
        request = f"to {entry.action.value}: " if entry.action else ""
        parts.append(f"{request}{_winner(entry.moment, entry.superseded_by)} won")
    parts += [f"{problem.code.value}: {problem.message}" for problem in entry.errors]
    return "; ".join(parts)


def _winner(moment: datetime, won_at: datetime) -> str:
    """Name the request that won, also where its moment and that of the other look the same."""
    if won_at == moment:
        return "a request to enroll at the same moment"
    if moment_text(won_at) == moment_text(moment):
        return "a later request of the same second"
    return f"a request of {moment_text(won_at)}"


def roll(data: CourseRoll, *, ended: bool = False, headings: bool = True) -> RenderableType:
    """Lay out a page of a course's roll; with `ended`, also when enrollments ended."""
    title = f" {data.title}" if data.title else ""
    when = moment_text(data.at)
    head = one_line(("Course ", "bold"), f"{data.sis_id} (key {data.id}){title}, {when}")
    if not data.students:
        empty = Text("No student was enrolled." if ended else "No student is enrolled.")
        return Group(head, empty)
    columns = ["student", "key", "name", "enrolled", *(["ended"] if ended else [])]
    rows = []
    for student in data.students:
        row = [
            student.sis_id,
            str(student.id),
            student.name or "",
            moment_text(student.enrolled_at),
        ]
        if ended:
            row.append(moment_text(student.ended_at) if student.ended_at else "")
        rows.append(row)
    laid_out = table(columns, rows, headings=headings)
    return Group(head, laid_out) if headings else laid_out
