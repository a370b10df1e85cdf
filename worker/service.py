"""The rules: what becomes of requests and of chunks. One transaction each; knows no Celery.

A single request is a chunk of one: `_settle` is the only place where a request is decided.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from producer.schemas import (
    KIND_MODELS,
    Chunk,
    Code,
    EnrolledCourse,
    EnrollmentProblem,
    Identifier,
    Kind,
    Message,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
    count_rows,
    explain,
    line_request_id,
)
from worker import repository
from worker.database import Database, is_conflict
from worker.models import Course, Student
from worker.repository import Result

CONFLICT_ATTEMPTS = 8
Problems = tuple[EnrollmentProblem, ...]
_IDENTIFIER: TypeAdapter[int | str] = TypeAdapter(Identifier)
T = TypeVar("T")


class ChunkOutcome(StrEnum):
    """What became of a delivery of a chunk."""

    APPLIED = "applied"
    REPEATED = "repeated"
    CONFLICT = "conflict"
    """Another content was applied under this batch id and number; nothing was changed."""


@dataclass(frozen=True)
class Asked:
    """A request as it came: its record, and the request if the record keeps the contract."""

    request_id: str
    record: Any
    request: StudentEnrollmentRequest | None
    problems: Problems = ()
    lines: tuple[int, ...] = ()

    def fingerprint(self) -> int:
        """Equal for requests that ask for the same; a repeated id must not ask for another."""
        request = self.request
        if request is None:
            return _fingerprint(self.record)
        return _fingerprint([request.student_id, request.course_ids, request.atomic])


@dataclass(frozen=True)
class Decided:
    """A request with its outcome; `repeated` if that had been decided before."""

    asked: Asked
    result: Result
    repeated: bool = False


def add_enrollment(
    database: Database, request: StudentEnrollmentRequest, request_id: str
) -> StudentEnrollmentResponse:
    """Enroll one student in courses, or say why not.

    The student and every course must exist. A request id that was used before gives the first
    outcome again, or `request_id_reused` if it asked for something else. Raises DBAPIError.
    """
    return _decide_one(database, Asked(request_id, request.model_dump(mode="json"), request))


def refuse_enrollment(
    database: Database, request_id: str, record: object, problems: Problems
) -> StudentEnrollmentResponse:
    """Store the refusal of a request that breaks the contract. Raises DBAPIError."""
    return _decide_one(database, Asked(request_id, record, None, problems))


def apply_chunk(database: Database, kind: Kind, chunk: Chunk) -> ChunkOutcome:
    """Apply a chunk, its results and its entry in the ledger, exactly once. Raises DBAPIError."""
    return _transaction(database, lambda connection: _apply(connection, kind, chunk))


def _transaction(database: Database, work: Callable[[Connection], T]) -> T:
    """Run work in a transaction; again from the start when another one came first."""
    retrying = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, DBAPIError) and is_conflict(e)),
        stop=stop_after_attempt(CONFLICT_ATTEMPTS),
        wait=wait_random(0, 0.1),
        reraise=True,
    )

    def run() -> T:
        with database.writing() as connection:
            return work(connection)

    return retrying(run)


# --- requests -------------------------------------------------------------------------------


def _decide_one(database: Database, asked: Asked) -> StudentEnrollmentResponse:
    def decide(connection: Connection) -> StudentEnrollmentResponse:
        decided = _settle(connection, [asked], None, datetime.now(UTC))
        return respond(connection, [decided[0].result])[0]

    return _transaction(database, decide)


def _settle(
    connection: Connection, asked: Sequence[Asked], batch_id: str | None, now: datetime
) -> list[Decided]:
    """Decide requests in their order, write their rows and store the outcomes that are new."""
    known = {r.request_id: r for r in repository.find_results(connection, _ids(asked))}
    requests = [a.request for a in asked if a.request is not None]
    students = repository.find_students(connection, (r.student_id for r in requests))
    courses = repository.find_courses(
        connection, chain.from_iterable(r.course_ids for r in requests)
    )
    checked = [_check(a, students, courses) for a in asked]
    first: dict[str, Asked] = {}
    for a in asked:
        first.setdefault(a.request_id, a)
    pairs = {
        (student, course)
        for a, (student, wanted, _) in zip(asked, checked, strict=True)
        if student is not None and a.request_id not in known and first[a.request_id] is a
        for course in wanted
    }
    added = repository.enroll_students_in_courses(connection, pairs, now)
    decided = []
    new = []
    for a, (student, wanted, problems) in zip(asked, checked, strict=True):
        earlier = known.get(a.request_id)
        if earlier is None:
            enrolled = [(course, (student, course) in added) for course in wanted]
            added.difference_update((student, course) for course in wanted)
            result = _result(a, student, enrolled, problems, batch_id, now)
            known[a.request_id] = result
            new.append(result)
            decided.append(Decided(a, result))
        elif earlier.fingerprint == a.fingerprint():
            decided.append(Decided(a, earlier, repeated=True))
        else:
            decided.append(Decided(a, _result(a, student, [], (_reused(a),), batch_id, now)))
    repository.add_results(connection, new)
    return decided


def _ids(asked: Sequence[Asked]) -> Iterator[str]:
    return (a.request_id for a in asked)


def _check(
    asked: Asked, students: Mapping[int | str, int], courses: Mapping[int | str, int]
) -> tuple[int | None, list[int], Problems]:
    """The student's key, the courses to enroll in, and what is wrong with the rest."""
    request = asked.request
    if request is None:
        return None, [], asked.problems
    student = students.get(request.student_id)
    if student is None:
        return None, [], (_unknown_student(request.student_id),)
    problems = tuple(_unknown_course(c) for c in request.course_ids if c not in courses)
    if problems and request.atomic:
        return student, [], problems
    # Two ids, a key and a SIS id, may name the same course.
    found = dict.fromkeys(courses[c] for c in request.course_ids if c in courses)
    return student, list(found), problems


