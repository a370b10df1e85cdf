"""Decide requests: who is refused and why, and which rows to write. Pure; no SQL here."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, compress
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from producer.contract.chunks import fingerprint_of
from producer.contract.explain import explain
from producer.schemas import (
    CODE_MEANINGS,
    MAX_REQUEST_ID,
    Code,
    EnrollmentProblem,
    Identifier,
    RequestId,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
)
from worker.enrollment.repository import Result, add_results, find_named, find_results
from worker.enrollment.results import respond
from worker.repository import enroll_students_in_courses

_ID: TypeAdapter[str] = TypeAdapter(RequestId)


def given_id(record: Any) -> str | None:
    """The id that a request has of its own; it may break the contract elsewhere."""
    return readable_id(record.get("request_id")) if isinstance(record, dict) else None


def readable_id(value: object) -> str | None:
    try:
        return _ID.validate_python(value)
    except ValidationError:
        return None


Problems = tuple[EnrollmentProblem, ...]
_IDENTIFIER: TypeAdapter[int | str] = TypeAdapter(Identifier)


class Asked(NamedTuple):
    """A request as it came: its record, and the request if the record keeps the contract.

    With `problems` it is refused, whatever it asks for. `own_id` tells an id that the submitter
    gave from one that was made of a chunk's number.
    """

    request_id: str
    record: Any
    request: StudentEnrollmentRequest | None
    problems: Problems = ()
    lines: Sequence[int] = ()
    own_id: bool = True

    def fingerprint(self) -> int:
        """Equal for requests that ask for the same; a repeated id must not ask for another."""
        request = self.request
        if request is None:
            return fingerprint_of(json.dumps(self.record, sort_keys=True, default=repr))
        return fingerprint_of(json.dumps([request.student_id, request.course_ids, request.atomic]))


class Decided(NamedTuple):
    """A request with its outcome; `repeated` if that had been decided before."""

    asked: Asked
    result: Result
    repeated: bool = False


class Decisions(NamedTuple):
    """What became of requests, and the answers for those who wait for one."""

    decided: list[Decided]
    answers: list[StudentEnrollmentResponse]


def read_request(task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Asked:
    """A request as a task's arguments bring it; its id is the task's if it has none of its own."""
    record = args[0] if len(args) == 1 and not kwargs else {"args": args, "kwargs": kwargs}
    own_id = task_id[:MAX_REQUEST_ID]
    try:
        request = StudentEnrollmentRequest.model_validate(record)
    except ValidationError as error:
        return Asked(given_id(record) or own_id, record, None, explain(error))
    return Asked(request.request_id or own_id, record, request)


def not_processed(what_happened: str) -> EnrollmentProblem:
    """The refusal of what became a dead letter."""
    last = what_happened.strip().splitlines()[-1:] or ["it failed"]
    return EnrollmentProblem(
        code=Code.NOT_PROCESSED,
        message=f"{CODE_MEANINGS[Code.NOT_PROCESSED]} ({ascii(last[0])[1:-1][:200]})",
    )


def decide(
    connection: Connection,
    asked: Sequence[Asked],
    answered: Sequence[bool] = (True,),
    batch_id: str | None = None,
) -> Decisions:
    """Decide requests within a transaction."""
    decided, courses = settle(connection, asked, None, batch_id, datetime.now(UTC))
    answers = respond(connection, [one.result for one in compress(decided, answered)], courses)
    return Decisions(decided, answers)


def settle(
    connection: Connection,
    asked: Sequence[Asked],
    known: Sequence[Result] | None,
    batch_id: str | None,
    now: datetime,
) -> tuple[list[Decided], Mapping[int, Any]]:
    """Decide requests in their order, write their rows and store the outcomes that are new.

    `known` are the outcomes that are stored already under the ids of these requests; None if they
    have yet to be looked for. Returns also what describes the courses that were asked for, by key.
    """
    requests = [a.request for a in asked if a.request is not None and not a.problems]
    ids = [a.request_id for a in asked] if known is None else []
    students, courses, described, is_known = find_named(
        connection,
        [r.student_id for r in requests],
        chain.from_iterable([r.course_ids for r in requests]),
        ids,
    )
    if known is None:
        known = find_results(connection, ids) if is_known else []
    outcomes = {result.request_id: result for result in known}
    claimed = set(outcomes)
    checked = []
    pairs: list[tuple[int, int]] = []
    for a in asked:
        student, wanted, problems = _check(a, students, courses)
        checked.append((a, student, wanted, problems))
        if a.request_id not in claimed:
            claimed.add(a.request_id)
            if student is not None:
                pairs += [(student, course) for course in wanted]
    added = set(enroll_students_in_courses(connection, pairs, now))
    all_new, none_new = len(added) == len(pairs), not added
    decided = []
    new = []
    for a, student, wanted, problems in checked:
        earlier = outcomes.get(a.request_id)
        if earlier is None:
            if all_new or none_new:
                already = [] if all_new else wanted
            else:
                already = [c for c in wanted if (student, c) not in added]
                # Who asks for it again, in the same chunk, finds it there.
                added.difference_update([(student, course) for course in wanted])
            result = _result(a, student, wanted, already, problems, batch_id, now)
            outcomes[a.request_id] = result
            new.append(result)
            decided.append(Decided(a, result))
        elif a.own_id and earlier.fingerprint == a.fingerprint():
            decided.append(Decided(a, earlier, True))
        else:
            decided.append(Decided(a, _result(a, student, [], [], (_reused(a),), batch_id, now)))
    add_results(connection, new)
    return decided, described


def _check(
    asked: Asked, students: Mapping[int | str | None, int], courses: Mapping[int | str, int]
) -> tuple[int | None, list[int], Problems]:
    """The student's key, the courses to enroll in, and what is wrong with the rest."""
    request = asked.request
    if request is None or asked.problems:
        return None, [], asked.problems
    student = students.get(request.student_id)
    if student is None:
        return None, [], (_unknown_student(request.student_id),)
    problems: Problems = ()
    try:
        found = [courses[c] for c in request.course_ids]
    except KeyError:
        problems = tuple(_unknown_course(c) for c in request.course_ids if c not in courses)
        if request.atomic:
            return student, [], problems
        found = [courses[c] for c in request.course_ids if c in courses]
    # Two ids, a key and a SIS id, may name the same course.
    return student, found if len(set(found)) == len(found) else list(dict.fromkeys(found)), problems


