"""What the lookup tasks answer: reads only, each for many ids at once; knows no Celery."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain, islice

from producer.contract.marks import AgedMark
from producer.schemas import (
    EnrolledCourseRecord,
    RequestState,
    RequestStatus,
    StudentEnrollmentResponse,
    StudentResponse,
)
from worker.database.engine import Database
from worker.enrollment.repository import find_results, find_results_of_student
from worker.enrollment.results import load_responses
from worker.models import Student
from worker.repository import courses_of_students, describe_students, find_keys


def request_statuses(
    database: Database, request_ids: Sequence[str], marks: Mapping[str, AgedMark]
) -> list[RequestStatus]:
    """Say where requests stand, in the same order: what SQL knows, else what their marks tell."""
    with database.reading() as connection:
        results = load_responses(connection, find_results(connection, request_ids))
    done = {result.request_id: result for result in results}
    return [
        RequestStatus(request_id=i, state=RequestState.DONE, result=done[i])
        if i in done
        else RequestStatus(request_id=i, state=_state_of_mark(marks.get(i)))
        for i in request_ids
    ]


def _state_of_mark(aged: AgedMark | None) -> RequestState:
    return RequestState.UNKNOWN if aged is None else RequestState(aged.mark.state)


def student_results(
    database: Database,
    asked: Sequence[int | str],
    limit: int,
    before: tuple[datetime, str] | None = None,
) -> list[list[StudentEnrollmentResponse]]:
    """For each student the newest outcomes, at most `limit`; also of students that are unknown.

    `before` is the moment and the id of an outcome: only older ones are given.
    """
    with database.reading() as connection:
        found = [find_results_of_student(connection, one, limit, before) for one in asked]
        responses = iter(load_responses(connection, list(chain.from_iterable(found))))
    return [list(islice(responses, len(of_one))) for of_one in found]


def students(database: Database, asked: Sequence[int | str]) -> list[StudentResponse | None]:
    """Each student with its courses, None where there is no such student. Same order."""
    with database.reading() as connection:
        keys = find_keys(connection, Student, asked)
        rows = {r.id: r for r in describe_students(connection, keys.values())}
        courses: dict[int, list[EnrolledCourseRecord]] = {key: [] for key in rows}
        for row in courses_of_students(connection, rows):
            courses[row.student_id].append(
                EnrolledCourseRecord(
                    id=row.id, sis_id=row.sis_id, title=row.title, enrolled_at=row.enrolled_at
                )
            )
    return [
        StudentResponse(
            id=rows[key].id,
            sis_id=rows[key].sis_id,
            name=rows[key].name,
            email=rows[key].email,
            courses=tuple(courses[key]),
        )
        if key is not None
        else None
        for key in map(keys.get, asked)
    ]
