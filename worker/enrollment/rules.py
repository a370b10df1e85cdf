"""Decide requests: which are refused and why, and which rows to write. Pure functions, no SQL.

`check` says which requests are refused, `plan` which rows are to be changed, and `conclude` makes
the results once the database has said which of those rows it changed. `worker.service` calls them.
Only the clean requests of a chunk do without them (`worker.enrollment.shortcuts`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import NamedTuple

from producer.contract.explain import MAX_PROBLEMS
from producer.contract.refusals import (
    before_limit,
    reused_id,
    same_course,
    unknown_course,
    unknown_student,
)
from producer.schemas import Action, EnrollmentProblem, ResultStatus, StudentEnrollmentRequest
from worker.enrollment.incoming import IncomingRequest, readable_student
from worker.enrollment.order import Interval, Outcome, Register, Verdict
from worker.enrollment.problems import located
from worker.enrollment.values import (
    CourseSummary,
    Problems,
    RequestLookup,
    StoredResult,
    Superseded,
)
from worker.intervals.values import Drop, NewerDrops, PairState
from worker.models import Pair


class CheckedRequest(NamedTuple):
    """A request, checked against the roster."""

    incoming: IncomingRequest
    student: int | None
    """The student's key; None if the student does not exist, or the request was invalid."""
    courses: list[int]
    """Keys of the courses to enroll in; empty if the whole request is refused."""
    problems: Problems
    dropped: Sequence[int] = ()
    """Keys of the courses to drop; empty if the whole request is refused."""

    @property
    def moment(self) -> datetime:
        """Return when the request counts."""
        if self.incoming.moment is None:
            raise ValueError("A request is given its moment before it is decided.")
        return self.incoming.moment

    def pairs(self, action: Action) -> list[Pair]:
        """Return the pairs to enroll, or those to drop."""
        courses = self.courses if action is Action.ENROLL else self.dropped
        return [] if self.student is None else [(self.student, course) for course in courses]


class Plan(NamedTuple):
    """Which requests are refused and why, and which rows are to be changed."""

    checked: list[CheckedRequest]
    verdicts: dict[int, dict[Pair, Verdict]]
    """What becomes of the pairs of a request, by the request's position, unless it is a repeat."""
    rows: Mapping[Pair, datetime]
    """The rows to write, each with the moment of the request that opens it."""
    endings: Mapping[Pair, Drop]
    """The enrollments to end."""
    passed: Sequence[tuple[Pair, Drop]]
    """Enrollments that begin and end within these requests."""
    notes: Mapping[Pair, Drop]
    """The drops to keep of pairs that are not enrolled."""
    results: Mapping[str, StoredResult]
    """Earlier results, by request id."""
    owners: Mapping[Pair, int]
    """The data sets that own the rows to write; a pair without one is not listed."""


class Changed(NamedTuple):
    """Which rows the database has changed as planned."""

    added: Collection[Pair]
    ended: Collection[Pair]


class Decision(NamedTuple):
    """A request with its result."""

    incoming: IncomingRequest
    result: StoredResult
    is_new: bool
    """True if the result is to be stored; false for a repeat and for a reused id."""
    is_repeat: bool = False
    """True if the request was decided before; `result` is then its first result."""

    def count_rows(self, rows: int) -> "RowCounts":
        """Count the request's rows by what happened to them; the counts add up to `rows`.

        A row whose course another row of the list names, too, counts as one that changed nothing.
        """
        result, request = self.result, self.incoming.request
        if result.status is ResultStatus.REJECTED or request is None:
            return RowCounts(rejected=rows)
        rejected_drops = sum(error.course_id in request.drop_course_ids for error in result.errors)
        superseded_drops = sum(each.action is Action.DROP for each in result.superseded)
        enrolled = dropped = 0
        if not self.is_repeat:
            enrolled = len(result.enrolled_ids) - len(result.already_enrolled_ids)
            dropped = len(result.dropped_ids) - len(result.not_enrolled_ids)
        drops = len(request.drop_course_ids)
        not_enrolled = drops - dropped - rejected_drops - superseded_drops
        rejected, superseded = len(result.errors), len(result.superseded)
        already = rows - enrolled - dropped - not_enrolled - rejected - superseded
        return RowCounts(enrolled, already, dropped, not_enrolled, superseded, rejected)


