"""Decide requests: which are refused and why, and which rows to write. Pure functions, no SQL.

`plan` decides which requests are refused and which rows are to be written. `conclude` makes the
results once the database has said which of those rows are new. `worker.service` calls both. Only
the clean requests of a chunk do without them (`worker.enrollment.shortcuts`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from producer.contract.refusals import reused_id, unknown_course, unknown_student
from producer.schemas import CODE_MEANINGS, Code, EnrollmentProblem, Identifier, ResultStatus
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.values import CourseSummary, Problems, RequestLookup, StoredResult
from worker.models import Pair

_IDENTIFIER: TypeAdapter[int | str] = TypeAdapter(Identifier)

_COURSE_FIELD = re.compile(r"course_ids\[([0-9]{1,9})\]")
"""The field of a problem that is about one course of a request."""


class CheckedRequest(NamedTuple):
    """A request, checked against the roster."""

    incoming: IncomingRequest
    student: int | None
    """The student's key; None if the student does not exist, or the request was invalid."""
    courses: list[int]
    """Keys of the courses to enroll in; empty if the whole request is refused."""
    problems: Problems


class Plan(NamedTuple):
    """Which requests are refused and why, and which rows are to be written."""

    checked: list[CheckedRequest]
    rows: dict[Pair, datetime]
    """The rows to write, with the moment of the earliest request that asks for each."""
    results: Mapping[str, StoredResult]
    """Earlier results, by request id."""


class Decision(NamedTuple):
    """A request with its result."""

    incoming: IncomingRequest
    result: StoredResult
    is_new: bool
    """True if the result is to be stored; false for a repeat and for a reused id."""
    is_repeat: bool = False
    """True if the request was decided before; `result` is then its first result."""

    def count_rows(self, rows: int) -> "RowCounts":
        """Count the request's rows by what happened to them; the counts add up to `rows`."""
        is_rejected = self.result.status is ResultStatus.REJECTED
        rejected = rows if is_rejected else len(self.result.errors)
        enrolled = 0
        if not self.is_repeat:
            enrolled = len(self.result.enrolled_ids) - len(self.result.already_enrolled_ids)
        return RowCounts(enrolled, rows - enrolled - rejected, rejected)


class RowCounts(NamedTuple):
    """A request's rows, counted by what happened to them."""

    enrolled: int
    """Rows that the request added."""
    already_enrolled: int
    rejected: int


class Decisions(NamedTuple):
    """Requests with their results, in order, and what the results name by key.

    That is the courses, and the SIS ids of the students.
    """

    decided: list[Decision]
    courses: Mapping[int, CourseSummary]
    sis_ids: Mapping[int, str]


def plan(requests: Sequence[IncomingRequest], stored: RequestLookup) -> Plan:
    """Decide which requests are refused and why, and which rows are to be written.

    Every request has its moment by now. If several requests have the same id, only the first one
    has rows to write, and only if the id has no result yet.
    """
    checked = [_check(incoming, stored) for incoming in requests]
    claimed = set(stored.results)
    rows: dict[Pair, datetime] = {}
    for request in sorted(checked, key=_moment):
        if request.incoming.request_id not in claimed:
            claimed.add(request.incoming.request_id)
            for pair in _pairs(request):
                rows.setdefault(pair, _moment(request))
    return Plan(checked, rows, stored.results)


def _moment(request: CheckedRequest) -> datetime:
    if request.incoming.moment is None:
        raise ValueError("A request is given its moment before it is decided.")
    return request.incoming.moment


def conclude(
    plan: Plan, added: Iterable[Pair], batch_id: str | None, decided_at: datetime
) -> list[Decision]:
    """Make the results of a plan, in the order of its requests.

    `added` are the planned rows that are new. If two requests ask for the same row, the earlier one
    added it, and the later one was already enrolled.
    """
    new_rows = set(added)
    results = dict(plan.results)
    decisions: dict[int, Decision] = {}
    for position in sorted(range(len(plan.checked)), key=lambda i: _moment(plan.checked[i])):
        request = plan.checked[position]
        incoming = request.incoming
        earlier = results.get(incoming.request_id)
        if earlier is None:
            pairs = _pairs(request)
            already = [pair[1] for pair in pairs if pair not in new_rows]
            new_rows.difference_update(pairs)
            result = _result(request, already, batch_id, decided_at)
            results[incoming.request_id] = result
            decisions[position] = Decision(incoming, result, is_new=True)
        elif incoming.has_own_id and earlier.fingerprint == incoming.fingerprint():
            decisions[position] = Decision(incoming, earlier, is_new=False, is_repeat=True)
        else:
            refused = request._replace(courses=[], problems=(reused_id(incoming.request_id),))
            result = _result(refused, [], batch_id, decided_at)
            decisions[position] = Decision(incoming, result, is_new=False)
    return [decisions[position] for position in range(len(plan.checked))]


