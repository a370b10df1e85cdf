"""Lay out results and statuses for people; with `--json`, programs get the same data as JSON.

The layout is for a console without markup, so that ids and titles are printed unchanged.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from producer.commands.counts import applied_counts
from producer.commands.terminal import one_line
from producer.contract.batches import FIRST_LINES, BatchState, BatchStatus, RefusalGroup
from producer.contract.plans import PlanStatus
from producer.contract.printable import moment_text, shell_argument
from producer.contract.searching import FoundStudents
from producer.publishing.undoing import unknown_undo
from producer.schemas import (
    Action,
    EnrollmentProblem,
    RequestState,
    RequestStatus,
    ResultStatus,
    StudentEnrollmentResponse,
    StudentResponse,
    SupersededCourse,
)

_COLORS: dict[str, str] = {
    ResultStatus.ENROLLED: "green",
    ResultStatus.DROPPED: "green",
    ResultStatus.CHANGED: "green",
    ResultStatus.PARTIAL: "yellow",
    ResultStatus.REJECTED: "red",
    BatchState.DONE: "green",
}


SAME_TIME = timedelta(minutes=1)
"""A difference between two times that is not shown."""


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        right = name in ("rows", "count", "key")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, headings: bool = True) -> Table:
    """Lay out rows of text."""
    laid_out = _table(*columns)
    laid_out.show_header = headings
    for row in rows:
        laid_out.add_row(*row)
    return laid_out


def _word(word: str) -> tuple[str, str]:
    return word, _COLORS.get(word, "yellow")


def batch(status: BatchStatus, *, timed: bool = False) -> RenderableType:
    """Lay out the counts of a batch and its refusals by cause; with `timed`, also its progress."""
    if status.state is BatchState.UNKNOWN:
        return one_line(f"No batch with the id {status.batch_id} is known. Check the id.")
    head = one_line(("Batch ", "bold"), status.batch_id, f" ({status.kind}): ", _word(status.state))
    books = status.books
    received, rest = ("received", books.received), ("not yet applied", books.not_applied)
    counts = [received, *applied_counts(status), rest]
    rows = table(["", "rows"], [(name, f"{count:,}") for name, count in counts])
    parts: list[RenderableType] = [head, rows, *_belongs_to(status)]
    if timed:
        parts.append(_progress(status))
    if status.refusals:
        parts += [Text(), Text("Refusals", style="bold"), refusals(status.refusals)]
    if status.advice:
        parts.append(one_line((status.advice, "yellow")))
    return Group(*parts)


def _belongs_to(status: BatchStatus) -> Iterator[Text]:
    """Lay out the data set and the plan of a batch that has them."""
    if status.data_set is not None:
        yield one_line(f"Data set: {status.data_set}")
    if status.plan_id is not None:
        yield one_line(f"Its plan: enroll plan {shell_argument(status.plan_id)}")
    yield from undo_lines(status)
    if status.undoes is not None:
        yield one_line(f"Undoes: {status.undoes}")


def undo_lines(status: BatchStatus | PlanStatus) -> Iterator[Text]:
    """Lay out by what a batch or a plan was undone, if it was."""
    if status.undone_by is not None:
        when = "" if status.undone_at is None else f" ({moment_text(status.undone_at)})"
        yield one_line((f"Undone by: {status.undone_by}{when}", "yellow"))


def _progress(status: BatchStatus) -> Text:
    """Lay out the requests, chunks, speed and times of a batch."""
    requests = f"{status.requests_applied:,} of {status.requests:,} requests applied"
    if status.chunks is None:
        chunks = f"{status.chunks_applied:,} chunks applied (still being submitted)"
    else:
        chunks = f"{status.chunks_applied:,} of {status.chunks:,} chunks applied"
    # Chunks of a plan that is not being applied are stored, and not missing.
    is_stored = status.state in (BatchState.PLANNED, BatchState.HELD)
    lines = [
        f"{requests}, {status.requests_rejected:,} rejected as a whole",
        chunks if is_stored else f"{chunks}, {status.chunks_missing:,} missing",
    ]
    if status.rows_per_second:
        lines.append(f"{status.rows_per_second:,.0f} rows/s")
    if status.seconds_left:
        lines.append(f"about {status.seconds_left:,.0f} s left")
    for word, moment in (("started", status.started_at), ("finished", status.finished_at)):
        if moment is not None:
            lines.append(f"{word} {moment_text(moment)}")
    return Text("\n".join(lines))


def refusals(groups: Sequence[RefusalGroup]) -> RenderableType:
    """Lay out refusals by cause."""
    if not groups:
        return Text("No refusals.")
    table = _table("code", "count", "first lines", "for example")
    for group in groups:
        lines = ", ".join(map(str, group.first_lines))
        # A line may have several refusals, so that there are more of them than lines.
        more = ", …" if group.count > len(group.first_lines) >= FIRST_LINES else ""
        table.add_row(group.code.value, f"{group.count:,}", lines + more, group.example)
    causes = [cause for group in groups for cause in _likely_causes(group)]
    heading = [Text(), Text("Likely causes", style="bold")] if causes else []
    return Group(table, *heading, *causes)


def _likely_causes(group: RefusalGroup) -> Iterator[Text]:
    """Lay out what is probably wrong with unknown ids, and how many refusals were compared."""
    sentences = [cause.message for cause in group.likely_causes]
    if group.examined is not None and group.examined < group.count:
        sentences.append(
            f"only the first {group.examined:,} of {group.count:,} refusals were compared with"
            " the roster"
        )
    for sentence in sentences:
        yield one_line((group.code.value, "red"), f": {sentence}")


def request(status: RequestStatus) -> RenderableType:
    """Lay out the status of a request, with its result if it is done."""
    if status.result is not None:
        return response(status.result)
    if status.state is RequestState.UNKNOWN and status.advice is None:
        unknown = unknown_undo(status.request_id) or (
            f"No request or batch with the id {status.request_id} is known. Check the id; if it is"
            " right, submit again under the same id."
        )
        return one_line((unknown, "yellow"))
    head = one_line(("Request ", "bold"), status.request_id, ": ", _word(status.state))
    return Group(head, one_line((status.advice, "yellow"))) if status.advice else head


def response(result: StudentEnrollmentResponse) -> RenderableType:
    """Lay out the result of one request."""
    head = one_line(
        ("Request ", "bold"),
        result.request_id,
        f", student {_student_of(result)}, {_times_of(result)}: ",
        _word(result.status),
    )
    parts: list[RenderableType] = [head]
    if result.reason:
        parts.append(one_line(f"  reason: {result.reason}"))
    if courses := list(_courses(result)):
        parts.append(table(["course", "title", ""], courses))
    return Group(*parts, *map(_problem, result.errors))


def _courses(result: StudentEnrollmentResponse) -> Iterator[tuple[str, str, str]]:
    """Yield the courses of a result that were not refused, and what became of each."""
    for enrolled in result.enrolled_courses:
        word = "enrolled" if enrolled.added else "already enrolled"
        yield enrolled.sis_id, enrolled.title or "", word
    for dropped in result.dropped_courses:
        word = "dropped" if dropped.removed else "was not enrolled"
        yield dropped.sis_id, dropped.title or "", word
    for superseded in result.superseded_courses:
        yield superseded.sis_id, superseded.title or "", _winner(superseded)


def _winner(course: SupersededCourse) -> str:
    word = "dropped" if course.action is Action.ENROLL else "enrolled"
    return f"superseded: {word} by a request that counts from {moment_text(course.moment)}"


def _student_of(result: StudentEnrollmentResponse) -> str:
    if not isinstance(result.student_id, int):
        return str(result.student_id)
    key = f"key {result.student_id}"
    return key if result.student_sis_id is None else f"{result.student_sis_id} ({key})"


def _times_of(result: StudentEnrollmentResponse) -> str:
    """Return when a request was decided, and when it counts if that is not about the same time."""
    decided = moment_text(result.completed_at)
    if result.moment is None or abs(result.moment - result.completed_at) < SAME_TIME:
        return decided
    return f"{decided} (counts from {moment_text(result.moment)})"


def _problem(problem: EnrollmentProblem) -> Text:
    line = f"line {problem.line}: " if problem.line else ""
    return one_line("  ", (problem.code.value, "red"), f": {line}{problem.message}")


def results(responses: Sequence[StudentEnrollmentResponse]) -> RenderableType:
    """Lay out a student's results, newest first."""
    if not responses:
        return Text("No results are stored for this student.")
    return Group(*map(response, responses))


def found_students(data: FoundStudents) -> RenderableType:
    """Lay out the students found by a search."""
    table = _table("student", "key", "name", "e-mail")
    for found in data.students:
        table.add_row(found.sis_id, str(found.id), found.name or "", found.email or "")
    return table


def student(data: StudentResponse) -> RenderableType:
    """Lay out a student with their courses."""
    contact = ", ".join(filter(None, (data.name, data.email)))
    head = one_line(("Student ", "bold"), f"{data.sis_id} (key {data.id}) {contact}")
    table = _table("course", "key", "title", "enrolled")
    for course in data.courses:
        when = moment_text(course.enrolled_at)
        table.add_row(course.sis_id, str(course.id), course.title or "", when)
    return Group(head, table)
