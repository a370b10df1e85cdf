"""Define the routes about the past: a student's history, and a course's roll."""

from producer.contract.history import CourseRoll, StudentHistory
from producer.fields import MAX_LOOKUP
from producer.schemas import Code
from producer.web.disclosing import Disclosures
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
    disclosures: Disclosures,
    course: CourseOfHistory = None,
    limit: EntryLimit = 100,
    before: BeforeMoment = None,
) -> StudentHistory:
    """Return what happened to a student's enrollments, even if the roster lacks the student."""
    course_id = None if course is None else parse_id(course, Code.UNKNOWN_COURSE)
    student_id = identifier(student, Code.UNKNOWN_STUDENT)
    history = await client.history(student_id, course_id, limit=limit, before=before)
    await disclosures.record("history", [student_id])
    return history


async def get_roll(
    course: CourseInPath,
    client: Client,
    disclosures: Disclosures,
    at: AtMoment = None,
    limit: StudentLimit = MAX_LOOKUP,
    after: AfterStudent = 0,
) -> CourseRoll:
    """Return who is enrolled in a course, or was at a moment, in the order of their keys."""
    course_id = identifier(course, Code.UNKNOWN_COURSE)
    roll = await client.roll(course_id, at, limit=limit, after=after)
    if roll is None:
        detail = "No course has this id. Check the id, or submit the course."
        raise Refused(404, Code.UNKNOWN_COURSE, detail)
    keys = [student.id for student in roll.students]
    first, last = (keys[0], keys[-1]) if keys else (None, None)
    await disclosures.record("roll", course=course_id, students=len(keys), first=first, last=last)
    return roll