def not_processed(what_happened: str) -> EnrollmentProblem:
    """Return the refusal of a request that became a dead letter."""
    last_line = what_happened.strip().splitlines()[-1:] or ["it failed"]
    return EnrollmentProblem(
        code=Code.NOT_PROCESSED,
        message=f"{CODE_MEANINGS[Code.NOT_PROCESSED]} ({ascii(last_line[0])[1:-1][:200]})",
    )


def lines_about(incoming: IncomingRequest, problem: EnrollmentProblem) -> list[tuple[int, int]]:
    """Return the lines that a problem is about, each with its position in the request.

    A problem is about the line of one course, or about all lines of the request.
    """
    lines = list(enumerate(incoming.lines))
    if len(lines) <= 1:
        return lines
    request, record = incoming.request, incoming.record
    position = _COURSE_FIELD.fullmatch(problem.field or "")
    if position is not None:
        return lines[int(position[1]) :][:1] or lines
    if problem.course_id is None:
        return lines
    courses = request.course_ids if request else record["course_ids"]
    return [place for place in lines if problem.course_id == courses[place[0]]] or lines


def _check(incoming: IncomingRequest, stored: RequestLookup) -> CheckedRequest:
    """Check a request against the roster: list its problems, and the courses to enroll in."""
    request = incoming.request
    if request is None or incoming.problems:
        return CheckedRequest(incoming, None, [], incoming.problems)
    from_file = bool(incoming.lines)
    student = stored.students.get(request.student_id)
    if student is None:
        problem = unknown_student(request.student_id, from_file=from_file)
        return CheckedRequest(incoming, None, [], (problem,))
    unknown = [course for course in request.course_ids if course not in stored.courses]
    problems = tuple(unknown_course(course, from_file=from_file) for course in unknown)
    # All or nothing: one unknown course refuses the whole request.
    if problems and request.atomic:
        return CheckedRequest(incoming, student, [], problems)
    keys = [stored.courses[course] for course in request.course_ids if course in stored.courses]
    # A key and a SIS id in one request may name the same course.
    return CheckedRequest(incoming, student, list(dict.fromkeys(keys)), problems)


def _pairs(request: CheckedRequest) -> list[Pair]:
    student = request.student
    return [] if student is None else [(student, course) for course in request.courses]


def _result(
    request: CheckedRequest, already: list[int], batch_id: str | None, decided_at: datetime
) -> StoredResult:
    incoming, student, courses, problems = request
    student_id = (
        incoming.request.student_id if incoming.request else _readable_student(incoming.record)
    )
    return StoredResult(
        request_id=incoming.request_id,
        fingerprint=incoming.fingerprint() if incoming.has_own_id else None,
        student_id=student_id if student is None and isinstance(student_id, int) else student,
        student_sis_id=student_id if isinstance(student_id, str) else None,
        status=_status(courses, problems),
        enrolled_ids=courses,
        already_enrolled_ids=already,
        errors=tuple(_located(problem, incoming) for problem in problems),
        batch_id=batch_id,
        completed_at=decided_at,
        moment=_moment(request),
    )


def _status(courses: Sequence[int], problems: Problems) -> ResultStatus:
    if not problems:
        return ResultStatus.ENROLLED
    return ResultStatus.PARTIAL if courses else ResultStatus.REJECTED


def _located(problem: EnrollmentProblem, incoming: IncomingRequest) -> EnrollmentProblem:
    """Add the first line that a problem is about."""
    lines = lines_about(incoming, problem)
    return problem.model_copy(update={"line": lines[0][1]}) if lines else problem


def _readable_student(record: object) -> int | str | None:
    """Return the student of an invalid request, so that its result can be found by student."""
    try:
        student = record.get("student_id") if isinstance(record, Mapping) else None
        return _IDENTIFIER.validate_python(student)
    except ValidationError:
        return None
