"""Write students and courses in SQL, a whole set at a time, each field by its moment.

A field changes if its new moment is later than the stored one; a missing one is older than any.
At equal moments the greater value by code point wins, so records may come in any order.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Interval,
    String,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
    update,
)

from producer.contract.rosters import (
    ROSTER_FIELDS,
    MergedRecord,
    from_microseconds,
    is_superseded,
    to_microseconds,
)
from producer.schemas import Kind
from worker.database.sets import (
    Columns,
    insert_into,
    list_parameter,
    row_parameters,
    rows_as_table,
    select_among,
)
from worker.models import Course, Instant, Student

Model = type[Student] | type[Course]

ROSTER_MODELS: Final[Mapping[Kind, Model]] = {Kind.STUDENTS: Student, Kind.COURSES: Course}
"""The tables of the roster."""


class RosterCounts(NamedTuple):
    """How many records did what."""

    upserted: int
    """They added a student or course, or changed one; the first record that does so counts."""
    unchanged: int
    """They name what is stored already; its moments may have become later."""
    superseded: int
    """Later records name all of their fields."""


def upsert_roster(
    connection: Connection, model: Model, merged: Sequence[MergedRecord]
) -> RosterCounts:
    """Write merged records; return how many records did what.

    First, unknown SIS ids are inserted, then known rows are locked and updated, each in the order
    of their SIS ids: two transactions cannot deadlock, because one that still inserts has locked no
    row that another one could know of. Known rows use up no primary keys. Raises DBAPIError.
    """
    if not merged:
        return RosterCounts(0, 0, 0)
    dialect = connection.dialect.name
    parameters = row_parameters(dialect, _columns(dialect, model), _rows(dialect, merged))
    added = connection.execute(_insert(dialect, model), parameters, execution_options=_COUNTED)
    upserted, known, superseded = added.rowcount, len(merged) - added.rowcount, 0
    if known:
        newer, changed = _update_known(connection, model, parameters)
        upserted += changed
        if newer < known:
            superseded = len(connection.scalars(_superseded(dialect, model), parameters).all())
    if several := [record for record in merged if len(record.records) > 1]:
        superseded = _count_superseded(connection, model, merged if superseded else several)
    received = sum(len(record.records) for record in merged)
    return RosterCounts(upserted, received - upserted - superseded, superseded)


def _count_superseded(connection: Connection, model: Model, merged: Sequence[MergedRecord]) -> int:
    """Count the superseded ones among records that have just been written."""
    dialect, fields = connection.dialect.name, fields_of(model)
    columns = [getattr(model, name) for name in (*fields, *map(_moment, fields))]
    sis_ids = list_parameter(dialect, [record.sis_id for record in merged])
    rows = connection.execute(select_among(dialect, model.sis_id, *columns), sis_ids)
    stored = {}
    for sis_id, *row in rows:
        times = row[len(fields) :]
        moments = [None if moment is None else to_microseconds(moment) for moment in times]
        stored[sis_id] = (moments, row[: len(fields)])
    return sum(
        is_superseded(record, *stored[group.sis_id]) for group in merged for record in group.records
    )


_COUNTED: Final = {"preserve_rowcount": True}


def _update_known(
    connection: Connection, model: Model, parameters: Mapping[str, Any]
) -> tuple[int, int]:
    """Write fields that are newer than the stored ones; return how many rows are, and changed."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        newer, changed = connection.execute(_lock_and_update(model), parameters).one()
        return newer, changed
    # SQLite has a single writer, so what is read here stays true until the commit.
    flags = connection.scalars(_select_newer(dialect, model), parameters).all()
    connection.execute(_update(dialect, model), parameters)
    return len(flags), sum(map(bool, flags))


def fields_of(model: Model) -> Sequence[str]:
    """Return the fields that upstream names: those with a moment."""
    return ROSTER_FIELDS[_KINDS[model]]


_KINDS: Final = {model: kind for kind, model in ROSTER_MODELS.items()}


def _moment(field: str) -> str:
    return f"{field}_moment"


@cache
def _columns(dialect: str, model: Model) -> Columns:
    # PostgreSQL reads a number much faster than a time.
    moment = BigInteger() if dialect == "postgresql" else Instant()
    fields = fields_of(model)
    texts = dict.fromkeys(["sis_id", *fields], String())
    return texts | dict.fromkeys(map(_moment, fields), moment)


def _rows(dialect: str, merged: Sequence[MergedRecord]) -> list[tuple[Any, ...]]:
    if dialect == "postgresql":
        return [(sis_id, *values, *moments) for sis_id, values, moments, _ in merged]
    return [
        (sis_id, *values, *(None if m is None else from_microseconds(m) for m in moments))
        for sis_id, values, moments, _ in merged
    ]


def _source(dialect: str, model: Model, *, once: bool = False) -> Any:
    """Return the new records as a table, with their moments as times; `once` if read once."""
    rows = rows_as_table(dialect, _columns(dialect, model))
    if dialect != "postgresql":
        return rows
    texts = [rows.c[name] for name in ("sis_id", *fields_of(model))]
    times = [
        (_EPOCH + rows.c[name] * _MICROSECOND).label(name)
        for name in map(_moment, fields_of(model))
    ]
    source = select(*texts, *times)
    # Materialized, or each comparison would convert the numbers again.
    return source.subquery() if once else source.cte("records").prefix_with("MATERIALIZED")


