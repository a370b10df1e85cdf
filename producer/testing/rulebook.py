"""Decide requests in memory, by the same rules as a worker.

A worker's own rules are not used here, because they come with SQL, which a submitter does not
install. A property test compares the two.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from producer.contract.refusals import (
    ahead_of_clock,
    reused_id,
    unknown_course,
    unknown_student,
)
from producer.contract.rosters import MergedRecord, is_superseded
from producer.schemas import (
    EnrolledCourse,
    EnrolledCourseRecord,
    EnrollmentProblem,
    Identifier,
    ResultStatus,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
    StudentResponse,
)

_IDENTIFIER: TypeAdapter[int | str] = TypeAdapter(Identifier)


class Times(NamedTuple):
    """When a request or a batch counts, and the present time."""

    moment: datetime
    now: datetime


class RosterPart:
    """The students, or the courses; a key is a position in the order in which they came, from 1."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []
        self._named: list[dict[str, tuple[int, Any]]] = []
        """The value of each field, with the moment of the record that last named it."""
        self._keys: dict[str, int] = {}

    def key_of(self, identifier: int | str | None) -> int | None:
        """Return the key that belongs to a key or SIS id; None if there is none."""
        if isinstance(identifier, int):
            return identifier if 1 <= identifier <= len(self._records) else None
        return None if identifier is None else self._keys.get(identifier)

    def fields_of(self, key: int) -> Mapping[str, Any]:
        """Return the SIS id and the other fields that upstream sent."""
        return self._records[key - 1]

    def upsert(self, merged: MergedRecord, fields: Sequence[str]) -> Counter[str]:
        """Write merged records with these fields; return how many did what, as in the counts."""
        key = self._keys.setdefault(merged.sis_id, len(self._records) + 1)
        if is_new := key > len(self._records):
            self._records.append({"sis_id": merged.sis_id})
            self._named.append({})
        named, before = self._named[key - 1], dict(self._records[key - 1])
        for name, moment, value in zip(fields, merged.moments, merged.values, strict=True):
            if moment is not None and (moment, value) >= named.get(name, (moment, value)):
                named[name] = (moment, value)
                self._records[key - 1][name] = value
        after = [named.get(name, (None, None)) for name in fields]
        moments, values = [moment for moment, _ in after], [value for _, value in after]
        upserted = int(is_new or before != self._records[key - 1])
        superseded = sum(is_superseded(record, moments, values) for record in merged.records)
        unchanged = len(merged.records) - upserted - superseded
        return Counter(upserted=upserted, superseded=superseded, unchanged=unchanged)


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
    courses: tuple[int, ...] = ()
    """The keys of the courses that the student is enrolled in, in the order of the request."""
    added: frozenset[int] = frozenset()
    """Those of them whose row is new."""
    is_repeat: bool = False

    @property
    def age(self) -> tuple[datetime, str]:
        """Return what results are sorted by."""
        return self.completed_at, self.incoming.request_id

    def count_rows(self, rows: int) -> dict[str, int]:
        """Count the rows of the request by what happened to them."""
        rejected = rows if self.status is ResultStatus.REJECTED else len(self.errors)
        enrolled = 0 if self.is_repeat else len(self.added)
        return {
            "enrolled": enrolled,
            "already_enrolled": rows - enrolled - rejected,
            "rejected": rejected,
        }


