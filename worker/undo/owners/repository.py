"""Read and write in SQL what a batch changed of owners and notes, besides enrollments."""

from collections.abc import Collection, Iterator
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
    String,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)

from producer.contract.chunks import line_request_ids
from producer.schemas import Action
from worker.database.sets import (
    columns_of,
    is_among,
    list_parameter,
    row_parameters,
    rows_as_table,
)
from worker.intervals.undone.repository import find_undone
from worker.models import Batch, EnrollmentResult, Pair, PastEnrollment, StudentCourse
from worker.plan_models import ADOPTED, AlsoEnrolledBy, DataSet, PlannedDropRow, PlanRow
from worker.snapshots.values import Fate

PAGE: Final = 5_000
"""How many pairs, or results, are looked at together."""

_PAIR: Final = columns_of(AlsoEnrolledBy, "student_id", "course_id")


class Submitted(NamedTuple):
    """A batch that was submitted, with its data set."""

    id: str
    moment: datetime
    data_set: int
    is_snapshot: bool


def find_submitted(connection: Connection, batch_id: str) -> Submitted | None:
    """Return a batch with a data set, or None."""
    batch = Batch
    row = connection.execute(
        select(batch.id, batch.moment, batch.data_set, PlanRow.request)
        .outerjoin(PlanRow, PlanRow.id == batch.id)
        .where(batch.id == batch_id, batch.data_set.is_not(None), batch.moment.is_not(None))
    ).one_or_none()
    if row is None:
        return None
    is_snapshot = row.request is not None and bool(row.request["snapshot"])
    return Submitted(row.id, row.moment, row.data_set, is_snapshot)


def last_snapshot(connection: Connection, data_set: int) -> datetime | None:
    """Return the moment of the last snapshot of a data set that began to be applied and counts."""
    snapshots = find_snapshots(connection)
    own = (each.moment for each in snapshots if each.counts and each.data_set == data_set)
    return max(own, default=None)


class Snapshot(NamedTuple):
    """A snapshot that began to be applied, and whether it counts: not if it was undone."""

    data_set: int
    moment: datetime
    counts: bool


def find_snapshots(connection: Connection, finishing: str | None = None) -> list[Snapshot]:
    """Return the snapshots whose plans are stored.

    `finishing` is a batch that is being undone. It does not count, and neither do others whose undo
    has begun.
    """
    plan = PlanRow
    begun = (
        select(plan.id, plan.request, plan.moment, plan.data_set)
        .join(Batch, Batch.id == plan.id)
        .where(plan.data_set.is_not(None))
    )
    rows = [row for row in connection.execute(begun) if row.request["snapshot"]]
    undone = find_undone(
        connection, {row.id for row in rows}, finishing, begun=finishing is not None
    )
    return [Snapshot(row.data_set, row.moment, row.id not in undone) for row in rows]


def find_snapshot(connection: Connection, data_set: int, moment: datetime) -> tuple[str, str]:
    """Return the id of the snapshot of a data set that counts at a moment, and the set's name.

    If the plan of the snapshot was removed, the name stands for it.
    """
    plan = PlanRow
    name = connection.execute(select(DataSet.name).where(DataSet.id == data_set)).scalar_one()
    rows = connection.execute(
        select(plan.id, plan.request).where(plan.data_set == data_set, plan.moment == moment)
    )
    return next((row.id for row in rows if row.request["snapshot"]), name), name


def count_left_to_snapshots(connection: Connection, undo_id: str, number: int | None) -> int:
    """Return how many enrollments an undo does not restore because of later snapshots.

    They are counted in one chunk of the undo, or in all.
    """
    undo, plan = select(Batch.moment).where(Batch.id == undo_id), PlanRow
    is_later_snapshot = plan.request["snapshot"].as_boolean() & (
        plan.moment > undo.scalar_subquery()
    )
    later = connection.scalars(select(plan.moment).where(is_later_snapshot))
    moments = [moment.isoformat() for moment in later]
    if not moments:
        return 0
    first, end = line_request_ids(undo_id, number)
    dialect = connection.dialect.name
    bounds = {"undo": undo_id, "first": first, "end": end, "action": Action.ENROLL.value}
    values = {**bounds, **list_parameter(dialect, moments, "moments")}
    return connection.scalar(_count_won_at(dialect), values) or 0


