"""Load what requests name, in one statement that may travel with the start of the transaction."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import JSON, Connection, func, select

from producer.contract.chunks import courses_in_order
from worker.database.clock import database_time, time_of
from worker.database.early import EarlyQuery, Row, early_query
from worker.database.sets import is_among, list_parameter
from worker.enrollment.derived.repository import find_derived
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.repository import RESULT, result_of, summarize_courses
from worker.enrollment.values import CourseSummary, RequestLookup, StoredResult
from worker.intervals.repository import in_utc, newer_drops, newer_drops_documents
from worker.models import Course, EnrollmentResult, Student

_Ids = Mapping[str, Collection[int | str]]
"""The ids that requests name, by the name of the document that is to be made of them."""


class Documents(NamedTuple):
    """What the database returned for requests, and what it was asked."""

    names: Sequence[str]
    since: datetime
    """Drops that count later were looked for."""
    row: Sequence[Any]
    """A document for each name, then what is true of all requests."""


class EarlyLookup(NamedTuple):
    """A look-up that does not wait until the moments of its requests are settled."""

    names: Sequence[str]
    since: datetime
    query: EarlyQuery

    def documents(self, row: Row | None) -> Documents | None:
        """Read the row of the query; None if it was not sent."""
        if row is None:
            return None
        *documents, limit, has_notes, now = [
            None if text is None else text.decode() for text in row
        ]
        read = [None if text is None else json.loads(text) for text in documents]
        times = [None if text is None else in_utc(text) for text in (limit, now)]
        return Documents(self.names, self.since, [*read, times[0], has_notes == "t", times[1]])


def early_lookup(connection: Connection, requests: Sequence[IncomingRequest]) -> EarlyLookup | None:
    """Return what looks up all that requests name, to be sent before their moments are settled.

    None if that is not possible, for example because a request has no moment in its header.
    """
    dialect, wanted = connection.dialect.name, _wanted(requests)
    moments = [_earliest(incoming) for incoming in requests]
    known = [moment for moment in moments if moment is not None]
    if dialect != "postgresql" or not wanted or len(known) < len(requests):
        return None
    names, since = tuple(wanted), min(known)
    query = early_query(_select(dialect, names), _parameters(dialect, wanted, since))
    return None if query is None else EarlyLookup(names, since, query)


def _earliest(incoming: IncomingRequest) -> datetime | None:
    """Return when a request counts, unless its message lies: that is found when it is settled."""
    as_of = None if incoming.request is None else incoming.request.as_of
    return as_of or incoming.moment


def load_for_requests(
    connection: Connection,
    requests: Sequence[IncomingRequest],
    early: Documents | None = None,
) -> RequestLookup:
    """Load what requests name, and the drops that may win against them, in one round trip.

    They have their moments by now. What they name are students, courses and earlier results. A
    second round trip is needed only if an earlier result names courses that no request names.
    `early` is what was looked up before; it is used unless a request counts earlier than expected.
    Raises DBAPIError.
    """
    dialect, wanted = connection.dialect.name, _wanted(requests)
    since = min((r.moment for r in requests if r.moment is not None), default=None)
    if not wanted or since is None:
        return RequestLookup({}, {}, {}, {}, {}, database_time(connection))
    if early is None or since < early.since:
        parameters = _parameters(dialect, wanted, since)
        row = connection.execute(_select(dialect, tuple(wanted)), parameters).one()
        early = Documents(tuple(wanted), since, row)
    *documents, drops, limit, has_notes, now = early.row
    derived = find_derived(connection, {incoming.request_id for incoming in requests})
    found = _lookup(connection, dict(zip(early.names, documents, strict=True)), derived)
    return found._replace(now=now, drops=newer_drops(drops, limit, has_notes))


def _wanted(requests: Sequence[IncomingRequest]) -> _Ids:
    checked = [r.request for r in requests if r.request is not None and not r.problems]
    student_ids = {request.student_id for request in checked}
    course_ids = set(chain.from_iterable(map(courses_in_order, checked)))
    wanted: dict[str, Collection[int | str]] = {
        "students_by_key": [i for i in student_ids if isinstance(i, int)],
        "students_by_sis_id": [i for i in student_ids if isinstance(i, str)],
        "courses_by_key": [i for i in course_ids if isinstance(i, int)],
        "courses_by_sis_id": [i for i in course_ids if isinstance(i, str)],
        "results": {incoming.request_id for incoming in requests},
    }
    return {name: ids for name, ids in wanted.items() if ids}


def _parameters(dialect: str, wanted: _Ids, since: datetime) -> dict[str, Any]:
    parameters: dict[str, Any] = {"since": since}
    for name, ids in wanted.items():
        parameters |= list_parameter(dialect, ids, name)
    return parameters


def _lookup(
    connection: Connection, documents: Mapping[str, Any], derived: Sequence[StoredResult]
) -> RequestLookup:
    """Turn documents, by name, into values."""
    sis_ids: dict[int, str] = dict(documents.get("students_by_key") or ())
    students: dict[int | str | None, int] = {key: key for key in sis_ids}
    students.update((sis_id, key) for key, sis_id in documents.get("students_by_sis_id") or ())
    by_key, by_sis_id = (
        [CourseSummary(*course) for course in documents.get(name) or ()]
        for name in ("courses_by_key", "courses_by_sis_id")
    )
    courses: dict[int | str, int] = {course.id: course.id for course in by_key}
    courses.update((course.sis_id, course.id) for course in by_sis_id)
    summaries = {course.id: course for course in (*by_key, *by_sis_id)}
    results = [*derived, *(result_of(row) for row in documents.get("results") or ())]
    named = set(chain.from_iterable(result.course_keys() for result in results))
    if missing := named - summaries.keys():
        summaries |= summarize_courses(connection, missing)
    by_id = {result.request_id: result for result in results}
    return RequestLookup(students, courses, summaries, by_id, sis_ids)


@cache
def _select(dialect: str, names: tuple[str, ...]) -> Any:
    """Select one document of rows for each name: one statement, and so one round trip."""
    if dialect == "postgresql":
        rows, row = func.json_agg, func.json_build_array
    else:
        rows, row = func.json_group_array, func.json_array
    student = rows(row(Student.id, Student.sis_id), type_=JSON())
    course = rows(row(Course.id, Course.sis_id, Course.title), type_=JSON())
    # SQLite stores JSON as text and would put it into the array as a string.
    cells = [
        func.json(column) if isinstance(column.type, JSON) and dialect == "sqlite" else column
        for column in RESULT
    ]
    documents: dict[str, tuple[Any, Any]] = {
        "students_by_key": (Student.id, student),
        "students_by_sis_id": (Student.sis_id, student),
        "courses_by_key": (Course.id, course),
        "courses_by_sis_id": (Course.sis_id, course),
        "results": (EnrollmentResult.request_id, rows(row(*cells), type_=JSON())),
    }
    return select(
        *(
            select(document).where(is_among(dialect, column, name)).scalar_subquery()
            for name, (column, document) in documents.items()
            if name in names
        ),
        *newer_drops_documents(dialect),
        time_of(dialect),
    )