class RowCounts(NamedTuple):
    """A request's rows, counted by what happened to them."""

    enrolled: int = 0
    """Rows that the request added."""
    already_enrolled: int = 0
    dropped: int = 0
    """Rows that the request removed."""
    not_enrolled: int = 0
    superseded: int = 0
    rejected: int = 0


class Decisions(NamedTuple):
    """Requests with their results, in order, and what the results name by key.

    That is the courses, and the SIS ids of the students.
    """

    decided: list[Decision]
    courses: Mapping[int, CourseSummary]
    sis_ids: Mapping[int, str]


def check(requests: Sequence[IncomingRequest], stored: RequestLookup) -> list[CheckedRequest]:
    """Check requests against the roster: list their problems, and the courses that they name."""
    return [_check(incoming, stored) for incoming in requests]


def pairs_to_examine(
    checked: Sequence[CheckedRequest], drops: NewerDrops, swept: Mapping[int, datetime]
) -> set[Pair]:
    """Return the pairs whose state must be known before the requests are decided.

    If no request drops anything, those are the pairs that may have been dropped later, or that a
    later snapshot did not name; all others are written if they are not there, and the database says
    which ones were.
    """
    enrolled = {pair for request in checked for pair in request.pairs(Action.ENROLL)}
    if any(request.dropped for request in checked):
        return enrolled.union(*(request.pairs(Action.DROP) for request in checked))
    if drops.ended is None:
        return enrolled
    old = [request for request in checked if _swept_at(request, swept) is not None]
    examined = enrolled & drops.ended.keys()
    return examined.union(*(request.pairs(Action.ENROLL) for request in old))


def _swept_at(request: CheckedRequest, swept: Mapping[int, datetime]) -> datetime | None:
    """Return the moment of the later snapshot of a request's data set, or None."""
    owner = request.incoming.owner
    swept_at = None if owner is None else swept.get(owner.data_set)
    return swept_at if swept_at is not None and request.moment < swept_at else None


def earliest_drop(checked: Sequence[CheckedRequest]) -> datetime | None:
    """Return the earliest moment of a request that drops something; None if no request does."""
    return min((request.moment for request in checked if request.dropped), default=None)


def plan(
    checked: Sequence[CheckedRequest], stored: RequestLookup, states: Mapping[Pair, PairState]
) -> Plan:
    """Decide what requests do, by their moments, and which rows are to be changed.

    At equal moments, drops come first, so that *enrolled* wins. If several requests have the same
    id, only the first one counts, and only if the id has no result yet. `states` has what is stored
    about the pairs of `pairs_to_examine`.
    """
    actions = _actions(checked, stored)
    register = Register(states)
    requests: dict[tuple[Pair, datetime], IncomingRequest] = {}
    owners: dict[tuple[Pair, datetime | None], int] = {}
    verdicts: dict[int, dict[Pair, Verdict]] = {position: {} for *_, position in actions}
    for moment, enrolls, position in sorted(actions, key=itemgetter(0, 1)):
        request = checked[position]
        for pair in request.pairs(Action.ENROLL if enrolls else Action.DROP):
            if enrolls:
                verdict = register.enroll(pair, moment, _swept_at(request, stored.swept))
                if verdict.outcome is Outcome.ENROLLED and request.incoming.owner:
                    owners[pair, moment] = request.incoming.owner.data_set
            else:
                verdict = register.drop(pair, moment)
                if verdict.outcome is not Outcome.SUPERSEDED:
                    requests.setdefault((pair, moment), request.incoming)
            verdicts[position][pair] = verdict

    def drop(interval: Interval) -> Drop:
        pair, ended, began = interval
        incoming = requests[pair, ended]
        reason = incoming.request.reason if incoming.request else None
        return Drop(ended, reason, incoming.request_id, began, owners.get((pair, began)))

    return Plan(
        list(checked),
        verdicts,
        register.rows,
        {pair: drop(interval) for pair, interval in register.endings.items()},
        [(interval.pair, drop(interval)) for interval in register.passed],
        {pair: drop(interval) for pair, interval in register.notes.items()},
        stored.results,
        {p: owners[p, at] for p, at in register.rows.items() if (p, at) in owners},
    )


