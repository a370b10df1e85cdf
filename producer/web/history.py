"""Define the routes about the past: a student's history, and a course's roll."""

from producer.contract.history import CourseRoll, StudentHistory
from producer.fields import MAX_LOOKUP
from producer.schemas import Code
from producer.web.parameters import (
    AfterStudent,
    AtMoment,
    BeforeMoment,
    Client,
    CourseInPath,
    CourseOfHistory,
    EntryLimit,
    StudentInPath,
    StudentLimit,
    identifier,
    parse_id,
)
from producer.web.problems import Refused


async def get_history(
    student: StudentInPath,
    client: Client,
    course: CourseOfHistory = None,
    limit: EntryLimit = 100,
    before: BeforeMoment = None,
) -> StudentHistory:
    """Return what happened to a student's enrollments, even if the roster lacks the student."""
    course_id = None if course is None else parse_id(course, Code.UNKNOWN_COURSE)
    return await client.history(
        identifier(student, Code.UNKNOWN_STUDENT), course_id, limit=limit, before=before
    )


async def get_roll(
    course: CourseInPath,
    client: Client,
    at: AtMoment = None,
    limit: StudentLimit = MAX_LOOKUP,
    after: AfterStudent = 0,
) -> CourseRoll:
    """Return who is enrolled in a course, or was at a moment, in the order of their keys."""
    roll = await client.roll(identifier(course, Code.UNKNOWN_COURSE), at, limit=limit, after=after)
    if roll is None:
        detail = "No course has this id. Check the id, or submit the course."
        raise Refused(404, Code.UNKNOWN_COURSE, detail)
    return roll
