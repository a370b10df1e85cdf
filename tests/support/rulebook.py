"""Requests, a roster and a way to decide, for the tests of the rulebook without a database."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from producer.schemas import Code, EnrollmentProblem, StudentEnrollmentRequest
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.rules import Changed, Decision, Plan, RowCounts, check, conclude, plan
from worker.enrollment.values import CourseSummary, RequestLookup, StoredResult
from worker.intervals.values import NewerDrops, PairState
from worker.models import Pair

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
STUDENTS: dict[int | str | None, int] = {"A": 1, 1: 1, "B": 2, 2: 2}
SIS_IDS = {1: "A", 2: "B"}
COURSES: dict[int | str, int] = {"M1": 1, 1: 1, "M2": 2, 2: 2, "M3": 3, 3: 3}
BROKEN = EnrollmentProblem(code=Code.INVALID_REQUEST, message="it is broken", field="student_id")


def lookup(results: Iterable[StoredResult] = ()) -> RequestLookup:
    """Return what a database with students A, B and courses M1, M2, M3 would say."""
    summaries = {key: CourseSummary(key, f"M{key}", None) for key in (1, 2, 3)}
    by_id = {result.request_id: result for result in results}
    return RequestLookup(STUDENTS, COURSES, summaries, by_id, SIS_IDS, drops=NewerDrops(None, {}))


def incoming(
    student: int | str,
    courses: Sequence[int | str],
    request_id: str = "r",
    *,
    atomic: bool = True,
    **more: Any,
) -> IncomingRequest:
    request = StudentEnrollmentRequest(student_id=student, course_ids=tuple(courses), atomic=atomic)
    return IncomingRequest(request_id, request.model_dump(), request, **{"moment": NOW, **more})


def at_noon(requests: Iterable[IncomingRequest]) -> list[IncomingRequest]:
    """Let requests count at the same moment."""
    return [request._replace(moment=NOW) for request in requests]


def plan_at_noon(
    requests: Iterable[IncomingRequest],
    results: Iterable[StoredResult] = (),
    states: Mapping[Pair, PairState] = MappingProxyType({}),
) -> Plan:
    """Plan requests that count at the same moment."""
    stored = lookup(results)
    return plan(check(at_noon(requests), stored), stored, states)


def counts(enrolled: int = 0, already_enrolled: int = 0, rejected: int = 0) -> RowCounts:
    return RowCounts(enrolled, already_enrolled, rejected=rejected)


def decide(
    *requests: IncomingRequest,
    rows: Iterable[Pair] = (),
    results: Iterable[StoredResult] = (),
    batch_id: str | None = None,
) -> list[Decision]:
    """Decide requests in one call; `rows` and `results` are those of earlier calls."""
    planned = plan_at_noon(requests, results)
    return conclude(planned, Changed(set(planned.rows) - set(rows), ()), batch_id, NOW)


def codes(decision: Decision) -> list[str]:
    return [problem.code.value for problem in decision.result.errors]
