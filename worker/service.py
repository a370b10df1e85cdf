"""Enroll students in courses: load, decide, write. Knows the rules, but not Celery."""

from collections.abc import Sequence

from sqlalchemy import Connection

from producer.schemas import StudentEnrollmentRequest, StudentEnrollmentResponse
from worker.database.engine import Database, transaction
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.repository import add_results, load_for_requests
from worker.enrollment.results import to_response
from worker.enrollment.rules import Decisions, conclude, plan
from worker.moments import Clock, own_clock, settle
from worker.repository import insert_enrollments


def add_enrollment(
    database: Database, request: StudentEnrollmentRequest, request_id: str
) -> StudentEnrollmentResponse:
    """Enroll one student in courses, or refuse the request with reasons.

    The student and every course must exist. If the request id was used before, the first result
    is returned, or `request_id_reused` if the first request asked for something else.
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
        stored = load_for_requests(connection, requests)
        now = clock()
        planned = plan(settle(requests, now), stored)
        added = insert_enrollments(connection, planned.rows)
        decided = conclude(planned, added, batch_id, stored.now or now)
        add_results(connection, [decision.result for decision in decided if decision.is_new])
        return Decisions(decided, stored.summaries, stored.sis_ids)

    return transaction(database, decide)
