"""The rules: what becomes of requests. One transaction each; knows no Celery.

A single request is a chunk of one. `settle` decides. About most requests there is nothing to
decide: of a chunk `settle_plain` takes those first, and a lone one is enrolled by one statement.
"""

from collections.abc import Sequence

from producer.schemas import StudentEnrollmentRequest, StudentEnrollmentResponse
from worker.database.engine import Database, transaction
from worker.enrollment.rules import Asked, Decisions, decide
from worker.enrollment.shortcuts import _enroll_at_once


def add_enrollment(
    database: Database, request: StudentEnrollmentRequest, request_id: str
) -> StudentEnrollmentResponse:
    """Enroll one student in courses, or say why not.

    The student and every course must exist. A request id that was used before gives the first
    outcome again, or `request_id_reused` if it asked for something else. Raises DBAPIError.
    """
    asked = Asked(request_id, request.model_dump(mode="json"), request)
    return decide_requests(database, [asked], [True]).answers[0]


def decide_requests(
    database: Database, asked: Sequence[Asked], answered: Sequence[bool]
) -> Decisions:
    """Decide requests in one transaction, or by one statement, each as if it had come alone.

    There are answers to those for which `answered` is true, in their order. Raises DBAPIError.
    """
    at_once = _enroll_at_once(database, asked[0], answered) if len(asked) == 1 else None
    return at_once or transaction(database, lambda connection: decide(connection, asked, answered))
