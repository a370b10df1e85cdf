"""Convert stored results to the responses of the contract."""

from collections.abc import Mapping, Sequence
from itertools import chain

from sqlalchemy import Connection

from producer.schemas import (
    DroppedCourse,
    EnrolledCourse,
    StudentEnrollmentResponse,
    SupersededCourse,
)
from worker.enrollment.repository import summarize_courses
from worker.enrollment.values import CourseSummary, StoredResult
from worker.repository import describe_students


def to_response(
    result: StoredResult, courses: Mapping[int, CourseSummary], sis_ids: Mapping[int, str]
) -> StudentEnrollmentResponse:
    """Convert a stored result to a response.

    `courses` has the courses that it names, and `sis_ids` the students that are only named by key.
    """
    sis_id = result.student_sis_id
    if sis_id is None and result.student_id is not None:
        sis_id = sis_ids.get(result.student_id)
    return StudentEnrollmentResponse(
        request_id=result.request_id,
        student_id=result.student_id if result.student_sis_id is None else result.student_sis_id,
        student_sis_id=sis_id,
        status=result.status,
        enrolled_courses=tuple(
            EnrolledCourse(**courses[key]._asdict(), added=key not in result.already_enrolled_ids)
            for key in result.enrolled_ids
        ),
        dropped_courses=tuple(
            DroppedCourse(**courses[key]._asdict(), removed=key not in result.not_enrolled_ids)
            for key in result.dropped_ids
        ),
        superseded_courses=tuple(
            SupersededCourse(
                **courses[each.course]._asdict(), action=each.action, moment=each.won_at
            )
            for each in result.superseded
        ),
        reason=result.reason,
        errors=result.errors,
        batch_id=result.batch_id,
        completed_at=result.completed_at,
        moment=result.moment,
    )


def load_responses(
    connection: Connection, results: Sequence[StoredResult]
) -> list[StudentEnrollmentResponse]:
    """Convert stored results to responses, in the same order."""
    keys = set(chain.from_iterable(result.course_keys() for result in results))
    courses = summarize_courses(connection, keys)
    by_key = {r.student_id for r in results if r.student_id and r.student_sis_id is None}
    sis_ids = (
        {row.id: row.sis_id for row in describe_students(connection, by_key)} if by_key else {}
    )
    return [to_response(result, courses, sis_ids) for result in results]