@cache
def _count_won_at(dialect: str) -> Any:
    result = EnrollmentResult
    if dialect == "postgresql":
        elements, extract = func.json_array_elements, func.json_extract_path_text
        places = ("1", "2")
    else:
        elements, extract = func.json_each, func.json_extract
        places = ("$[1]", "$[2]")
    each = elements(result.superseded).table_valued("value", joins_implicitly=True)
    action, won_at = (extract(each.c.value, place, type_=String()) for place in places)
    return (
        select(func.count())
        .select_from(result, each)
        .where(
            result.request_id > bindparam("first"),
            result.request_id < bindparam("end"),
            result.batch_id == bindparam("undo"),
            result.superseded.is_not(None),
            action == bindparam("action"),
            # SQLAlchemy would compare two functions in the other order, and ANY must come last.
            is_among(dialect, type_coerce(won_at, String()), "moments"),
        )
    )


def find_ended(connection: Connection, data_set: int, until: datetime, after: Pair) -> list[Pair]:
    """Return the next pairs that a data set owned and that ended until a moment, by their keys.

    What its snapshots have passed on ended as another data set's. It belongs to this one if such a
    snapshot was undone, so it is among them.
    """
    past, drop, plan = PastEnrollment, PlannedDropRow, PlanRow
    key = (past.student_id, past.course_id)
    ended = select(*key).where(past.ended_at <= until).distinct()
    is_same = (drop.student_id == past.student_id) & (drop.course_id == past.course_id)
    passed_on = (
        ended.join(drop, is_same)
        .join(plan, plan.id == drop.plan_id)
        .where(plan.data_set == data_set, drop.outcome == Fate.PASSED_ON)
    )
    # Each has an index to follow in a statement of its own.
    pages = [
        _page(connection, wanted, key, after)
        for wanted in (ended.where(past.data_set == data_set), passed_on)
    ]
    return sorted({pair for page in pages for pair in page})[:PAGE]


def set_swept_at(
    connection: Connection, data_set: int, before: datetime | None, after: datetime | None
) -> None:
    """Change the moment of the last snapshot of a data set, if it is still the one it was."""
    is_same = DataSet.swept_at.is_not_distinct_from(before)
    connection.execute(
        update(DataSet).where(DataSet.id == data_set, is_same).values(swept_at=after)
    )


def _pages(connection: Connection, wanted: Any, key: tuple[Any, Any]) -> Iterator[list[Pair]]:
    """Yield the pairs that a statement selects in pages, in the order of their key."""
    after = (0, 0)
    while pairs := _page(connection, wanted, key, after):
        yield pairs
        after = pairs[-1]


def _page(connection: Connection, wanted: Any, key: tuple[Any, Any], after: Pair) -> list[Pair]:
    page = wanted.where(tuple_(*key) > tuple_(*after)).order_by(*key).limit(PAGE)
    return [(student, course) for student, course in connection.execute(page)]


def pages_with_outcome(connection: Connection, plan_id: str, outcome: str) -> Iterator[list[Pair]]:
    """Yield the pairs with which a plan did this, a page at a time."""
    wanted, key = _with_outcome(plan_id, outcome)
    return _pages(connection, wanted, key)


def find_adopted(connection: Connection, plan_id: str, after: Pair) -> list[Pair]:
    """Return the next pairs that a snapshot adopted, in the order of their keys."""
    wanted, key = _with_outcome(plan_id, ADOPTED)
    return _page(connection, wanted, key, after)


def _with_outcome(plan_id: str, outcome: str) -> tuple[Any, tuple[Any, Any]]:
    row = PlannedDropRow
    key = (row.student_id, row.course_id)
    return select(*key).where(row.plan_id == plan_id, row.outcome == outcome), key


class Transfer(NamedTuple):
    """A snapshot that adopted an enrollment, or passed it on to another data set."""

    pair: Pair
    plan_id: str
    moment: datetime
    data_set: int
    """The data set of the snapshot."""


