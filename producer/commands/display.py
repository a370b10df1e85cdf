"""How answers look to a person; machines get the same as JSON from the command line.

They are for a console without markup: whatever is in an id or a title is printed as it is.
"""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from producer.contract.batches import BatchState, BatchStatus, RefusalGroup
from producer.schemas import (
    EnrollmentProblem,
    Kind,
    RequestStatus,
    ResultStatus,
    StudentEnrollmentResponse,
    StudentResponse,
)

_COLORS: dict[str, str] = {
    ResultStatus.ENROLLED: "green",
    ResultStatus.PARTIAL: "yellow",
    ResultStatus.REJECTED: "red",
    BatchState.DONE: "green",
}


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for name in columns:
        right = name in ("rows", "count", "key")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def _word(word: str) -> Text:
    return Text(word, style=_COLORS.get(word, "yellow"))


def batch(status: BatchStatus, *, timed: bool = False) -> RenderableType:
    """A batch's counts and its refusals by cause; its speed and times where `timed` is set."""
    if status.state is BatchState.UNKNOWN:
        return Text(f"Nobody submitted {status.batch_id}.")
    head = Text.assemble(
        ("Batch ", "bold"), status.batch_id, f" ({status.kind}): ", _word(status.state)
    )
    books = status.books
    counts = [("received", books.received)]
    if status.kind is Kind.ENROLLMENTS:
        counts += [("enrolled", books.enrolled), ("already enrolled", books.already_enrolled)]
    else:
        counts += [("added or changed", books.upserted), ("unchanged", books.unchanged)]
    counts += [("rejected", books.rejected), ("not yet applied", books.not_applied)]
    table = _table("", "rows")
    for name, count in counts:
        table.add_row(name, f"{count:,}")
    parts: list[RenderableType] = [head, table]
    if timed:
        parts.append(_progress(status))
    if status.refusals:
        parts += [Text(), Text("Refusals", style="bold"), refusals(status.refusals)]
    if status.advice:
        parts.append(Text(status.advice, style="yellow"))
    return Group(*parts)


def _progress(status: BatchStatus) -> Text:
    """Requests, chunks, speed and times."""
    of = "the file is still being read" if status.chunks is None else f"of {status.chunks:,}"
    requests = f"{status.requests_applied:,} of {status.requests:,} requests applied"
    said = [
        f"{requests}, {status.requests_rejected:,} wholly rejected",
        f"{status.chunks_applied:,} chunks applied ({of}), {status.chunks_missing:,} missing",
    ]
    if status.rows_per_second:
        said.append(f"{status.rows_per_second:,.0f} rows/s")
    if status.seconds_left:
        said.append(f"about {status.seconds_left:,.0f} s left")
    for word, moment in (("started", status.started_at), ("finished", status.finished_at)):
        if moment is not None:
            said.append(f"{word} {moment:%Y-%m-%d %H:%M:%S} UTC")
    return Text("\n".join(said))


def refusals(groups: Sequence[RefusalGroup]) -> RenderableType:
    """Refusals by cause."""
    if not groups:
        return Text("No refusals.")
    table = _table("code", "count", "first lines", "for example")
    for group in groups:
        lines = ", ".join(map(str, group.first_lines))
        more = ", …" if group.count > len(group.first_lines) else ""
        table.add_row(group.code.value, f"{group.count:,}", lines + more, group.example)
    return table


def request(status: RequestStatus) -> RenderableType:
    """Where a request stands, with its outcome when it is done."""
    if status.result is not None:
        return response(status.result)
    return Text.assemble(("Request ", "bold"), status.request_id, ": ", _word(status.state))


def response(result: StudentEnrollmentResponse) -> RenderableType:
    """The outcome of one request."""
    when = result.completed_at.strftime("%Y-%m-%d %H:%M:%S UTC")
    head = Text.assemble(
        ("Request ", "bold"),
        result.request_id,
        f", student {result.student_id}, {when}: ",
        _word(result.status),
    )
    parts: list[RenderableType] = [head]
    if result.enrolled_courses:
        table = _table("course", "title", "")
        for course in result.enrolled_courses:
            word = "enrolled" if course.added else "already enrolled"
            table.add_row(course.sis_id, course.title or "", word)
        parts.append(table)
    return Group(*parts, *map(_problem, result.errors))


def _problem(problem: EnrollmentProblem) -> Text:
    place = f"line {problem.line}: " if problem.line else ""
    return Text.assemble("  ", (problem.code.value, "red"), f": {place}{problem.message}")


def results(found: Sequence[StudentEnrollmentResponse]) -> RenderableType:
    """A student's outcomes, newest first."""
    if not found:
        return Text("No results.")
    return Group(*map(response, found))


def student(found: StudentResponse) -> RenderableType:
    """A student with courses."""
    about = ", ".join(filter(None, (found.name, found.email)))
    head = Text.assemble(("Student ", "bold"), f"{found.sis_id} (key {found.id}) {about}")
    table = _table("course", "key", "title", "enrolled")
    for course in found.courses:
        when = course.enrolled_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(course.sis_id, str(course.id), course.title or "", when)
    return Group(head, table)
