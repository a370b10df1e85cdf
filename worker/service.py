"""Enroll students in courses: load, decide, write. Knows the rules, but not Celery."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from producer.schemas import StudentEnrollmentRequest, StudentEnrollmentResponse
from worker.database.engine import Database, transaction
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.repository import add_results, load_for_requests
from worker.enrollment.results import to_response
from worker.enrollment.rules import Decisions, conclude, plan
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
    decided_at: datetime | None = None,
) -> Decisions:
    """Decide requests in order, write their rows and store their results.

    All requests run through here, alone or in a group, on the first attempt or a later one, except
    the clean requests of a chunk (`worker.enrollment.shortcuts`). The work is one transaction, or
    part of the open transaction if a connection is given. `decided_at` is the
    time of the rows and results; by default it is now. Raises DBAPIError.
    """

    def decide(connection: Connection) -> Decisions:
        stored = load_for_requests(connection, requests)
        planned = plan(requests, stored)
        now = decided_at or datetime.now(UTC)
        added = insert_enrollments(connection, planned.pairs, now)
        decided = conclude(planned, added, batch_id, now)
        add_results(connection, [decision.result for decision in decided if decision.is_new])
        return Decisions(decided, stored.summaries, stored.sis_ids)

    return transaction(database, decide)