def _actions(
    checked: Sequence[CheckedRequest], stored: RequestLookup
) -> list[tuple[datetime, bool, int]]:
    """Return what is to be decided: a moment, whether to enroll, and a request's position."""
    claimed = set(stored.results)
    actions = []
    for position in _in_order(checked):
        request = checked[position]
        if request.incoming.request_id not in claimed:
            claimed.add(request.incoming.request_id)
            actions += [(request.moment, enrolls, position) for enrolls in (False, True)]
    return actions


def _in_order(checked: Sequence[CheckedRequest]) -> list[int]:
    """Return the positions of requests in the order in which they count."""
    return sorted(range(len(checked)), key=lambda position: checked[position].moment)


def conclude(
    plan: Plan, changed: Changed, batch_id: str | None, decided_at: datetime
) -> list[Decision]:
    """Make the results of a plan, in the order of its requests.

    `batch_id` is the batch of those requests that do not name theirs. A planned row that was not
    added was there already; an enrollment that was not ended had ended.
    """
    results = dict(plan.results)
    decisions: dict[int, Decision] = {}
    for position in _in_order(plan.checked):
        request = plan.checked[position]
        incoming = request.incoming
        earlier = results.get(incoming.request_id)
        if earlier is None:
            outcomes = _outcomes(plan, changed, position)
            result = _result(request, outcomes, batch_id, decided_at)
            results[incoming.request_id] = result
            decisions[position] = Decision(incoming, result, is_new=True)
        elif incoming.has_own_id and earlier.fingerprint == incoming.fingerprint():
            decisions[position] = Decision(incoming, earlier, is_new=False, is_repeat=True)
        else:
            refused = request._replace(
                courses=[], dropped=(), problems=(reused_id(incoming.request_id),)
            )
            result = _result(refused, {}, batch_id, decided_at)
            decisions[position] = Decision(incoming, result, is_new=False)
    return [decisions[position] for position in range(len(plan.checked))]


def _outcomes(plan: Plan, changed: Changed, position: int) -> dict[int, Verdict]:
    """Return what became of each course of a request."""
    moment = plan.checked[position].moment
    outcomes = {}
    for pair, verdict in plan.verdicts[position].items():
        ending = plan.endings.get(pair)
        was_to_add = verdict.outcome is Outcome.ENROLLED and plan.rows.get(pair) == moment
        was_to_end = verdict.outcome is Outcome.DROPPED and ending and ending.ended_at == moment
        outcomes[pair[1]] = verdict
        if was_to_add and pair not in changed.added:
            outcomes[pair[1]] = Verdict(Outcome.ALREADY_ENROLLED)
        elif was_to_end and pair not in changed.ended:
            outcomes[pair[1]] = Verdict(Outcome.NOT_ENROLLED)
    return outcomes


def _check(incoming: IncomingRequest, stored: RequestLookup) -> CheckedRequest:
    request = incoming.request
    if request is None or incoming.problems:
        return CheckedRequest(incoming, None, [], incoming.problems)
    if (old := _before_limit(incoming, stored.drops)) is not None:
        return CheckedRequest(incoming, None, [], (old,))
    from_file = bool(incoming.lines)
    student = stored.students.get(request.student_id)
    if student is None:
        problem = unknown_student(request.student_id, from_file=from_file)
        return CheckedRequest(incoming, None, [], (problem,))
    named = (*request.course_ids, *request.drop_course_ids)
    unknown = [course for course in named if course not in stored.courses]
    problems = tuple(unknown_course(course, from_file=from_file) for course in unknown)
    # All or nothing: one unknown course refuses the whole request.
    if problems and request.atomic:
        return CheckedRequest(incoming, student, [], problems)
    # A key and a SIS id in one list may name the same course.
    keys, dropped = (
        list(dict.fromkeys(stored.courses[course] for course in ids if course in stored.courses))
        for ids in (request.course_ids, request.drop_course_ids)
    )
    if dropped and not set(dropped).isdisjoint(keys):
        return CheckedRequest(incoming, student, [], _same_courses(request, stored))
    return CheckedRequest(incoming, student, keys, problems, dropped)