def _result(
    asked: Asked,
    student: int | None,
    enrolled: list[tuple[int, bool]],
    problems: Problems,
    batch_id: str | None,
    now: datetime,
) -> Result:
    who = asked.request.student_id if asked.request else _readable_student(asked.record)
    return Result(
        request_id=asked.request_id,
        fingerprint=asked.fingerprint(),
        student_id=who if student is None and isinstance(who, int) else student,
        student_sis_id=who if isinstance(who, str) else None,
        status=("partial" if enrolled else "rejected") if problems else "enrolled",
        enrolled=enrolled,
        errors=[_located(p, asked).model_dump(mode="json", exclude_none=True) for p in problems],
        batch_id=batch_id,
        completed_at=now,
    )


def _located(problem: EnrollmentProblem, asked: Asked) -> EnrollmentProblem:
    lines = _lines_about(asked, problem)
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


def respond(
    connection: Connection, results: Sequence[Result]
) -> list[StudentEnrollmentResponse]:
    """Stored outcomes in the form of the contract, in the same order."""
    keys = [course for result in results for course, _ in result.enrolled]
    courses = repository.describe_courses(connection, keys) if keys else {}
    return [
        StudentEnrollmentResponse(
            request_id=result.request_id,
            student_id=result.student_id if result.student_sis_id is None else result.student_sis_id,
            status=result.status,
            enrolled_courses=tuple(
                EnrolledCourse(
                    id=key, sis_id=courses[key].sis_id, title=courses[key].title, added=added
                )
                for key, added in result.enrolled
            ),
            errors=tuple(map(EnrollmentProblem.model_validate, result.errors)),
            batch_id=result.batch_id,
            completed_at=result.completed_at,
        )
        for result in results
    ]


# --- chunks ---------------------------------------------------------------------------------


def _apply(connection: Connection, kind: Kind, chunk: Chunk) -> ChunkOutcome:
    fingerprint = _fingerprint(chunk.model_dump(mode="json", exclude={"last", "before"}))
    entered = repository.find_chunk(connection, chunk.batch_id, chunk.number)
    if entered is not None:
        same = entered.kind == kind and entered.fingerprint == fingerprint
        return ChunkOutcome.REPEATED if same else ChunkOutcome.CONFLICT
    if repository.open_batch(connection, chunk.batch_id, kind) != kind:
        return ChunkOutcome.CONFLICT
    now = datetime.now(UTC)
    if kind is Kind.ENROLLMENTS:
        counts, refusals = _enroll(connection, chunk, now)
    else:
        counts, refusals = _upsert(connection, kind, chunk)
    for line in chunk.refused:
        problem = EnrollmentProblem(
            code=Code.INVALID_REQUEST, message=line.message, field=line.field
        )
        refusals.append(_refusal(line.line, problem, None))
    repository.add_refusals(connection, chunk.batch_id, refusals)
    counts["rejected"] += len(chunk.refused)
    counts["requests_rejected"] += len(chunk.refused)
    tally = chunk.tally()
    repository.add_chunk(
        connection,
        batch_id=chunk.batch_id,
        number=chunk.number,
        fingerprint=fingerprint,
        last=chunk.last,
        requests_through=chunk.before.requests + tally.requests,
        rows_through=chunk.before.rows + tally.rows,
        requests=tally.requests,
        rows=tally.rows,
        applied_at=now,
        **counts,
    )
    return ChunkOutcome.APPLIED


