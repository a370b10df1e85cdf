"""Write students and courses in SQL, a whole set at a time, each field by its moment.

A field changes if its new moment is later than the stored one; no stored moment is older than any.
At equal moments the greater value by code point wins, so records may come in any order.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, String, and_, case, or_, select, update

from producer.contract.rosters import MergedRecord
from producer.schemas import Kind
from worker.database.sets import Columns, insert_into, row_parameters, rows_as_table
from worker.models import Course, Instant, Student

Model = type[Student] | type[Course]

ROSTER_MODELS: Final[Mapping[Kind, Model]] = {Kind.STUDENTS: Student, Kind.COURSES: Course}
"""The tables of the roster."""


class RosterCounts(NamedTuple):
    """How many records did what, without those that others of the same chunk supersede."""

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
    parameters = row_parameters(dialect, _columns(model), [_row(model, r) for r in merged])
    added = len(connection.execute(_insert(dialect, model), parameters).all())
    known, changed, superseded = len(merged) - added, 0, 0
    if known:
        newer = _update_known(connection, model, parameters)
        changed = sum(newer)
        if len(newer) < known:
            sis_ids = connection.scalars(_superseded(dialect, model), parameters).all()
            records = {record.sis_id: record.records for record in merged}
            superseded = sum(records[sis_id] for sis_id in sis_ids)
    unchanged = sum(record.records for record in merged) - added - changed - superseded
    return RosterCounts(added + changed, unchanged, superseded)


def _update_known(
    connection: Connection, model: Model, parameters: Mapping[str, Any]
) -> list[bool]:
    """Write fields that are newer than the stored ones; return for each such row if it changed."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        return list(connection.scalars(_lock_and_update(model), parameters))
    # SQLite has a single writer, so what is read here stays true until the commit.
    newer = [bool(row) for row in connection.scalars(_select_newer(dialect, model), parameters)]
    connection.execute(_update(dialect, model), parameters)
    return newer


def fields_of(model: Model) -> list[str]:
    """Return the fields that upstream names: those with a moment."""
    columns = model.__table__.columns
    return [name for name in columns.keys() if _moment(name) in columns]  # noqa: SIM118 - not a dict


def _moment(field: str) -> str:
    return f"{field}_moment"


@cache
def _columns(model: Model) -> Columns:
    named: dict[str, Any] = {"sis_id": String()}
    for field in fields_of(model):
        named |= {field: String(), _moment(field): Instant()}
    return named


def _row(model: Model, record: MergedRecord) -> list[Any]:
    row: list[Any] = [record.sis_id]
    for field in fields_of(model):
        moment, value = record.fields.get(field, (None, None))
        row += (value, moment)
    return row


@cache
def _insert(dialect: str, model: Model) -> Any:
    columns = _columns(model)
    source = rows_as_table(dialect, columns)
    known = select(model.id).where(model.sis_id == source.c.sis_id).exists()
    unknown = select(*(source.c[name] for name in columns)).where(~known)
    new = insert_into(dialect, model).from_select(list(columns), unknown.order_by(source.c.sis_id))
    # Another transaction may add a row in the meantime, which is then updated like a known one.
    return new.on_conflict_do_nothing(index_elements=["sis_id"]).returning(model.sis_id)


class _Comparison:
    """The conditions that compare new records with what is stored."""

    def __init__(self, dialect: str, model: Model, stored: Any) -> None:
        self.source = rows_as_table(dialect, _columns(model))
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
    changed = update(model).where(model.id == newer.c.id).values(values)
    return changed.returning(newer.c.is_changed)


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
