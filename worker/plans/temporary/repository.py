"""Copy real rows into the temporary tables of a plan, and read and store its report, in SQL."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
    String,
    bindparam,
    cast,
    column,
    delete,
    func,
    select,
    table,
)

from producer.contract.chunks import line_request_ids
from worker.database.planning import real_table
from worker.database.sets import (
    add_rows,
    insert_into,
    is_among,
    list_parameter,
    rows_up_to,
    select_up_to,
)
from worker.database.temporary_tables import FILLED_STUDENTS
from worker.models import (
    Base,
    Batch,
    BatchChunk,
    BatchRefusal,
    Course,
    EnrollmentResult,
    Instant,
    PastEnrollment,
    Student,
    StudentCourse,
)
from worker.plan_models import AlsoEnrolledBy, PlannedDropRow, PlannedRefusal
from worker.repository import by_type

Model = type[Student] | type[Course]

_FILLED: Any = table(FILLED_STUDENTS, column("id", Integer()))
_NOT_COPIED: Final[dict[type[Base], tuple[str, ...]]] = {
    BatchChunk: ("lines", "fresh", "fresh_size"),
    BatchRefusal: ("id",),
}
"""The columns that no decision depends on, and the numbers of refusals: a plan has its own."""


class Since(NamedTuple):
    """The times from which on stored rows matter for a plan; None for all."""

    ended: datetime | None
    """The earliest moment of a request: earlier drops do not win against any."""
    results: datetime | None
    """When the earliest results that may confirm an enrollment were stored."""


class RealRows:
    """Copies real rows into the temporary tables that hide them.

    A row that is there already stays as it is: the plan may have changed it. The methods raise
    DBAPIError.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._statements: dict[Any, Any] = {}

    def copy_batches(self, batch_ids: Sequence[str]) -> list[datetime | None]:
        """Copy batches with their ledgers and refusals; return the moments that are stored."""
        for model, name in ((Batch, "id"), (BatchChunk, "batch_id"), (BatchRefusal, "batch_id")):
            self._copy_among(model, name, batch_ids)
        return list(self._connection.scalars(select(Batch.moment)))

    def copy_roster(self, model: Model, ids: Collection[int | str]) -> None:
        """Copy the students or courses with these ids."""
        for name, listed in _by_column(ids):
            self._copy_among(model, name, listed)

    def copy_of_students(
        self, ids: Collection[int | str], since: Since, *, with_results: bool
    ) -> None:
        """Copy what belongs to students, once for each: the enrollments, drops and notes.

        The students themselves were copied. Results are copied only if the plan may drop something.
        """
        keys = [key for name, listed in _by_column(ids) for key in self._fill(name, listed)]
        if not keys:
            return
        self._copy_among(StudentCourse, "student_id", keys)
        self._copy_among(PastEnrollment, "student_id", keys, ended_at=since.ended)
        self._copy_among(AlsoEnrolledBy, "student_id", keys)
        if with_results:
            self._copy_among(EnrollmentResult, "student_id", keys, completed_at=since.results)

    def copy_results(self, request_ids: Collection[str], batch_id: str, number: int) -> None:
        """Copy the results of these requests, and of those without own ids in a chunk."""
        if request_ids:
            self._copy_among(EnrollmentResult, "request_id", request_ids)
        real = real_table(self._connection, EnrollmentResult)
        first, end = line_request_ids(batch_id, number)
        of_chunk = (real.c.request_id >= _FIRST, real.c.request_id < _END)
        self._copy("chunk", EnrollmentResult, *of_chunk, first=first, end=end)

    def _fill(self, name: str, listed: Collection[Any]) -> Sequence[int]:
        """Mark students as filled in; return the keys of those that were not.

        Planned students are among them; no real row has their keys.
        """
        if (statement := self._statements.get(("fill", name))) is None:
            keys = select(Student.id).where(is_among(self._dialect, getattr(Student, name)))
            new = insert_into(self._dialect, _FILLED).from_select(["id"], keys)
            statement = new.on_conflict_do_nothing().returning(_FILLED.c.id)
            self._statements["fill", name] = statement
        parameters = list_parameter(self._dialect, listed)
        return self._connection.scalars(statement, parameters).all()

    def _copy_among(
        self,
        model: type[Base],
        name: str,
        listed: Collection[Any],
        **since: datetime | None,
    ) -> None:
        """Copy rows with one of the listed values, and those times at or after the given ones."""
        real = real_table(self._connection, model)
        times = {n: time for n, time in since.items() if time is not None}
        conditions = [real.c[n] >= bindparam(f"since_{n}", type_=Instant()) for n in times]
        self._copy(
            (name, *times),
            model,
            is_among(self._dialect, real.c[name]),
            *conditions,
            **list_parameter(self._dialect, listed),
            **{f"since_{n}": time for n, time in times.items()},
        )

    def _copy(self, key: Any, model: type[Base], *conditions: Any, **parameters: Any) -> None:
        if (statement := self._statements.get((model, key))) is None:
            real = real_table(self._connection, model)
            left_out = _NOT_COPIED.get(model, ())
            names = [column.name for column in real.columns if column.name not in left_out]
            rows = select(*(real.c[name] for name in names)).where(*conditions)
            if model is BatchRefusal:
                rows = rows.order_by(real.c.id)
            copied = insert_into(self._dialect, model).from_select(names, rows)
            statement = self._statements[model, key] = copied.on_conflict_do_nothing()
        self._connection.execute(statement, parameters)