Counts = dict[str, int]
Refusals = list[dict[str, Any]]


def _no_counts() -> Counts:
    names = ("enrolled", "already_enrolled", "upserted", "unchanged", "rejected")
    return dict.fromkeys((*names, "requests_rejected"), 0)


def _enroll(connection: Connection, chunk: Chunk, now: datetime) -> tuple[Counts, Refusals]:
    asked = []
    for position, (record, lines) in enumerate(_numbered(chunk)):
        request, problems = _parse(StudentEnrollmentRequest, record)
        own_id = line_request_id(chunk.batch_id, chunk.number, position)
        request_id = request.request_id if request and request.request_id else own_id
        asked.append(Asked(request_id, record, request, problems, lines))
    counts = _no_counts()
    refusals: Refusals = []
    for one in _settle(connection, asked, chunk.batch_id, now):
        rejected = one.result.status == "rejected"
        rows = count_rows(one.asked.record)
        refused = rows if rejected else len(one.result.errors)
        added = 0 if one.repeated else sum(added for _, added in one.result.enrolled)
        counts["enrolled"] += added
        counts["rejected"] += refused
        counts["already_enrolled"] += rows - added - refused
        counts["requests_rejected"] += rejected
        for problem in map(EnrollmentProblem.model_validate, one.result.errors):
            refusals.extend(_refusals(one.asked, problem))
    return counts, refusals


def _upsert(connection: Connection, kind: Kind, chunk: Chunk) -> tuple[Counts, Refusals]:
    model = Student if kind is Kind.STUDENTS else Course
    counts = _no_counts()
    refusals: Refusals = []
    merged: dict[str, dict[str, Any]] = {}
    for record, lines in _numbered(chunk):
        parsed, problems = _parse(KIND_MODELS[kind], record)
        if parsed is None:
            counts["rejected"] += 1
            counts["requests_rejected"] += 1
            refusals.extend(_refusal(lines[0], problem, record) for problem in problems)
        else:
            given = parsed.model_dump(exclude_none=True)
            merged.setdefault(given["sis_id"], {}).update(given)
    counts["upserted"] = repository.upsert_roster(connection, model, list(merged.values()))
    counts["unchanged"] = len(chunk.records) - counts["rejected"] - counts["upserted"]
    return counts, refusals


def _numbered(chunk: Chunk) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Each record with its lines; where none were given, with its place in the batch, from 1."""
    start = chunk.before.requests + 1
    if chunk.lines is None:
        return ((record, (line,)) for line, record in enumerate(chunk.records, start))
    return iter(zip(chunk.records, chunk.lines, strict=True))


MessageType = TypeVar("MessageType", bound=Message)


def _parse(model: type[MessageType], record: object) -> tuple[MessageType | None, Problems]:
    try:
        return model.model_validate(record), ()
    except ValidationError as error:
        return None, explain(error)


def _refusals(asked: Asked, problem: EnrollmentProblem) -> Iterator[dict[str, Any]]:
    """A refusal for each line that a problem is about, with what was asked in that line."""
    for place, line in _lines_about(asked, problem):
        record = asked.record
        if len(asked.lines) > 1:
            record = {**record, "course_ids": [record["course_ids"][place]]}
        yield _refusal(line, problem, record)


def _lines_about(asked: Asked, problem: EnrollmentProblem) -> list[tuple[int, int]]:
    """The lines that a problem is about, each with its place in the record: its course's, or all."""
    lines = list(enumerate(asked.lines))
    if len(lines) < 2:
        return lines
    courses = asked.record["course_ids"]
    about = [
        (place, line)
        for place, line in lines
        if problem.field == f"course_ids[{place}]" or problem.course_id == courses[place]
    ]
    return about or lines


def _refusal(line: int, problem: EnrollmentProblem, record: object) -> dict[str, Any]:
    return {
        "line": line,
        "code": problem.code.value,
        "message": problem.message,
        "record": json.dumps(record, default=repr),
    }


def _fingerprint(content: object) -> int:
    """64 bits of BLAKE2b over the content as JSON, as a signed integer that SQL can hold."""
    text = json.dumps(content, sort_keys=True, default=repr).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), signed=True)
