"""Decide requests: who is refused and why, and which rows to write. Pure; no SQL here.

`plan` says which requests are refused and which rows are to be written, `conclude` makes the
results once it is known which of those rows are new. Everything that enrolls goes through the two;
`worker.service` puts them together.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from producer.contract.chunks import fingerprint_of
from producer.contract.explain import explain
from producer.schemas import (
    CODE_MEANINGS,
    MAX_REQUEST_ID,
    Code,
    EnrollmentProblem,
    Identifier,
    RequestId,
    ResultStatus,
    StudentEnrollmentRequest,
)
from worker.enrollment.values import CourseSummary, Problems, RequestLookup, StoredResult
from worker.models import Pair

_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)
_IDENTIFIER: TypeAdapter[int | str] = TypeAdapter(Identifier)


class IncomingRequest(NamedTuple):
    """A request as it came: its record, and the request if the record keeps the contract.

    With `problems` it is refused, whatever it asks for. `lines` are those of the submitted file,
    where there was one.
    """

    request_id: str
    record: Any
    request: StudentEnrollmentRequest | None
    problems: Problems = ()
    lines: Sequence[int] = ()
    has_own_id: bool = True
    """False where the id was made of a chunk's number."""

    def fingerprint(self) -> int:
        """Return a number that is equal for requests that ask for the same."""
        request = self.request
        if request is None:
            return fingerprint_of(json.dumps(self.record, sort_keys=True, default=repr))
        return fingerprint_of(json.dumps([request.student_id, request.course_ids, request.atomic]))


class CheckedRequest(NamedTuple):
    """A request with what the roster says of it."""

    incoming: IncomingRequest
    student: int | None
    """The student's key; None if there is no such student."""
    courses: list[int]
    """Keys of the courses to enroll in; none if the request is refused as a whole."""
    problems: Problems


class Plan(NamedTuple):
    """Which requests are refused and why, and which rows are to be written."""

    checked: list[CheckedRequest]
    pairs: list[Pair]
    """The rows to write; a pair may stand here twice if two requests ask for it."""
    results: Mapping[str, StoredResult]
    """Earlier results, by request id."""


class Decision(NamedTuple):
    """A request with its result."""

    incoming: IncomingRequest
    result: StoredResult
    is_new: bool
    """The result is to be stored; false for a repeat, and for an id that was used before."""
    is_repeat: bool = False
    """The request was decided before, and this is its first result."""

    def count_rows(self, rows: int) -> "RowCounts":
        """Say what became of the rows that the request stands for; they add up to `rows`."""
        is_rejected = self.result.status is ResultStatus.REJECTED
        rejected = rows if is_rejected else len(self.result.errors)
        enrolled = 0
        if not self.is_repeat:
            enrolled = len(self.result.enrolled_ids) - len(self.result.already_enrolled_ids)
        return RowCounts(enrolled, rows - enrolled - rejected, rejected)


class RowCounts(NamedTuple):
    """Rows of a request by what became of them."""

    enrolled: int
    """Rows that it added."""
    already_enrolled: int
    rejected: int


class Decisions(NamedTuple):
    """Requests with their results, in order, and the courses that the results name, by key."""

    decided: list[Decision]
    courses: Mapping[int, CourseSummary]


