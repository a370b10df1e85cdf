"""Read in SQL what requests did to pairs."""

from collections.abc import Collection, Iterator
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, exists, func, or_, select

from producer.schemas import Action
from worker.database.sets import (
    columns_of,
    is_among,
    list_parameter,
    row_parameters,
    rows_as_table,
)
from worker.enrollment.derived.entries import unpack
from worker.enrollment.derived.repository import entry_at
from worker.models import (
    Batch,
    BatchChunk,
    EnrollmentResult,
    Instant,
    Pair,
    PastEnrollment,
    StudentCourse,
)


class Event(NamedTuple):
    """What a request asked of a pair, and was not superseded in."""

    pair: Pair
    action: Action
    moment: datetime
    is_change: bool
    """False if the pair was enrolled already, or was not enrolled when it was dropped."""
    batch_id: str | None
    data_set: int | None
    """That of the batch."""


def find_events(
    connection: Connection, pairs: Collection[Pair], since: datetime | None = None
) -> list[Event]:
    """Return what requests that count at a moment or later did to pairs; None for all requests."""
    wanted = set(pairs)
    if not wanted:
        return []
    events = (*_of_results(connection, wanted, since), *_derived(connection, wanted, since))
    return [event for event in events if event.pair in wanted]


def _of_results(
    connection: Connection, pairs: Collection[Pair], since: datetime | None
) -> Iterator[Event]:
    dialect = connection.dialect.name
    students = list_parameter(dialect, {student for student, _ in pairs})
    for row in connection.execute(_select_results(dialect), {**students, "since": since}):
        origin = (row.batch_id, row.data_set)
        for course in row.enrolled:
            is_new = course not in row.already
            yield Event((row.student_id, course), Action.ENROLL, row.counts_at, is_new, *origin)
        for course in row.dropped or ():
            was_open = course not in (row.not_enrolled or ())
            yield Event((row.student_id, course), Action.DROP, row.counts_at, was_open, *origin)


@cache
def _select_results(dialect: str) -> Any:
    result = EnrollmentResult
    # An older version stored no moment.
    counts_at = func.coalesce(result.moment, result.completed_at, type_=Instant())
    since = bindparam("since", type_=Instant())
    lists = (result.enrolled, result.already, result.dropped, result.not_enrolled)
    return (
        select(
            result.student_id,
            *lists,
            counts_at.label("counts_at"),
            result.batch_id,
            Batch.data_set,
        )
        .outerjoin(Batch, Batch.id == result.batch_id)
        .where(is_among(dialect, result.student_id), or_(since.is_(None), counts_at >= since))
    )


def _derived(
    connection: Connection, pairs: Collection[Pair], since: datetime | None
) -> Iterator[Event]:
    """Yield what requests did whose results are not stored: they opened enrollments.

    Rows of stored results name a place in their chunk, too, and two batches may have one moment:
    the entry at that place tells which request opened a pair.
    """
    dialect = connection.dialect.name
    parameters = row_parameters(dialect, _PAIR, sorted(pairs)) | {"since": since}
    for rows in (StudentCourse, PastEnrollment):
        for row in connection.execute(_select_derived(dialect, rows), parameters):
            entry = unpack(row.entry)
            if entry and entry.student == row.student_id and row.course_id in entry.courses:
                pair = (row.student_id, row.course_id)
                yield Event(pair, Action.ENROLL, row.enrolled_at, True, row.id, row.data_set)


_PAIR = columns_of(StudentCourse, "student_id", "course_id")


@cache
def _select_derived(dialect: str, rows: Any) -> Any:
    source, since = rows_as_table(dialect, _PAIR), bindparam("since", type_=Instant())
    is_pair = (rows.student_id == source.c.student_id) & (rows.course_id == source.c.course_id)
    is_chunk = (BatchChunk.batch_id == Batch.id) & (BatchChunk.number == rows.chunk)
    return (
        select(
            rows.student_id,
            rows.course_id,
            rows.enrolled_at,
            Batch.id,
            Batch.data_set,
            entry_at(rows.position).label("entry"),
        )
        .select_from(source)
        .join(rows, is_pair)
        .join(Batch, Batch.moment == rows.enrolled_at)
        .join(BatchChunk, is_chunk)
        .where(BatchChunk.fresh.is_not(None), or_(since.is_(None), rows.enrolled_at >= since))
    )


def did_undone_batches_name(
    connection: Connection, students: Collection[int], apart_from: str
) -> bool:
    """Return whether requests of a batch that was undone named students, apart from one batch.

    It may be true for nothing, for example if two batches have one moment.
    """
    dialect = connection.dialect.name
    values = {**list_parameter(dialect, students), "apart_from": apart_from}
    return bool(connection.scalar(_select_named_by_undone(dialect), values))


@cache
def _select_named_by_undone(dialect: str) -> Any:
    result = EnrollmentResult
    is_undone = Batch.stopped_at.is_not(None) & (Batch.id != bindparam("apart_from"))
    conditions = [is_among(dialect, result.student_id) & (Batch.id == result.batch_id)]
    for rows in (StudentCourse, PastEnrollment):
        opened = Batch.moment == rows.enrolled_at
        conditions.append(is_among(dialect, rows.student_id) & opened)
    return select(or_(*(exists().where(each, is_undone) for each in conditions)))


def find_results_before(
    connection: Connection, batch_id: str, after: str, students: Collection[int], *, own: bool
) -> list[Any]:
    """Return the stored results of a batch about students up to one, in the order of the pages.

    Those of requests with ids of their own come after the others; `own` is true if `after` is the
    id of such a request.
    """
    dialect = connection.dialect.name
    values = {**list_parameter(dialect, students), "batch": batch_id, "after": after}
    return list(connection.execute(_select_before(dialect, own), values))


@cache
def _select_before(dialect: str, own: bool) -> Any:  # noqa: FBT001 - for the cache
    result = EnrollmentResult
    is_own, is_before = result.fingerprint.is_not(None), result.request_id <= bindparam("after")
    lists = (result.enrolled, result.dropped, result.superseded)
    return select(result.student_id, *lists).where(
        is_among(dialect, result.student_id),
        result.batch_id == bindparam("batch"),
        or_(~is_own, is_before) if own else and_(~is_own, is_before),
    )