def _before_limit(incoming: IncomingRequest, drops: NewerDrops | None) -> EnrollmentProblem | None:
    """Return the problem of a request that counts before the limit of what was pruned."""
    limit, moment = drops.limit if drops else None, incoming.moment
    if limit is None or moment is None or moment >= limit:
        return None
    is_own = incoming.request is not None and incoming.request.as_of is not None
    return before_limit(moment, limit, is_own=is_own)


def _same_courses(request: StudentEnrollmentRequest, stored: RequestLookup) -> Problems:
    """Return a problem for each course to drop that is also a course to enroll in."""
    enrolled = {stored.courses[i]: i for i in request.course_ids if i in stored.courses}
    return tuple(
        same_course(position, course, enrolled[stored.courses[course]])
        for position, course in enumerate(request.drop_course_ids)
        if stored.courses.get(course) in enrolled
    )[:MAX_PROBLEMS]


def _result(
    request: CheckedRequest,
    outcomes: Mapping[int, Verdict],
    batch_id: str | None,
    decided_at: datetime,
) -> StoredResult:
    incoming, student, courses, problems, dropped = request
    student_id = (
        incoming.request.student_id if incoming.request else readable_student(incoming.record)
    )

    def those(keys: Iterable[int], *wanted: Outcome) -> list[int]:
        return [key for key in keys if outcomes[key].outcome in wanted]

    enrolled_ids = those(courses, Outcome.ENROLLED, Outcome.ALREADY_ENROLLED)
    dropped_ids = tuple(those(dropped, Outcome.DROPPED, Outcome.NOT_ENROLLED))
    superseded = tuple(
        Superseded(key, action, won_at)
        for action, keys in ((Action.ENROLL, courses), (Action.DROP, dropped))
        for key in keys
        if (won_at := outcomes[key].won_at) is not None
    )
    return StoredResult(
        request_id=incoming.request_id,
        fingerprint=incoming.fingerprint() if incoming.has_own_id else None,
        student_id=student_id if student is None and isinstance(student_id, int) else student,
        student_sis_id=student_id if isinstance(student_id, str) else None,
        status=_status(enrolled_ids, dropped_ids, superseded, problems),
        enrolled_ids=enrolled_ids,
        already_enrolled_ids=those(courses, Outcome.ALREADY_ENROLLED),
        errors=tuple(located(problem, incoming) for problem in problems),
        batch_id=incoming.batch_id or batch_id,
        completed_at=decided_at,
        moment=request.moment,
        dropped_ids=dropped_ids,
        not_enrolled_ids=tuple(those(dropped, Outcome.NOT_ENROLLED)),
        superseded=superseded,
        reason=incoming.request.reason if incoming.request else None,
        line=incoming.lines[0] if incoming.has_own_id and len(incoming.lines) == 1 else None,
    )


def _status(
    enrolled: Sequence[int],
    dropped: Sequence[int],
    superseded: Sequence[Superseded],
    problems: Problems,
) -> ResultStatus:
    if problems:
        counts = enrolled or dropped or superseded
        return ResultStatus.PARTIAL if counts else ResultStatus.REJECTED
    if enrolled and dropped:
        return ResultStatus.CHANGED
    if enrolled:
        return ResultStatus.ENROLLED
    return ResultStatus.DROPPED if dropped else ResultStatus.SUPERSEDED
