"""Decide requests: load, decide, write. Knows the rules, but not Celery."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from producer.schemas import StudentEnrollmentRequest, StudentEnrollmentResponse
from worker.database.engine import Database, transaction
from worker.database.enrollment_lock import lock_enrollments
from worker.enrollment.incoming import IncomingRequest, may_drop
from worker.enrollment.repository import add_results, load_for_requests
from worker.enrollment.results import to_response
from worker.enrollment.rules import (
    Changed,
    CheckedRequest,
    Decisions,
    Plan,
    check,
    conclude,
    earliest_drop,
    pairs_to_examine,
    plan,
)
from worker.enrollment.values import RequestLookup
from worker.intervals.repository import add_intervals, end_enrollments, find_states, keep_drops
from worker.intervals.values import PairState
from worker.models import Pair
from worker.moments import Clock, own_clock, settle
from worker.repository import insert_enrollments


def add_enrollment(
    database: Database, request: StudentEnrollmentRequest, request_id: str
) -> StudentEnrollmentResponse:
    """Enroll one student in courses and drop others, or refuse the request with reasons.

    The student and every course must exist. For each course, the latest request wins. If the
    request id was used before, the first result is returned, or `request_id_reused` if the first
    request asked for something else.
    Raises DBAPIError.
    """
    incoming = IncomingRequest(request_id, request.model_dump(mode="json"), request)
    decisions = add_enrollments(database, [incoming])
    return to_response(decisions.decided[0].result, decisions.courses, decisions.sis_ids)


def add_enrollments(
    database: Database | Connection,
    requests: Sequence[IncomingRequest],
    batch_id: str | None = None,
    *,
    clock: Clock = own_clock,
) -> Decisions:
    """Decide requests by their moments, write their rows and store their results.

    All requests run through here, alone or in a group, on the first attempt or a later one, except
    the clean requests of a chunk (`worker.enrollment.shortcuts`). The work is one transaction, or
    part of the open transaction if a connection is given. A request without a moment counts at the
    time on the clock. Raises DBAPIError.
    """

    def decide(connection: Connection) -> Decisions:
        lock_enrollments(connection, exclusive=any(map(may_drop, requests)))
        now = clock()
        settled = settle(requests, now)
        stored = load_for_requests(connection, settled)
        checked = check(settled, stored)
        states = _examine(connection, checked, stored, now)
        planned = plan(checked, stored, states)
        decided = conclude(planned, _write(connection, planned), batch_id, stored.now or now)
        add_results(connection, [decision.result for decision in decided if decision.is_new])
        return Decisions(decided, stored.summaries, stored.sis_ids)

    return transaction(database, decide)


def _examine(
    connection: Connection,
    checked: Sequence[CheckedRequest],
    stored: RequestLookup,
    now: datetime,
) -> Mapping[Pair, PairState]:
    if stored.drops is None:
        return {}
    pairs = pairs_to_examine(checked, stored.drops)
    return find_states(connection, pairs, earliest_drop(checked), now - (stored.now or now))


def _write(connection: Connection, planned: Plan) -> Changed:
    """Write what is planned. Enrollments end before others of the same pairs begin."""
    ended = end_enrollments(connection, planned.endings)
    add_intervals(connection, planned.passed)
    keep_drops(connection, planned.notes)
    return Changed(set(insert_enrollments(connection, planned.rows)), ended)