_EPOCH: Final = literal_column("timestamptz 'epoch'", DateTime(timezone=True))
_MICROSECOND: Final = literal_column("interval '1 microsecond'", Interval())


@cache
def _insert(dialect: str, model: Model) -> Any:
    columns = _columns(dialect, model)
    source = _source(dialect, model, once=True)
    known = select(model.id).where(model.sis_id == source.c.sis_id).exists()
    unknown = select(*(source.c[name] for name in columns)).where(~known)
    new = insert_into(dialect, model).from_select(list(columns), unknown.order_by(source.c.sis_id))
    # Another transaction may add a row in the meantime, which is then updated like a known one.
    return new.on_conflict_do_nothing(index_elements=["sis_id"])


class _Comparison:
    """The conditions that compare new records with what is stored."""

    def __init__(self, dialect: str, model: Model, stored: Any) -> None:
        self.source = _source(dialect, model)
        self.fields = fields_of(model)
        self._stored = stored
        self._collation = "C" if dialect == "postgresql" else "BINARY"
        self.is_same_row = stored.c.sis_id == self.source.c.sis_id
        self.is_newer = or_(*map(self.wins, self.fields))
        self.is_changed = or_(*map(self._changes, self.fields))

    def wins(self, field: str) -> Any:
        """Return the condition that the new value of a field replaces the stored one."""
        new, old, new_value, old_value = self._values(field)
        greater = new_value.collate(self._collation) > old_value.collate(self._collation)
        later = or_(old.is_(None), new > old, and_(new == old, or_(old_value.is_(None), greater)))
        return and_(new.is_not(None), later)

    def _changes(self, field: str) -> Any:
        is_other = self.source.c[field].is_distinct_from(self._stored.c[field])
        return and_(self.wins(field), is_other)

    def loses(self, field: str) -> Any:
        """Return the condition that the stored value of a field wins, or that none is named."""
        new, old, new_value, old_value = self._values(field)
        is_same = and_(new == old, new_value == old_value)
        return or_(new.is_(None), and_(~self.wins(field), ~is_same))

    def _values(self, field: str) -> tuple[Any, Any, Any, Any]:
        moment = _moment(field)
        source, stored = self.source.c, self._stored.c
        return source[moment], stored[moment], source[field], stored[field]

    def newest(self, field: str) -> Any:
        """Return the value that a field has afterwards."""
        return case((self.wins(field), self.source.c[field]), else_=self._stored.c[field])

    def newest_moment(self, field: str) -> Any:
        """Return the moment that a field has afterwards."""
        moment = _moment(field)
        return case((self.wins(field), self.source.c[moment]), else_=self._stored.c[moment])


def _values_after(compared: _Comparison) -> dict[str, Any]:
    values = {}
    for field in compared.fields:
        values[field] = compared.newest(field)
        values[_moment(field)] = compared.newest_moment(field)
    return values


@cache
def _lock_and_update(model: Model) -> Any:
    """Lock known rows in order, compare them as they are then, and update them."""
    stored = model.__table__.alias("stored")
    compared = _Comparison("postgresql", model, stored)
    after = [value.label(name) for name, value in _values_after(compared).items()]
    newer = (
        select(stored.c.id, compared.is_changed.label("is_changed"), *after)
        .select_from(stored.join(compared.source, compared.is_same_row))
        .where(compared.is_newer)
        .order_by(stored.c.sis_id)
        .with_for_update(key_share=True, of=stored)
        .cte("newer")
    )
    values = {column.name: newer.c[column.name] for column in after}
    written = update(model).where(model.id == newer.c.id).values(values)
    flags = written.returning(newer.c.is_changed).cte("written")
    return select(func.count(), func.count().filter(flags.c.is_changed)).select_from(flags)


@cache
def _select_newer(dialect: str, model: Model) -> Any:
    stored = model.__table__.alias("stored")
    compared = _Comparison(dialect, model, stored)
    joined = stored.join(compared.source, compared.is_same_row)
    return select(compared.is_changed).select_from(joined).where(compared.is_newer)


@cache
def _update(dialect: str, model: Model) -> Any:
    table = model.__table__
    compared = _Comparison(dialect, model, table)
    statement = update(model).where(compared.is_same_row, compared.is_newer)
    return statement.values(_values_after(compared))


@cache
def _superseded(dialect: str, model: Model) -> Any:
    """Select the SIS ids of records all of whose fields are older than the stored ones."""
    stored = model.__table__.alias("stored")
    compared = _Comparison(dialect, model, stored)
    names_some = or_(*(compared.source.c[_moment(f)].is_not(None) for f in compared.fields))
    loses_all = and_(*map(compared.loses, compared.fields))
    joined = stored.join(compared.source, compared.is_same_row)
    return select(stored.c.sis_id).select_from(joined).where(names_some, loses_all)