@dataclass
class Enrollments:
    """The rows of all students, and the results of all requests, with the roster they refer to."""

    students: RosterPart = field(default_factory=RosterPart)
    courses: RosterPart = field(default_factory=RosterPart)
    rows: dict[tuple[int, int], datetime] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)

    def decide(self, incoming: Incoming, batch_id: str | None, times: Times) -> Result:
        """Decide a request, write its rows and store its result.

        A repeat gets the first result, and a different request under the same id is refused.
        """
        incoming, times = _dated(incoming, times)
        earlier = self.results.get(incoming.request_id)
        if earlier is None:
            result = self._decide_new(incoming, batch_id, times)
            self.results[incoming.request_id] = result
            self.rows |= dict.fromkeys(self._rows_of(result), times.moment)
            return result
        if incoming.has_own_id and _asked(incoming) == _asked(earlier.incoming):
            return replace(earlier, incoming=incoming, is_repeat=True)
        problem = reused_id(incoming.request_id)
        return self._refused(incoming, (problem,), batch_id, times)

    def _decide_new(self, incoming: Incoming, batch_id: str | None, times: Times) -> Result:
        request = incoming.request
        if request is None or incoming.problems:
            return self._refused(incoming, incoming.problems, batch_id, times)
        from_file = bool(incoming.lines)
        student = self.students.key_of(request.student_id)
        if student is None:
            problem = unknown_student(request.student_id, from_file=from_file)
            return self._refused(incoming, (problem,), batch_id, times)
        keys = {course: self.courses.key_of(course) for course in request.course_ids}
        problems = tuple(
            unknown_course(course, from_file=from_file)
            for course, key in keys.items()
            if key is None
        )
        courses = tuple(dict.fromkeys(key for key in keys.values() if key is not None))
        if problems and (request.atomic or not courses):
            return self._refused(incoming, problems, batch_id, times)
        return Result(
            incoming,
            student,
            ResultStatus.PARTIAL if problems else ResultStatus.ENROLLED,
            located(problems, incoming),
            batch_id,
            times.now,
            times.moment,
            courses,
            frozenset(course for course in courses if (student, course) not in self.rows),
        )

    def _refused(
        self,
        incoming: Incoming,
        problems: tuple[EnrollmentProblem, ...],
        batch_id: str | None,
        times: Times,
    ) -> Result:
        named = _named_student(incoming)
        # The student of a request that breaks the contract is not looked up.
        key = self.students.key_of(named) if incoming.request and not incoming.problems else None
        return Result(
            incoming,
            named if key is None else key,
            ResultStatus.REJECTED,
            located(problems, incoming),
            batch_id,
            times.now,
            times.moment,
        )

    @staticmethod
    def _rows_of(result: Result) -> set[tuple[int, int]]:
        if not isinstance(result.student, int):
            return set()
        return {(result.student, course) for course in result.added}

    # --- what lookups return --------------------------------------------------------------------

    def response(self, result: Result) -> StudentEnrollmentResponse:
        """Return a result as a submitter reads it."""
        named = _named_student(result.incoming)
        key = self.students.key_of(result.student)
        by_key = None if key is None else self.students.fields_of(key)["sis_id"]
        courses = []
        for course in result.courses:
            fields = self.courses.fields_of(course)
            courses.append(
                EnrolledCourse(
                    id=course,
                    sis_id=fields["sis_id"],
                    title=fields.get("title"),
                    added=course in result.added,
                )
            )
        return StudentEnrollmentResponse(
            request_id=result.incoming.request_id,
            student_id=named,
            student_sis_id=named if isinstance(named, str) else by_key,
            status=result.status,
            enrolled_courses=tuple(courses),
            errors=result.errors,
            batch_id=result.batch_id,
            completed_at=result.completed_at,
            moment=result.moment,
        )

    def results_of(
        self, student: int | str, limit: int, before: tuple[datetime, str] | None
    ) -> list[StudentEnrollmentResponse]:
        """Return a student's newest results, even those from before the student existed."""
        names = {student, self.students.key_of(student)} - {None}
        found = [
            result
            for result in self.results.values()
            if result.student in names and (before is None or result.age < before)
        ]
        newest_first = sorted(found, key=lambda result: result.age, reverse=True)
        return [self.response(result) for result in newest_first[:limit]]

    def student(self, student: int | str) -> StudentResponse | None:
        """Return a student with courses; None if there is no such student."""
        key = self.students.key_of(student)
        if key is None:
            return None
        fields = self.students.fields_of(key)
        courses = []
        for (owner, course), enrolled_at in self.rows.items():
            if owner == key:
                about = self.courses.fields_of(course)
                courses.append(
                    EnrolledCourseRecord(
                        id=course,
                        sis_id=about["sis_id"],
                        title=about.get("title"),
                        enrolled_at=enrolled_at,
                    )
                )
        return StudentResponse(
            id=key,
            sis_id=fields["sis_id"],
            name=fields.get("name"),
            email=fields.get("email"),
            courses=tuple(sorted(courses, key=lambda course: course.sis_id)),
        )


def lines_about(incoming: Incoming, problem: EnrollmentProblem) -> list[tuple[int, int]]:
    """Return the lines that a problem is about, each with its position in the request.

    A problem is about the line of one course, or about all lines of the request.
    """
    lines = list(enumerate(incoming.lines))
    if len(lines) <= 1:
        return lines
    courses = incoming.request.course_ids if incoming.request else incoming.record["course_ids"]
    field = problem.field or ""
    position = field.removeprefix("course_ids[").removesuffix("]")
    if field == f"course_ids[{position}]" and position.isdecimal():
        return lines[int(position) :][:1] or lines
    if problem.course_id is None:
        return lines
    return [place for place in lines if problem.course_id == courses[place[0]]] or lines


def located(
    problems: Sequence[EnrollmentProblem], incoming: Incoming
) -> tuple[EnrollmentProblem, ...]:
    """Return the problems, each with the first line that it is about."""
    found = []
    for problem in problems:
        lines = lines_about(incoming, problem)
        found.append(problem.model_copy(update={"line": lines[0][1]}) if lines else problem)
    return tuple(found)


def _asked(incoming: Incoming) -> Any:
    """Return what is equal for requests that ask for the same thing."""
    request = incoming.request
    if request is None or not incoming.has_own_id:
        return None
    return request.student_id, request.course_ids, request.atomic, request.as_of


def _dated(incoming: Incoming, times: Times) -> tuple[Incoming, Times]:
    """Let a request count when it says; refuse one that lies too far ahead."""
    as_of = incoming.request.as_of if incoming.request else None
    moment = incoming.moment or times.moment
    if (problem := ahead_of_clock(as_of, times.now)) is not None:
        incoming = incoming._replace(problems=(*incoming.problems, problem))
    elif as_of is not None:
        moment = as_of
    return incoming, times._replace(moment=moment)


def _named_student(incoming: Incoming) -> int | str | None:
    """Return the student as the request named them, even if it breaks the contract."""
    if incoming.request is not None:
        return incoming.request.student_id
    try:
        record = incoming.record
        return _IDENTIFIER.validate_python(record.get("student_id"))
    except (ValidationError, AttributeError):
        return None
