"""Define requests as they came and their stored results, with the lines they have in a file."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from producer.contract.chunks import COURSE_FIELDS, count_rows, courses_of
from producer.fields import Identifier
from producer.schemas import Action, EnrollmentProblem, ResultStatus, StudentEnrollmentRequest
from producer.testing.intervals import Change

_IDENTIFIER: TypeAdapter[int | str] = TypeAdapter(Identifier)

_COUNTS = {
    Action.ENROLL: ("enrolled", "already_enrolled"),
    Action.DROP: ("dropped", "not_enrolled"),
}
"""The names of the counts of rows that a request changed, and of those that were so before."""


class Times(NamedTuple):
    """When a request or a batch counts, and the present time."""

    moment: datetime
    now: datetime


class NamedCourse(NamedTuple):
    """A course as a request names it."""

    row: int
    """The position of its row in the request: first those to enroll in, then those to drop."""
    action: Action
    position: int
    """The position in its list."""
    identifier: int | str


class Incoming(NamedTuple):
    """A request as it came; it is refused if it has problems. `lines` are its lines in a file."""

    request_id: str
    record: Any
    request: StudentEnrollmentRequest | None
    problems: tuple[EnrollmentProblem, ...] = ()
    lines: Sequence[int] = ()
    has_own_id: bool = True
    moment: datetime | None = None
    """When it counts, in place of the moment of its message."""

    def courses(self) -> Iterator[NamedCourse]:
        """Yield the courses that a request names, if it could be read."""
        row = 0
        for action, name in COURSE_FIELDS.items():
            for position, identifier in enumerate(getattr(self.request, name, ())):
                yield NamedCourse(row, action, position, identifier)
                row += 1

    def line_of_row(self, row: int) -> int | None:
        """Return the line of a row; None if the request did not come in a batch."""
        if not self.lines:
            return None
        return self.lines[row] if row < len(self.lines) else self.lines[0]

    def asked(self) -> Any:
        """Return what is equal for requests that ask for the same thing."""
        if self.request is None or not self.has_own_id:
            return None
        return self.request.model_dump(exclude={"request_id"})

    def student(self) -> int | str | None:
        """Return the student as the request named them, even if it breaks the contract."""
        if self.request is not None:
            return self.request.student_id
        try:
            return _IDENTIFIER.validate_python(self.record.get("student_id"))
        except (ValidationError, AttributeError):
            return None


class CourseResult(NamedTuple):
    """What became of a course of a request."""

    key: int
    action: Action
    row: int
    """The position of its row in the request."""
    change: Change


@dataclass(frozen=True)
class Result:
    """The stored result of a request."""

    incoming: Incoming
    student: int | str | None
    """The student's key; what the request said, if the student did not exist."""
    status: ResultStatus
    errors: tuple[EnrollmentProblem, ...]
    batch_id: str | None
    completed_at: datetime
    moment: datetime
    courses: tuple[CourseResult, ...] = ()
    """The courses that exist, in the order of the request; none if the request was refused."""
    is_repeat: bool = False

    @property
    def age(self) -> tuple[datetime, str]:
        """Return what results are sorted by."""
        return self.completed_at, self.incoming.request_id

    def count_rows(self, rows: int) -> Counter[str]:
        """Count the rows of the request by what happened to them."""
        if self.status is ResultStatus.REJECTED:
            return Counter(rejected=rows)
        counts = Counter(rejected=len(self.errors))
        refused = {problem.course_id for problem in self.errors}
        for action, (changed_name, unchanged_name) in _COUNTS.items():
            named = [c for c in self.incoming.courses() if c.action is action]
            changes = [course.change for course in self.courses if course.action is action]
            superseded = sum(change.superseded_by is not None for change in changes)
            changed = 0 if self.is_repeat else sum(change.is_made for change in changes)
            rejected = sum(course.identifier in refused for course in named)
            # A key and a SIS id may name one course: its second row changes nothing.
            unchanged = len(named) - changed - superseded - rejected
            counts += Counter(
                {changed_name: changed, unchanged_name: unchanged, "superseded": superseded}
            )
        return counts


def status_of(courses: Sequence[CourseResult], *, has_problems: bool) -> ResultStatus:
    """Return the status of a request from what became of its courses."""
    if has_problems:
        return ResultStatus.PARTIAL if courses else ResultStatus.REJECTED
    actions = {course.action for course in courses if course.change.superseded_by is None}
    if len(actions) == len(Action):
        return ResultStatus.CHANGED
    if Action.ENROLL in actions:
        return ResultStatus.ENROLLED
    return ResultStatus.DROPPED if actions else ResultStatus.SUPERSEDED


def lines_about(incoming: Incoming, problem: EnrollmentProblem) -> list[tuple[int, int]]:
    """Return the lines that a problem is about, each with the row of the request that it has.

    A problem is about the line of one course, or about all lines of the request.
    """
    lines = list(enumerate(incoming.lines))
    if len(lines) <= 1:
        return lines
    if (row := _row_of_field(incoming, problem.field or "")) is not None:
        return lines[row:][:1] or lines
    if problem.course_id is None:
        return lines
    rows = {c.row for c in incoming.courses() if c.identifier == problem.course_id}
    return [line for line in lines if line[0] in rows] or lines


def _row_of_field(incoming: Incoming, field: str) -> int | None:
    """Return the row of a field such as course_ids[3]; None if it is not about one course."""
    name, _, position = field.removesuffix("]").partition("[")
    if field != f"{name}[{position}]" or not position.isdecimal():
        return None
    enrolls = count_enrolls(incoming.record)
    if name == COURSE_FIELDS[Action.DROP]:
        return enrolls + int(position)
    # A list with duplicates has fewer rows than positions.
    is_row = name == COURSE_FIELDS[Action.ENROLL] and int(position) < enrolls
    return int(position) if is_row else None


def count_enrolls(record: Any) -> int:
    """Return the number of rows of a record's `course_ids`; those to drop follow them."""
    courses = courses_of(record, Action.ENROLL)
    return count_rows({COURSE_FIELDS[Action.ENROLL]: courses}) if courses else 0


def located(
    problems: Sequence[EnrollmentProblem], incoming: Incoming
) -> tuple[EnrollmentProblem, ...]:
    """Return the problems, each with the first line that it is about."""
    with_lines = []
    for problem in problems:
        lines = lines_about(incoming, problem)
        with_lines.append(problem.model_copy(update={"line": lines[0][1]}) if lines else problem)
    return tuple(with_lines)
