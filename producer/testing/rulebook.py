"""Decide requests in memory, by the same rules as a worker.

A worker's own rules are not used here, because they come with SQL, which a submitter does not
install. A property test compares the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from producer.contract.explain import MAX_PROBLEMS
from producer.contract.refusals import (
    ahead_of_clock,
    reused_id,
    same_course,
    unknown_course,
    unknown_student,
)
from producer.schemas import Action, EnrollmentProblem
from producer.testing.intervals import Change, Intervals
from producer.testing.results import (
    CourseResult,
    Incoming,
    NamedCourse,
    Result,
    Times,
    located,
    status_of,
)
from producer.testing.roster import RosterPart


class _Checked(NamedTuple):
    """A request, checked against the roster."""

    incoming: Incoming
    moment: datetime
    student: int | str | None
    """The student's key; what the request said, if the student does not exist."""
    problems: tuple[EnrollmentProblem, ...] = ()
    courses: Mapping[int, NamedCourse] = {}
    """The courses to enroll in and to drop, by key; empty if the whole request is refused."""


class _Step(NamedTuple):
    """A change that a request asks for."""

    moment: datetime
    action: Action
    request: _Checked
    course: int


@dataclass
class Enrollments:
    """The enrollments of all students and the results of all requests, with their roster."""

    students: RosterPart = field(default_factory=RosterPart)
    courses: RosterPart = field(default_factory=RosterPart)
    intervals: Intervals = field(default_factory=Intervals)
    results: dict[str, Result] = field(default_factory=dict)

    def decide(
        self,
        requests: Sequence[Incoming],
        batch_id: str | None,
        times: Times,
        swept_at: datetime | None = None,
    ) -> list[Result]:
        """Decide the requests of one transaction, and store their results; return these in order.

        A repeat gets the first result, and a different request under the same id is refused.
        Requests of a data set whose last snapshot counts at `swept_at` open nothing if they are
        older.
        """
        dated = [_dated(incoming, times) for incoming in requests]
        checked: dict[str, _Checked] = {}
        # Of requests with the same id, the earliest one counts.
        for incoming, moment in sorted(dated, key=lambda request: request[1]):
            if incoming.request_id not in self.results.keys() | checked.keys():
                checked[incoming.request_id] = self._check(incoming, moment)
        changes = self._apply(list(checked.values()), swept_at)
        for request_id, request in checked.items():
            self.results[request_id] = _result(request, changes, batch_id, times.now)
        decided = []
        for incoming, moment in dated:
            result = self.results[incoming.request_id]
            first = checked.get(incoming.request_id)
            if first is None or first.incoming is not incoming:
                result = self._repeated(incoming, moment, result, batch_id, times.now)
            decided.append(result)
        return decided

    def _check(self, incoming: Incoming, moment: datetime) -> _Checked:
        """Check a request against the roster: list its problems, and the courses that exist."""
        named, request = incoming.student(), incoming.request
        if request is None or incoming.problems:
            # The student of a request that breaks the contract is not looked up.
            return _Checked(incoming, moment, named, incoming.problems)
        from_file = bool(incoming.lines)
        student = self.students.key_of(request.student_id)
        if student is None:
            problem = unknown_student(request.student_id, from_file=from_file)
            return _Checked(incoming, moment, named, (problem,))
        courses: dict[int, NamedCourse] = {}
        unknown, contradictions = [], []
        for course in incoming.courses():
            key = self.courses.key_of(course.identifier)
            if key is None:
                unknown.append(unknown_course(course.identifier, from_file=from_file))
                continue
            # A key and a SIS id may name the same course.
            other = courses.setdefault(key, course)
            if other.action is not course.action:
                contradictions.append(
                    same_course(course.position, course.identifier, other.identifier)
                )
        if unknown and request.atomic:
            return _Checked(incoming, moment, student, tuple(unknown))
        if contradictions:
            return _Checked(incoming, moment, student, tuple(contradictions[:MAX_PROBLEMS]))
        return _Checked(incoming, moment, student, tuple(unknown), courses)

    def _apply(
        self, requests: Sequence[_Checked], swept_at: datetime | None
    ) -> dict[tuple[str, int], Change]:
        """Make the changes that requests ask for; return what each did, by request and course.

        They are made by moment, and at equal moments drops come first, so that *enrolled* wins.
        """
        steps = [
            _Step(request.moment, course.action, request, key)
            for request in requests
            for key, course in request.courses.items()
        ]
        changes = {}
        for moment, action, request, key in sorted(
            steps, key=lambda step: (step.moment, step.action is Action.ENROLL)
        ):
            if isinstance(request.student, int):
                pair = (request.student, key)
                if action is Action.DROP:
                    change = self.intervals.drop(pair, moment)
                else:
                    change = self.intervals.enroll(pair, moment, swept_at)
                changes[request.incoming.request_id, key] = change
        return changes

    def _repeated(
        self,
        incoming: Incoming,
        moment: datetime,
        earlier: Result,
        batch_id: str | None,
        now: datetime,
    ) -> Result:
        """Return the first result of a repeat; refuse a different request under the same id."""
        if incoming.has_own_id and incoming.asked() == earlier.incoming.asked():
            return replace(earlier, incoming=incoming, is_repeat=True)
        checked = self._check(incoming, moment)
        problems = (reused_id(incoming.request_id),)
        return _result(checked._replace(problems=problems, courses={}), {}, batch_id, now)


def _result(
    checked: _Checked,
    changes: Mapping[tuple[str, int], Change],
    batch_id: str | None,
    now: datetime,
) -> Result:
    incoming = checked.incoming
    courses = tuple(
        CourseResult(key, course.action, course.row, changes[incoming.request_id, key])
        for key, course in checked.courses.items()
    )
    return Result(
        incoming,
        checked.student,
        status_of(courses, has_problems=bool(checked.problems)),
        located(checked.problems, incoming),
        batch_id,
        now,
        checked.moment,
        courses,
    )


def _dated(incoming: Incoming, times: Times) -> tuple[Incoming, datetime]:
    """Let a request count when it says; refuse one that lies too far ahead."""
    as_of = incoming.request.as_of if incoming.request else None
    moment = incoming.moment or times.moment
    if (problem := ahead_of_clock(as_of, times.now)) is not None:
        return incoming._replace(problems=(*incoming.problems, problem)), moment
    return incoming, as_of or moment
