"""Answer lookups of requests and students. Reads only, for many ids at once; knows no Celery."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice, repeat

from sqlalchemy import Connection

from producer.contract.marks import AgedMark
from producer.schemas import (
    EnrolledCourseRecord,
    RequestState,
    RequestStatus,
    StudentEnrollmentResponse,
    StudentResponse,
)
from worker.answer_size import AnswerSize, fewer_ids
from worker.database.engine import Database
from worker.enrollment.repository import find_results_of_student, find_results_up_to
from worker.enrollment.results import load_responses
from worker.enrollment.values import StoredResult
from worker.models import Student
from worker.plain_text import waiting_for_database
from worker.repository import courses_of_students, describe_students, find_keys

RESPONSES_AT_ONCE = 100
"""How many responses are made before their size is checked."""

_LOST = (
    "The request was submitted, but it is lost: it has no result, and neither a queue nor a worker"
    " has it any more, because the queue was purged or the broker lost its data. Submit it again"
    " under the same id."
)


def request_statuses(
    database: Database,
    request_ids: Sequence[str],
    marks: Mapping[str, AgedMark],
    outage: str | None = None,
    lost: Container[str] = (),
) -> list[RequestStatus]:
    """Return the states of requests, in order: from the database, else from their marks.

    `outage` is the reason why work waits, or None. `lost` are the requests that have a mark but no
    message; look for both before this call. Raises AnswerTooLarge.
    """
    times = Counter(request_ids)
    size = AnswerSize(fewer_ids(len(request_ids)))
    with database.reading() as connection:
        results, characters = find_results_up_to(connection, times, size.left)
        if characters >= size.left:
            raise size.exceeded()
        responses = _responses(connection, results, [times[r.request_id] for r in results], size)
    done = {response.request_id: response for response in responses}
    return [
        RequestStatus(request_id=i, state=RequestState.DONE, result=done[i])
        if i in done
        else RequestStatus(request_id=i, state=RequestState.UNKNOWN, advice=_LOST)
        if i in lost
        else _status_of_mark(i, marks.get(i), outage)
        for i in request_ids
    ]


def _status_of_mark(request_id: str, aged: AgedMark | None, outage: str | None) -> RequestStatus:
    if aged is None:
        return RequestStatus(request_id=request_id, state=RequestState.UNKNOWN)
    advice = None if outage is None else waiting_for_database(outage)
    return RequestStatus(request_id=request_id, state=RequestState(aged.mark.state), advice=advice)


def _responses(
    connection: Connection,
    results: Sequence[StoredResult],
    times: Sequence[int],
    size: AnswerSize,
) -> list[StudentEnrollmentResponse]:
    """Convert results to responses; `times` is how many times each occurs in the answer."""
    responses: list[StudentEnrollmentResponse] = []
    for start in range(0, len(results), RESPONSES_AT_ONCE):
        page = slice(start, start + RESPONSES_AT_ONCE)
        made = load_responses(connection, results[page])
        for response, how_often in zip(made, times[page], strict=True):
            size.add(response, how_often)
        responses += made
    return responses


def student_results(
    database: Database,
    student_ids: Sequence[int | str],
    limit: int,
    before: tuple[datetime, str] | None = None,
) -> list[list[StudentEnrollmentResponse]]:
    """Return at most `limit` results for each student, newest first.

    A student that does not exist may have results too. `before` is the moment and the request id
    of a result; only older results are returned. Raises AnswerTooLarge.
    """
    size = AnswerSize("ask for fewer ids at a time, or set a smaller limit")
    times = Counter(student_ids)
    stored: list[StoredResult] = []
    counts = []
    left = size.left
    with database.reading() as connection:
        named = [i for i in times if isinstance(i, str)]
        keys = find_keys(connection, Student, named)
        for student_id in times:
            key = student_id if isinstance(student_id, int) else keys.get(student_id)
            page = find_results_of_student(connection, student_id, key, limit, before, left)
            left -= page.characters
            if left <= 0:
                raise size.exceeded()
            stored += page.results
            counts.append(len(page.results))
        how_often = chain.from_iterable(map(repeat, times.values(), counts))
        responses = iter(_responses(connection, stored, list(how_often), size))
    by_student = {
        student_id: list(islice(responses, count))
        for student_id, count in zip(times, counts, strict=True)
    }
    return [by_student[student_id] for student_id in student_ids]


def students(database: Database, student_ids: Sequence[int | str]) -> list[StudentResponse | None]:
    """Return students with their courses, in order; None for a student that does not exist.

    Raises AnswerTooLarge.
    """
    times = Counter(student_ids)
    size = AnswerSize(fewer_ids(len(student_ids)))
    with database.reading() as connection:
        keys = find_keys(connection, Student, times)
        rows = {r.id: r for r in describe_students(connection, keys.values())}
        courses: dict[int, list[EnrolledCourseRecord]] = {key: [] for key in rows}
        enrolled, characters = courses_of_students(connection, rows, size.left)
        if characters >= size.left:
            raise size.exceeded()
        for row in enrolled:
            courses[row.student_id].append(
                EnrolledCourseRecord(
                    id=row.id, sis_id=row.sis_id, title=row.title, enrolled_at=row.enrolled_at
                )
            )
    described = {
        student_id: StudentResponse(
            id=rows[key].id,
            sis_id=rows[key].sis_id,
            name=rows[key].name,
            email=rows[key].email,
            courses=tuple(courses[key]),
        )
        for student_id, key in keys.items()
        if key in rows
    }
    for student_id, how_often in times.items():
        size.add(described.get(student_id), how_often)
    return [described.get(student_id) for student_id in student_ids]
