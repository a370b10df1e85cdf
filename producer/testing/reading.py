"""Read results and students from memory, as a submitter sees them."""

from datetime import datetime
from typing import NamedTuple

from producer.schemas import (
    Action,
    DroppedCourse,
    EnrolledCourse,
    EnrolledCourseRecord,
    StudentEnrollmentResponse,
    StudentResponse,
    SupersededCourse,
)
from producer.testing.results import Result
from producer.testing.rulebook import Enrollments


class NamesOfCourse(NamedTuple):
    """A course with its names."""

    id: int
    sis_id: str
    title: str | None


def names_of_course(enrollments: Enrollments, key: int) -> NamesOfCourse:
    """Return the names of a course that exists."""
    fields = enrollments.courses.fields_of(key)
    return NamesOfCourse(key, fields["sis_id"], fields.get("title"))


def response(enrollments: Enrollments, result: Result) -> StudentEnrollmentResponse:
    """Return a result as a submitter reads it."""
    incoming = result.incoming
    named, key = incoming.student(), enrollments.students.key_of(result.student)
    by_key = None if key is None else enrollments.students.fields_of(key)["sis_id"]
    enrolled, dropped, superseded = [], [], []
    for course in result.courses:
        names, change = names_of_course(enrollments, course.key)._asdict(), course.change
        if change.superseded_by is not None:
            superseded.append(
                SupersededCourse(**names, action=course.action, moment=change.superseded_by)
            )
        elif course.action is Action.ENROLL:
            enrolled.append(EnrolledCourse(**names, added=change.is_made))
        else:
            dropped.append(DroppedCourse(**names, removed=change.is_made))
    return StudentEnrollmentResponse(
        request_id=incoming.request_id,
        student_id=named,
        student_sis_id=named if isinstance(named, str) else by_key,
        status=result.status,
        enrolled_courses=tuple(enrolled),
        dropped_courses=tuple(dropped),
        superseded_courses=tuple(superseded),
        reason=incoming.request.reason if incoming.request else None,
        errors=result.errors,
        batch_id=result.batch_id,
        completed_at=result.completed_at,
        moment=result.moment,
    )


def stored_results_of(enrollments: Enrollments, student: int | str) -> list[Result]:
    """Return a student's results, newest first, even those from before the student existed."""
    names = {student, enrollments.students.key_of(student)} - {None}
    results = [result for result in enrollments.results.values() if result.student in names]
    return sorted(results, key=lambda result: result.age, reverse=True)


def results_of(
    enrollments: Enrollments,
    student: int | str,
    limit: int,
    before: tuple[datetime, str] | None,
) -> list[StudentEnrollmentResponse]:
    """Return a page of a student's results, newest first."""
    results = [
        result
        for result in stored_results_of(enrollments, student)
        if before is None or result.age < before
    ]
    return [response(enrollments, result) for result in results[:limit]]


def student(enrollments: Enrollments, student_id: int | str) -> StudentResponse | None:
    """Return a student with courses; None if there is no such student."""
    key = enrollments.students.key_of(student_id)
    if key is None:
        return None
    fields = enrollments.students.fields_of(key)
    courses = [
        EnrolledCourseRecord(
            **names_of_course(enrollments, course)._asdict(), enrolled_at=enrolled_at
        )
        for (owner, course), enrolled_at in enrollments.intervals.open.items()
        if owner == key
    ]
    return StudentResponse(
        id=key,
        sis_id=fields["sis_id"],
        name=fields.get("name"),
        email=fields.get("email"),
        courses=tuple(sorted(courses, key=lambda course: course.sis_id)),
    )
