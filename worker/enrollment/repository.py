"""Read and write results, and describe the courses that they name, in SQL.

Rows of `student_courses` are written by `worker.repository`.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
    String,
    and_,
    bindparam,
    delete,
    exists,
    or_,
    select,
    tuple_,
)

from producer.contract.chunks import line_request_ids
from producer.schemas import Action, ResultStatus
from worker.database.last_write import LastStatement
from worker.database.planning import stores_all_results
from worker.database.sets import (
    ROW_CHARACTERS,
    add_rows,
    is_among,
    last_insert,
    list_parameter,
    rows_up_to,
    select_among,
    select_up_to,
)
from worker.enrollment.derived.repository import (
    ERRORS_CHARACTERS,
    find_derived,
    find_derived_of_student,
)
from worker.enrollment.problems import stored_problem
from worker.enrollment.values import (
    CourseSummary,
    StoredResult,
    Superseded,
)
from worker.intervals.repository import in_utc
from worker.models import Course, EnrollmentResult, Instant, Student

_COLUMNS = (
    "request_id",
    "fingerprint",
    "student_id",
    "student_sis_id",
    "status",
    "enrolled",
    "already",
    "errors",
    "batch_id",
    "completed_at",
    "moment",
    "dropped",
    "not_enrolled",
    "superseded",
    "reason",
    "line",
)
"""The columns of `enrollment_results`, in the order of `StoredResult`'s fields."""

RESULT = [getattr(EnrollmentResult, name) for name in _COLUMNS]


class ResultsUpTo(NamedTuple):
    """The first results of a page, and how many characters they have together."""

    results: list[StoredResult]
    characters: int


def result_of(row: Sequence[Any]) -> StoredResult:
    """Return a row with the columns of `RESULT`, perhaps one decoded from JSON, as a value."""
    result = StoredResult._make(row)
    is_known = result.status in list(ResultStatus)
    return result._replace(
        status=ResultStatus(result.status) if is_known else result.status,
        errors=tuple(map(stored_problem, result.errors)),
        completed_at=in_utc(result.completed_at),
        moment=None if result.moment is None else in_utc(result.moment),
        dropped_ids=tuple(result.dropped_ids or ()),
        not_enrolled_ids=tuple(result.not_enrolled_ids or ()),
        superseded=tuple(
            Superseded(course, Action(action), in_utc(won_at))
            for course, action, won_at in result.superseded or ()
        ),
    )


def summarize_courses(connection: Connection, keys: Collection[int]) -> dict[int, CourseSummary]:
    """Return summaries of courses, by key."""
    if not keys:
        return {}
    dialect = connection.dialect.name
    statement = select_among(dialect, Course.id, Course.sis_id, Course.title)
    rows = connection.execute(statement, list_parameter(dialect, set(keys)))
    return {row.id: CourseSummary(*row) for row in rows}


def find_results(connection: Connection, request_ids: Iterable[str]) -> list[StoredResult]:
    """Return the results of these requests, in no particular order."""
    wanted = set(request_ids)
    dialect = connection.dialect.name
    statement = _select_results(dialect)
    rows = connection.execute(statement, list_parameter(dialect, wanted)).all()
    return [*map(result_of, rows), *find_derived(connection, wanted)]


@cache
def _select_results(dialect: str) -> Any:
    return select(*RESULT).where(is_among(dialect, EnrollmentResult.request_id))


def find_results_up_to(
    connection: Connection, request_ids: Iterable[str], most: int
) -> ResultsUpTo:
    """Return the results of these requests, until their errors have `most` characters."""
    wanted = set(request_ids)
    dialect = connection.dialect.name
    parameters = list_parameter(dialect, wanted)
    rows = _rows_up_to(connection, _select_results_up_to(dialect), parameters, most)
    derived = find_derived(connection, wanted - {row.result.request_id for row in rows})
    return _results_up_to([*rows, *map(_derived_row, derived)], most)


@cache
def _select_results_up_to(dialect: str) -> Any:
    page = _select_results(dialect).subquery()
    return select_up_to(page, ["errors"], page.c.request_id)


class _Row(NamedTuple):
    """A result, and how many characters it has."""

    result: StoredResult
    characters: int


def _derived_row(result: StoredResult) -> _Row:
    return _Row(result, ROW_CHARACTERS + ERRORS_CHARACTERS)


def _rows_up_to(
    connection: Connection, statement: Any, parameters: Mapping[str, Any], most: int
) -> list[_Row]:
    rows, _ = rows_up_to(connection, statement, parameters, most)
    so_far = [0, *(row.characters for row in rows)]
    return [
        _Row(result_of(row[:-1]), after - before)
        for row, (before, after) in zip(rows, pairwise(so_far), strict=True)
    ]


def _results_up_to(rows: Iterable[_Row], most: int) -> ResultsUpTo:
    results, characters = [], 0
    for row in rows:
        if characters >= most:
            break
        results.append(row.result)
        characters += row.characters
    return ResultsUpTo(results, characters)


