"""Answer lookups of requests and students. Reads only, for many ids at once; knows no Celery."""

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
from worker.plain_text import waiting_for_database
from worker.repository import courses_of_students, describe_students, find_keys


def request_statuses(
    database: Database,
    request_ids: Sequence[str],
    marks: Mapping[str, AgedMark],
    outage: str | None = None,
) -> list[RequestStatus]:
    """Return the states of requests, in order: from the database, else from their marks.

    `outage` is why work waits, if it does.
    """
    with database.reading() as connection:
        results = load_responses(connection, find_results(connection, request_ids))
    done = {result.request_id: result for result in results}
    return [
        RequestStatus(request_id=i, state=RequestState.DONE, result=done[i])
        if i in done
        else _status_of_mark(i, marks.get(i), outage)
        for i in request_ids
    ]


def _status_of_mark(request_id: str, aged: AgedMark | None, outage: str | None) -> RequestStatus:
    if aged is None:
        return RequestStatus(request_id=request_id, state=RequestState.UNKNOWN)
    advice = None if outage is None else waiting_for_database(outage)
    return RequestStatus(request_id=request_id, state=RequestState(aged.mark.state), advice=advice)


def student_results(
    database: Database,
    student_ids: Sequence[int | str],
    limit: int,
    before: tuple[datetime, str] | None = None,
) -> list[list[StudentEnrollmentResponse]]:
    """Return at most `limit` results for each student, newest first.

    A student that does not exist may have results too. `before` is the moment and the request id
    of a result; only older results are returned.
    """
    with database.reading() as connection:
        results = [
            find_results_of_student(connection, student_id, limit, before)
            for student_id in student_ids
        ]
        responses = iter(load_responses(connection, list(chain.from_iterable(results))))
    return [list(islice(responses, len(results_of_student))) for results_of_student in results]


def students(database: Database, student_ids: Sequence[int | str]) -> list[StudentResponse | None]:
    """Return students with their courses, in order; None for a student that does not exist."""
    with database.reading() as connection:
        keys = find_keys(connection, Student, student_ids)
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
        for key in map(keys.get, student_ids)
    ]