def _result(
    asked: Asked,
    student: int | None,
    enrolled: list[int],
    already: list[int],
    problems: Problems,
    batch_id: str | None,
    now: datetime,
) -> Result:
    who = asked.request.student_id if asked.request else _readable_student(asked.record)
    return Result(
        asked.request_id,
        asked.fingerprint() if asked.own_id else None,
        who if student is None and isinstance(who, int) else student,
        who if isinstance(who, str) else None,
        ("partial" if enrolled else "rejected") if problems else "enrolled",
        enrolled,
        already,
        [_located(p, asked).model_dump(mode="json", exclude_none=True) for p in problems]
        if problems
        else [],
        batch_id,
        now,
    )


def _located(problem: EnrollmentProblem, asked: Asked) -> EnrollmentProblem:
    lines = lines_about(asked, problem)
    return problem.model_copy(update={"line": lines[0][1]}) if lines else problem


def _readable_student(record: object) -> int | str | None:
    """The student of a request that breaks the contract elsewhere, so that it can be found."""
    try:
        asked = record.get("student_id") if isinstance(record, Mapping) else None
        return _IDENTIFIER.validate_python(asked)
    except ValidationError:
        return None


def _unknown_student(asked: int | str) -> EnrollmentProblem:
    message = f"no student has the {_named(asked)}"
    return EnrollmentProblem(code=Code.UNKNOWN_STUDENT, message=message, field="student_id")


def _unknown_course(asked: int | str) -> EnrollmentProblem:
    message = f"no course has the {_named(asked)}"
    return EnrollmentProblem(code=Code.UNKNOWN_COURSE, message=message, course_id=asked)


def _named(asked: int | str) -> str:
    if isinstance(asked, int):
        return f"key {asked}; an integer is our key, for a SIS id send the string {str(asked)!r}"
    hint = f"; a string is a SIS id, for our key send the integer {asked}"
    return f"SIS id {asked!r}" + (hint if asked.isascii() and asked.isdigit() else "")


def _reused(asked: Asked) -> EnrollmentProblem:
    return EnrollmentProblem(
        code=Code.REQUEST_ID_REUSED,
        message=f"request id {asked.request_id!r} was used before for another content;"
        " nothing was changed, submit again under a new id",
        field="request_id",
    )


def lines_about(asked: Asked, problem: EnrollmentProblem) -> list[tuple[int, int]]:
    """The lines that a problem is about, with their places in the record: a course's, or all."""
    lines = list(enumerate(asked.lines))
    if len(lines) <= 1:
        return lines
    courses = asked.request.course_ids if asked.request else asked.record["course_ids"]
    about = [
        (place, line)
        for place, line in lines
        if problem.field == f"course_ids[{place}]" or problem.course_id == courses[place]
    ]
    return about or lines
