"""Put stored results into the form of the contract."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from producer.schemas import EnrolledCourse, EnrollmentProblem, StudentEnrollmentResponse
from worker.enrollment.repository import Result
from worker.repository import describe_courses


def respond(
    connection: Connection, results: Sequence[Result], described: Mapping[int, Any] | None = None
) -> list[StudentEnrollmentResponse]:
    """Stored outcomes in the form of the contract, in the same order.

    `described` are courses of which the rows are at hand, by key.
    """
    courses = dict(described or {})
    missing = {key for result in results for key in result.enrolled} - courses.keys()
    if missing:
        courses |= describe_courses(connection, missing)
    return [_response(result, courses) for result in results]


def _response(result: Result, courses: Mapping[int, Any]) -> StudentEnrollmentResponse:
    return StudentEnrollmentResponse(
        request_id=result.request_id,
        student_id=result.student_id if result.student_sis_id is None else result.student_sis_id,
        status=result.status,
        enrolled_courses=tuple(
            EnrolledCourse(
                id=key,
                sis_id=courses[key].sis_id,
                title=courses[key].title,
                added=key not in result.already,
            )
            for key in result.enrolled
        ),
        errors=tuple(map(EnrollmentProblem.model_validate, result.errors)),
        batch_id=result.batch_id,
        completed_at=result.completed_at,
    )