def has_results_of_chunk(connection: Connection, batch_id: str, number: int | None) -> bool:
    """Return whether a request id made from a chunk's number has a stored result.

    Without a number, this is about all chunks of the batch.
    """
    first, end = line_request_ids(batch_id, number)
    return bool(connection.scalar(_HAS_RESULTS, {"first": first, "end": end}))


def delete_results_of_chunk(connection: Connection, batch_id: str, number: int) -> None:
    """Remove the results whose request ids are made from this chunk's number."""
    first, end = line_request_ids(batch_id, number)
    connection.execute(_DELETE_RESULTS, {"first": first, "end": end})


_IS_OF_CHUNK = (
    EnrollmentResult.request_id >= bindparam("first"),
    EnrollmentResult.request_id < bindparam("end"),
)
_HAS_RESULTS = select(exists().where(*_IS_OF_CHUNK))
_DELETE_RESULTS = delete(EnrollmentResult).where(*_IS_OF_CHUNK)


def find_results_of_student(
    connection: Connection,
    student_id: int | str,
    key: int | None,
    limit: int,
    before: tuple[datetime, str] | None,
    most: int,
) -> ResultsUpTo:
    """Return a student's results, newest first, even those from before the student existed.

    `key` is the student's, if the student exists. The page ends at `limit` results, or once their
    errors have `most` characters.
    """
    values: dict[str, Any] = {"student": student_id, "limit": limit}
    if before is not None:
        values["moment"], values["id"] = before
    statement = _select_results_of_student(isinstance(student_id, int), before is not None)
    rows = _rows_up_to(connection, statement, values, most)
    if key is not None:
        derived = find_derived_of_student(connection, key, limit, before)
        rows += map(_derived_row, derived)
        rows.sort(key=_age, reverse=True)
    return _results_up_to(rows[:limit], most)


def _age(row: _Row) -> tuple[datetime, str]:
    return row.result.completed_at, row.result.request_id


@cache
def _select_results_of_student(by_key: bool, before: bool) -> Any:  # noqa: FBT001 - for the cache
    student: Any = bindparam("student")
    if by_key:
        condition = EnrollmentResult.student_id == student
    else:
        key = select(Student.id).where(Student.sis_id == student).scalar_subquery()
        unresolved = EnrollmentResult.student_id.is_(None)
        condition = or_(
            EnrollmentResult.student_id == key,
            unresolved & (EnrollmentResult.student_sis_id == student),
        )
    age = (EnrollmentResult.completed_at, EnrollmentResult.request_id)
    if before:
        condition = and_(
            condition,
            tuple_(*age)
            < tuple_(bindparam("moment", type_=Instant()), bindparam("id", type_=String())),
        )
    newest_first = [column.desc() for column in age]
    limit = bindparam("limit", type_=Integer())
    page = select(*RESULT).where(condition).order_by(*newest_first).limit(limit).subquery()
    return select_up_to(page, ["errors"], page.c.completed_at.desc(), page.c.request_id.desc())


def add_results(connection: Connection, results: Iterable[StoredResult]) -> None:
    """Store results. Raises IntegrityError if one of the requests has a result already."""
    add_rows(connection, EnrollmentResult, _COLUMNS, _rows(connection, results))


def add_result_last(
    connection: Connection, results: Sequence[StoredResult]
) -> LastStatement | None:
    """Return the statement that stores a single result; None for several, or on SQLite."""
    if connection.dialect.name != "postgresql" or len(results) != 1:
        return None
    rows = _rows(connection, results)
    return last_insert(EnrollmentResult, _COLUMNS, rows[0]) if rows else None


def _rows(connection: Connection, results: Iterable[StoredResult]) -> list[tuple[Any, ...]]:
    """Return results as rows, with JSON as text; only those that are to be stored."""
    if not stores_all_results(connection):
        results = [result for result in results if result.fingerprint is not None]
    return [
        (
            *result[:5],
            # The string of a Python list of integers is valid JSON.
            str(result.enrolled_ids),
            str(result.already_enrolled_ids),
            json.dumps(
                [error.model_dump(mode="json", exclude_none=True) for error in result.errors]
            )
            if result.errors
            else "[]",
            *result[8:11],
            str(list(result.dropped_ids)) if result.dropped_ids else None,
            str(list(result.not_enrolled_ids)) if result.not_enrolled_ids else None,
            _superseded(result) if result.superseded else None,
            *result[14:],
        )
        for result in results
    ]


def _superseded(result: StoredResult) -> str:
    return json.dumps(
        [(each.course, each.action.value, each.won_at.isoformat()) for each in result.superseded]
    )


def delete_result(connection: Connection, request_id: str) -> None:
    """Remove the result of a request, so that the request can be decided again."""
    connection.execute(delete(EnrollmentResult).where(EnrollmentResult.request_id == request_id))