def read_request(task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> IncomingRequest:
    """Read a request from the arguments of a task; without an id of its own it takes the task's."""
    record = args[0] if len(args) == 1 and not kwargs else {"args": args, "kwargs": kwargs}
    own_id = task_id[:MAX_REQUEST_ID]
    try:
        request = StudentEnrollmentRequest.model_validate(record)
    except ValidationError as error:
        return IncomingRequest(given_id(record) or own_id, record, None, explain(error))
    return IncomingRequest(request.request_id or own_id, record, request)


def given_id(record: Any) -> str | None:
    """Return a request's own id, even if the record breaks the contract elsewhere."""
    return readable_id(record.get("request_id")) if isinstance(record, dict) else None


def readable_id(value: object) -> str | None:
    """Return a valid id of a request, task or batch; None for anything else."""
    try:
        return _REQUEST_ID.validate_python(value)
    except ValidationError:
        return None


def plan(requests: Sequence[IncomingRequest], found: RequestLookup) -> Plan:
    """Decide which requests are refused and why, and which rows are to be written.

    Only the first of several requests under one id has rows to write, and only if the id has no
    result yet.
    """
    checked = [_check(incoming, found) for incoming in requests]
    claimed = set(found.results)
    pairs: list[Pair] = []
    for request in checked:
        if request.incoming.request_id not in claimed:
            claimed.add(request.incoming.request_id)
            pairs += _pairs(request)
    return Plan(checked, pairs, found.results)


def conclude(
    plan: Plan, added: Iterable[Pair], batch_id: str | None, decided_at: datetime
) -> list[Decision]:
    """Make the results of a plan, in the order of its requests.

    `added` are the planned rows that were not there before. Of two requests that ask for the same
    row, the first has added it and the second finds it there.
    """
    new_rows = set(added)
    results = dict(plan.results)
    decided = []
    for request in plan.checked:
        incoming = request.incoming
        earlier = results.get(incoming.request_id)
        if earlier is None:
            pairs = _pairs(request)
            already = [pair[1] for pair in pairs if pair not in new_rows]
            new_rows.difference_update(pairs)
            result = _result(request, already, batch_id, decided_at)
            results[incoming.request_id] = result
            decided.append(Decision(incoming, result, is_new=True))
        elif incoming.has_own_id and earlier.fingerprint == incoming.fingerprint():
            decided.append(Decision(incoming, earlier, is_new=False, is_repeat=True))
        else:
            refused = request._replace(courses=[], problems=(_reused(incoming),))
            result = _result(refused, [], batch_id, decided_at)
            decided.append(Decision(incoming, result, is_new=False))
    return decided


def not_processed(what_happened: str) -> EnrollmentProblem:
    """Return the refusal of a request that became a dead letter."""
    last = what_happened.strip().splitlines()[-1:] or ["it failed"]
    return EnrollmentProblem(
        code=Code.NOT_PROCESSED,
        message=f"{CODE_MEANINGS[Code.NOT_PROCESSED]} ({ascii(last[0])[1:-1][:200]})",
    )


def lines_about(incoming: IncomingRequest, problem: EnrollmentProblem) -> list[tuple[int, int]]:
    """Return the lines that a problem is about, with their places in the record.

    They are the line of a course, or all lines of the request.
    """
    lines = list(enumerate(incoming.lines))
    if len(lines) <= 1:
        return lines
    request, record = incoming.request, incoming.record
    courses = request.course_ids if request else record["course_ids"]
    about = [
        (place, line)
        for place, line in lines
        if problem.field == f"course_ids[{place}]" or problem.course_id == courses[place]
    ]
    return about or lines


def _check(incoming: IncomingRequest, found: RequestLookup) -> CheckedRequest:
    """Say what is wrong with a request, and which courses are left to enroll in."""
    request = incoming.request
    if request is None or incoming.problems:
        return CheckedRequest(incoming, None, [], incoming.problems)
    student = found.students.get(request.student_id)
    if student is None:
        return CheckedRequest(incoming, None, [], (_unknown_student(request.student_id),))
    unknown = [course for course in request.course_ids if course not in found.courses]
    problems = tuple(map(_unknown_course, unknown))
    # All or nothing: one bad course refuses the whole request.
    if problems and request.atomic:
        return CheckedRequest(incoming, student, [], problems)
    keys = [found.courses[course] for course in request.course_ids if course in found.courses]
    # Two ids, a key and a SIS id, may name the same course.
    return CheckedRequest(incoming, student, list(dict.fromkeys(keys)), problems)


def _pairs(request: CheckedRequest) -> list[Pair]:
    student = request.student
    return [] if student is None else [(student, course) for course in request.courses]


def _result(
    request: CheckedRequest, already: list[int], batch_id: str | None, decided_at: datetime
) -> StoredResult:
    incoming, student, courses, problems = request
    asked_for = (
        incoming.request.student_id if incoming.request else _readable_student(incoming.record)
    )
    return StoredResult(
        request_id=incoming.request_id,
        fingerprint=incoming.fingerprint() if incoming.has_own_id else None,
        student_id=asked_for if student is None and isinstance(asked_for, int) else student,
        student_sis_id=asked_for if isinstance(asked_for, str) else None,
        status=_status(courses, problems),
        enrolled_ids=courses,
        already_enrolled_ids=already,
        errors=tuple(_located(problem, incoming) for problem in problems),
        batch_id=batch_id,
        completed_at=decided_at,
    )


def _status(courses: Sequence[int], problems: Problems) -> ResultStatus:
    if not problems:
        return ResultStatus.ENROLLED
    return ResultStatus.PARTIAL if courses else ResultStatus.REJECTED


def _located(problem: EnrollmentProblem, incoming: IncomingRequest) -> EnrollmentProblem:
    lines = lines_about(incoming, problem)
    return problem.model_copy(update={"line": lines[0][1]}) if lines else problem


def _readable_student(record: object) -> int | str | None:
    """Return the student of a request that breaks the contract elsewhere, to find it by."""
    try:
        student = record.get("student_id") if isinstance(record, Mapping) else None
        return _IDENTIFIER.validate_python(student)
    except ValidationError:
        return None


def _unknown_student(asked_for: int | str) -> EnrollmentProblem:
    message = f"no student has the {_shown_id(asked_for)}"
    return EnrollmentProblem(code=Code.UNKNOWN_STUDENT, message=message, field="student_id")


def _unknown_course(asked_for: int | str) -> EnrollmentProblem:
    message = f"no course has the {_shown_id(asked_for)}"
    return EnrollmentProblem(code=Code.UNKNOWN_COURSE, message=message, course_id=asked_for)


def _shown_id(asked_for: int | str) -> str:
    if isinstance(asked_for, int):
        sis_id = repr(str(asked_for))
        return f"key {asked_for}; an integer is our key, for a SIS id send the string {sis_id}"
    is_number = asked_for.isascii() and asked_for.isdigit()
    hint = f"; a string is a SIS id, for our key send the integer {asked_for}"
    return f"SIS id {asked_for!r}" + (hint if is_number else "")


def _reused(incoming: IncomingRequest) -> EnrollmentProblem:
    return EnrollmentProblem(
        code=Code.REQUEST_ID_REUSED,
        message=f"request id {incoming.request_id!r} was used before for another content;"
        " nothing was changed, submit again under a new id",
        field="request_id",
    )