_FIRST: Final = bindparam("first", type_=String())
_END: Final = bindparam("end", type_=String())


def _by_column(ids: Collection[int | str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the columns of the roster by which rows are named, each with its values."""
    keys, sis_ids = by_type(ids)
    if keys:
        yield "id", keys
    if sis_ids:
        yield "sis_id", sis_ids


# --- the report ---------------------------------------------------------------------------------

PAGE_ROWS: Final = 2_000
_PAGE_CHARACTERS: Final = 4_000_000
_REFUSAL: Final = ("batch_id", "line", "code", "message", "record", "cells")


def refusal_pages(connection: Connection) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the refusals of a plan on its connection, in pages of bounded size.

    Each has the columns of `_REFUSAL`, with JSON as text. They are in the order in which they were
    made.
    """
    after = 0
    while rows := _page_of_refusals(connection, after):
        yield [tuple(row[1:-1]) for row in rows]
        after = rows[-1].id


def _page_of_refusals(connection: Connection, after: int) -> list[Any]:
    refusal = BatchRefusal
    columns = [
        cast(getattr(refusal, name), String()).label(name)
        if name in ("record", "cells")
        else getattr(refusal, name)
        for name in _REFUSAL
    ]
    page = select(refusal.id, *columns).where(refusal.id > bindparam("after", type_=Integer()))
    bounded = page.order_by(refusal.id).limit(PAGE_ROWS).subquery()
    statement = select_up_to(bounded, ["message", "record", "cells"], bounded.c.id)
    return rows_up_to(connection, statement, {"after": after}, _PAGE_CHARACTERS).rows


def forget_report(connection: Connection, plan_id: str) -> None:
    """Remove what an earlier attempt to make a plan has stored."""
    for model in (PlannedRefusal, PlannedDropRow):
        connection.execute(delete(model).where(model.plan_id == plan_id))


def add_planned_refusals(
    connection: Connection, plan_id: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Store a page of refusals of a plan."""
    stored = [(plan_id, *refusal) for refusal in rows]
    add_rows(connection, PlannedRefusal, ("plan_id", *_REFUSAL), stored)


def add_planned_drops(
    connection: Connection, plan_id: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Store a page of the enrollments that a plan drops or passes on, with what it does."""
    stored = [(plan_id, *drop) for drop in rows]
    add_rows(connection, PlannedDropRow, ("plan_id", *_DROP), stored)


_DROP: Final = ("student_id", "course_id", "expected")


def count_report(connection: Connection, plan_id: str) -> tuple[int, int]:
    """Return how many refusals and how many drops are stored of a plan."""
    refusals, drops = (
        connection.scalar(select(func.count()).where(model.plan_id == plan_id)) or 0
        for model in (PlannedRefusal, PlannedDropRow)
    )
    return refusals, drops
