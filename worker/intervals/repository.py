"""Read and write past enrollments in SQL, and end those that are open.

Every function takes an open connection. Nothing here knows the rules or commits.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Connection,
    Table,
    and_,
    bindparam,
    column,
    delete,
    exists,
    func,
    literal,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import aliased

from producer.contract.refusals import MAX_AHEAD
from producer.schemas import ResultStatus
from worker.database.sets import (
    columns_of,
    insert_into,
    is_among,
    list_parameter,
    row_parameters,
    rows_as_table,
)
from worker.intervals.undone.repository import find_undone
from worker.intervals.values import Drop, NewerDrops, PairState
from worker.models import (
    EnrollmentResult,
    Instant,
    Pair,
    PastEnrollment,
    RetentionLimit,
    StudentCourse,
)
from worker.plan_models import AlsoEnrolledBy

MAX_NEWER_DROPS: Final = 1_000
"""The most newer drops that are read at once; if there are more, they are looked up by pair."""

_CLOCK_MARGIN: Final = timedelta(seconds=60)
"""By how much the two clocks may have come closer to each other since a result was stored."""

_PAIR = columns_of(PastEnrollment, "student_id", "course_id")
_DROP = columns_of(PastEnrollment, "student_id", "course_id", "ended_at", "reason", "request_id")
_INTERVAL = columns_of(
    PastEnrollment, "student_id", "course_id", "ended_at", "enrolled_at", "reason", "request_id"
)
_OWNED_INTERVAL = {**_INTERVAL, **columns_of(PastEnrollment, "data_set")}

_ORIGIN = ("chunk", "position", "data_set")
"""The columns that say which request of its batch opened a row, and which data set owns it."""


# --- what decides -----------------------------------------------------------------------------


def newer_drops_documents(dialect: str) -> list[Any]:
    """Return three scalar queries for `newer_drops`.

    They read the newer drops as a JSON document, the retention limit, and whether there are notes
    about enrollments that another data set than the owner names. The parameter `since` is the
    earliest moment that matters.
    """
    as_rows, as_row = (
        (func.json_agg, func.json_build_array)
        if dialect == "postgresql"
        else (func.json_group_array, func.json_array)
    )
    past = PastEnrollment
    newer = (
        select(past.student_id, past.course_id, past.ended_at)
        .where(past.ended_at > bindparam("since", type_=Instant()))
        .order_by(past.ended_at)
        .limit(MAX_NEWER_DROPS + 1)
        .subquery()
    )
    document = as_rows(as_row(*newer.c), type_=JSON())
    return [
        select(document).select_from(newer).scalar_subquery(),
        select(RetentionLimit.moment).where(RetentionLimit.singleton == 1).scalar_subquery(),
        exists(select(literal(1)).select_from(AlsoEnrolledBy)),
    ]


def newer_drops(document: Any, limit: datetime | None, has_notes: Any) -> NewerDrops:
    """Read what the queries of `newer_drops_documents` returned."""
    rows = document or ()
    if len(rows) > MAX_NEWER_DROPS:
        return NewerDrops(limit, None, bool(has_notes))
    # In the order of their moments: the latest drop of a pair stays.
    ended = {(student, course): in_utc(at) for student, course, at in rows}
    return NewerDrops(limit, ended, bool(has_notes))


def in_utc(stored: Any) -> datetime:
    """Return a stored time, perhaps one that was decoded from JSON."""
    at: datetime = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)


def find_newer_drops(connection: Connection, since: datetime) -> NewerDrops:
    """Return the drops that count later than a moment, and the retention limit."""
    row = connection.execute(_select_newer_drops(connection.dialect.name), {"since": since}).one()
    return newer_drops(*row)


@cache
def _select_newer_drops(dialect: str) -> Any:
    return select(*newer_drops_documents(dialect))


def find_states(
    connection: Connection,
    pairs: Iterable[Pair],
    dropped_at: datetime | None = None,
    ahead: timedelta = timedelta(0),
) -> dict[Pair, PairState]:
    """Return what is stored about pairs.

    `dropped_at` is the earliest moment of a drop among the requests; then the states say when the
    open pairs were last confirmed, if that was at that moment or later. `ahead` is as in
    `has_confirmations`.
    """
    dialect = connection.dialect.name
    wanted = sorted(set(pairs))
    if not wanted:
        return {}
    rows = connection.execute(_select_states(dialect), row_parameters(dialect, _PAIR, wanted))
    states = {
        (student, course): PairState(enrolled_at, enrolled_at, ended_at)
        for student, course, enrolled_at, ended_at in rows
    }
    if dropped_at is None:
        return states
    is_open = [pair for pair, state in states.items() if state.enrolled_at is not None]
    students = {student for student, _ in is_open}
    confirmed = find_confirmations(connection, students, dropped_at, ahead)
    for pair in is_open:
        at = confirmed.get(pair)
        state = states[pair]
        if at is not None and state.confirmed_at is not None and at > state.confirmed_at:
            states[pair] = state._replace(confirmed_at=at)
    return states


@cache
def _select_states(dialect: str) -> Any:
    source = rows_as_table(dialect, _PAIR)
    past, enrolled = PastEnrollment, StudentCourse
    ended = (
        select(func.max(past.ended_at, type_=Instant()))
        .where(past.student_id == source.c.student_id, past.course_id == source.c.course_id)
        .correlate(source)
        .scalar_subquery()
    )
    is_pair = (enrolled.student_id == source.c.student_id) & (
        enrolled.course_id == source.c.course_id
    )
    return select(*source.c, enrolled.enrolled_at, ended).select_from(
        source.outerjoin(enrolled, is_pair)
    )


def has_confirmations(
    connection: Connection,
    students: Collection[int],
    since: datetime,
    ahead: timedelta = timedelta(0),
) -> bool:
    """Return whether a request of these students enrolled or confirmed a pair at or after then.

    `ahead` is how far the clock of the moments is ahead of the database's.
    """
    if not students:
        return False
    dialect = connection.dialect.name
    values = {"since": since, **list_parameter(dialect, students)}
    # A row may say it alone: the result of the request that opened it may be derived from the row.
    if connection.scalar(_has_opened(dialect), values):
        return True
    return bool(find_confirmations(connection, students, since, ahead))


@cache
def _has_opened(dialect: str) -> Any:
    enrolled = StudentCourse
    is_of_student = is_among(dialect, enrolled.student_id)
    is_later = enrolled.enrolled_at >= bindparam("since", type_=Instant())
    return select(exists().where(is_of_student, is_later))


def find_confirmations(
    connection: Connection,
    students: Collection[int],
    since: datetime,
    ahead: timedelta,
    results: Table | None = None,
) -> dict[Pair, datetime]:
    """Return the latest moment, at or after `since`, at which a result enrolled or confirmed pairs.

    A batch of which an undo has begun confirms nothing. `results` is the table to read, if it is
    not `enrollment_results`. A result that counts then was stored later than `since` minus what a
    request may lie ahead of the one clock, and what this clock is ahead of the database's.
    """
    if not students:
        return {}
    dialect = connection.dialect.name
    parameters: dict[str, Any] = list_parameter(dialect, students)
    margin = timedelta(seconds=MAX_AHEAD) + max(ahead, timedelta(0)) + _CLOCK_MARGIN
    parameters |= {"since": since, "stored_since": since - margin}
    confirmed: dict[Pair, datetime] = {}
    rows = connection.execute(_select_confirmations(dialect, results), parameters).all()
    undone = find_undone(connection, {row.batch_id for row in rows}, begun=True)
    for student, courses, at, batch_id in rows:
        for course in courses if batch_id not in undone else ():
            confirmed[student, course] = max(at, confirmed.get((student, course), at))
    return confirmed


_ENROLLING = (ResultStatus.ENROLLED.value, ResultStatus.CHANGED.value, ResultStatus.PARTIAL.value)
"""The statuses of requests that may have enrolled or confirmed a pair."""


@cache
def _select_confirmations(dialect: str, results: Table | None) -> Any:
    result: Any = EnrollmentResult if results is None else results.c
    # An older version stored no moment.
    counts_at = func.coalesce(result.moment, result.completed_at, type_=Instant())
    return select(result.student_id, result.enrolled, counts_at, result.batch_id).where(
        is_among(dialect, result.student_id),
        result.status.in_(_ENROLLING),
        result.completed_at > bindparam("stored_since", type_=Instant()),
        counts_at >= bindparam("since", type_=Instant()),
    )


# --- what is written --------------------------------------------------------------------------


def end_enrollments(connection: Connection, drops: Mapping[Pair, Drop]) -> set[Pair]:
    """End the open enrollments of pairs, and keep them; return the pairs that were enrolled.

    An enrollment that began at the moment of its drop, or later, goes on.
    """
    if not drops:
        return set()
    dialect = connection.dialect.name
    rows = [
        (*pair, drop.ended_at, drop.reason, drop.request_id) for pair, drop in sorted(drops.items())
    ]
    parameters = row_parameters(dialect, _DROP, rows)
    if dialect == "postgresql":
        return {(s, c) for s, c in connection.execute(_end_at_once(), parameters)}
    connection.execute(_copy_open(dialect), parameters)
    return {(s, c) for s, c in connection.execute(_delete_open(dialect), parameters)}


@cache
def _end_at_once() -> Any:
    source = rows_as_table("postgresql", _DROP)
    enrolled = StudentCourse
    ended = (
        delete(enrolled)
        .where(
            enrolled.student_id == source.c.student_id,
            enrolled.course_id == source.c.course_id,
            enrolled.enrolled_at < source.c.ended_at,
        )
        .returning(
            enrolled.student_id,
            enrolled.course_id,
            source.c.ended_at,
            enrolled.enrolled_at,
            source.c.reason,
            source.c.request_id,
            *(getattr(enrolled, name) for name in _ORIGIN),
        )
        .cte("ended")
    )
    return (
        insert_into("postgresql", PastEnrollment)
        .from_select([*_INTERVAL, *_ORIGIN], select(*ended.c))
        .returning(PastEnrollment.student_id, PastEnrollment.course_id)
    )


@cache
def _copy_open(dialect: str) -> Any:
    source = rows_as_table(dialect, _DROP)
    enrolled = StudentCourse
    wanted = select(
        source.c.student_id,
        source.c.course_id,
        source.c.ended_at,
        enrolled.enrolled_at,
        source.c.reason,
        source.c.request_id,
        *(getattr(enrolled, name) for name in _ORIGIN),
    ).where(
        enrolled.student_id == source.c.student_id,
        enrolled.course_id == source.c.course_id,
        enrolled.enrolled_at < source.c.ended_at,
    )
    return insert_into(dialect, PastEnrollment).from_select([*_INTERVAL, *_ORIGIN], wanted)


@cache
def _delete_open(dialect: str) -> Any:
    source, enrolled, found = rows_as_table(dialect, _DROP), StudentCourse, aliased(StudentCourse)
    is_pair = and_(source.c.student_id == found.student_id, source.c.course_id == found.course_id)
    # Listed once: a look at the source for each row would read all of it for each.
    dropped = (
        select(source.c.student_id, source.c.course_id)
        .join(found, is_pair)
        .where(source.c.ended_at > found.enrolled_at)
    )
    return (
        delete(enrolled)
        .where(tuple_(enrolled.student_id, enrolled.course_id).in_(dropped))
        .returning(enrolled.student_id, enrolled.course_id)
    )


def add_intervals(connection: Connection, drops: Iterable[tuple[Pair, Drop]]) -> None:
    """Keep enrollments that began and ended within one transaction."""
    dialect = connection.dialect.name
    rows = _past_rows(drops)
    if rows:
        connection.execute(_insert_past(dialect), row_parameters(dialect, _OWNED_INTERVAL, rows))


def keep_drops(connection: Connection, drops: Mapping[Pair, Drop]) -> None:
    """Keep drops of pairs that are not enrolled, each in place of the pair's earlier one.

    None of these pairs has a later drop. If one ended at that very moment, nothing more is kept.
    """
    if not drops:
        return
    dialect = connection.dialect.name
    connection.execute(_delete_earlier(dialect), row_parameters(dialect, _PAIR, sorted(drops)))
    rows = _past_rows(drops.items())
    statement = _insert_past(dialect).on_conflict_do_nothing()
    connection.execute(statement, row_parameters(dialect, _OWNED_INTERVAL, rows))


@cache
def _delete_earlier(dialect: str) -> Any:
    source = rows_as_table(dialect, _PAIR)
    past = PastEnrollment
    return delete(past).where(
        tuple_(past.student_id, past.course_id).in_(select(*source.c)),
        past.enrolled_at.is_(None),
    )


def _past_rows(drops: Iterable[tuple[Pair, Drop]]) -> list[tuple[Any, ...]]:
    return sorted(
        (*pair, drop.ended_at, drop.enrolled_at, drop.reason, drop.request_id, drop.data_set)
        for pair, drop in drops
    )


@cache
def _insert_past(dialect: str) -> Any:
    source = rows_as_table(dialect, _OWNED_INTERVAL)
    values: Any = select(*(column(name) for name in _OWNED_INTERVAL)).select_from(source)
    # Without a condition, SQLite takes ON CONFLICT for a part of the query.
    values = values.where(true())
    return insert_into(dialect, PastEnrollment).from_select(list(_OWNED_INTERVAL), values)