def find_transfers(connection: Connection, pairs: Collection[Pair], outcome: str) -> list[Transfer]:
    """Return which snapshots did this with some of these pairs, and when those count."""
    plan = PlanRow
    columns = (plan.id, plan.request, plan.moment, plan.data_set)
    plans = connection.execute(select(*columns).where(plan.data_set.is_not(None)))
    option = "adopt" if outcome == ADOPTED else "snapshot"
    origins = {row.id: (row.id, row.moment, row.data_set) for row in plans if row.request[option]}
    if not origins:
        return []
    dialect = connection.dialect.name
    source, row = rows_as_table(dialect, _PAIR), PlannedDropRow
    # A join with the source would let SQLite read all of it for each drop of these plans.
    is_listed = tuple_(row.student_id, row.course_id).in_(select(*source.c))
    wanted = select(row.student_id, row.course_id, row.plan_id).where(
        row.outcome == outcome, is_among(dialect, row.plan_id), is_listed
    )
    parameters = row_parameters(dialect, _PAIR, sorted(set(pairs)))
    rows = connection.execute(wanted, parameters | list_parameter(dialect, origins.keys()))
    return [Transfer((student, course), *origins[plan_id]) for student, course, plan_id in rows]


def change_owner(
    connection: Connection, pairs: Collection[Pair], before: int | None, after: int | None
) -> None:
    """Let the owner of enrollments be another one, if it is still the one that it was."""
    if pairs:
        dialect = connection.dialect.name
        parameters = row_parameters(dialect, _PAIR, sorted(pairs))
        values = {**parameters, "before": before, "after": after}
        connection.execute(_change_owner(dialect), values)


@cache
def _change_owner(dialect: str) -> Any:
    source, row = rows_as_table(dialect, _PAIR), StudentCourse
    before, after = (bindparam(name, type_=Integer()) for name in ("before", "after"))
    return (
        update(row)
        .where(tuple_(row.student_id, row.course_id).in_(select(*source.c)))
        .where(row.data_set.is_not_distinct_from(before))
        .values(data_set=after)
    )


def pages_of_notes(connection: Connection, data_set: int, since: datetime) -> Iterator[list[Pair]]:
    """Yield the pairs of the notes of a data set that count at a moment or later, by pages."""
    note = AlsoEnrolledBy
    key = (note.student_id, note.course_id)
    wanted = select(*key).where(note.data_set == data_set, note.moment >= since)
    return _pages(connection, wanted, key)


def remove_notes(
    connection: Connection, pairs: Collection[Pair], data_set: int | None = None
) -> None:
    """Remove the notes about pairs: those of a data set, or all."""
    dialect = connection.dialect.name
    parameters = row_parameters(dialect, _PAIR, sorted(pairs))
    connection.execute(_remove_notes(dialect), {**parameters, "data_set": data_set})


@cache
def _remove_notes(dialect: str) -> Any:
    source, note = rows_as_table(dialect, _PAIR), AlsoEnrolledBy
    data_set = bindparam("data_set", type_=Integer())
    return delete(note).where(
        tuple_(note.student_id, note.course_id).in_(select(*source.c)),
        or_(data_set.is_(None), note.data_set == data_set),
    )


def batches_between(
    connection: Connection, data_set: int, since: datetime | None, until: datetime
) -> list[str]:
    """Return the batches of a data set that count from a moment on and before another one."""
    batch = Batch
    wanted = select(batch.id).where(batch.data_set == data_set, batch.moment < until)
    if since is not None:
        wanted = wanted.where(batch.moment >= since)
    return list(connection.scalars(wanted))


def pages_confirmed(connection: Connection, batch_id: str, data_set: int) -> Iterator[list[Pair]]:
    """Yield the pairs that a batch named and that were enrolled already, by pages.

    Students without an enrollment of another data set are left out.
    """
    result, row, after = EnrollmentResult, StudentCourse, ""
    is_foreign = exists().where(
        row.student_id == result.student_id,
        row.data_set.is_not(None),
        row.data_set != data_set,
    )
    wanted = select(result.request_id, result.student_id, result.already).where(
        result.batch_id == batch_id, func.json_array_length(result.already) > 0, is_foreign
    )
    while True:
        page = wanted.where(result.request_id > after).order_by(result.request_id).limit(PAGE)
        rows = connection.execute(page).all()
        if not rows:
            return
        yield [(each.student_id, course) for each in rows for course in each.already]
        after = rows[-1].request_id
