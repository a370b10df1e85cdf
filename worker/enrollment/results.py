"""Convert stored results to the responses of the contract."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from producer.schemas import EnrolledCourse, StudentEnrollmentResponse
from worker.enrollment.repository import summarize_courses
from worker.enrollment.values import CourseSummary, StoredResult


def to_response(
    result: StoredResult, courses: Mapping[int, CourseSummary]
) -> StudentEnrollmentResponse:
    """Convert a stored result to a response; `courses` has the courses that it names, by key."""
    return StudentEnrollmentResponse(
        request_id=result.request_id,
        student_id=result.student_id if result.student_sis_id is None else result.student_sis_id,
        status=result.status,
        enrolled_courses=tuple(
            EnrolledCourse(
                id=key,
                sis_id=courses[key].sis_id,
                title=courses[key].title,
                added=key not in result.already_enrolled_ids,
            )
            for key in result.enrolled_ids
        ),
        errors=result.errors,
        batch_id=result.batch_id,
        completed_at=result.completed_at,
    )


def load_responses(
    connection: Connection, results: Sequence[StoredResult]
) -> list[StudentEnrollmentResponse]:
    """Convert stored results to responses, in the same order."""
    keys = {key for result in results for key in result.enrolled_ids}
    courses = summarize_courses(connection, keys)
    return [to_response(result, courses) for result in results]
