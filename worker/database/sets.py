"""Build the parts of set-based SQL: lists of values and rows as tables, on both dialects."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import repeat
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    FromClause,
    Integer,
    String,
    bindparam,
    cast,
    column,
    func,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from worker.database import copy
from worker.models import Base

Columns = Mapping[str, TypeEngine[Any]]

COPY_ROWS = 200
"""From so many rows on, PostgreSQL's COPY is faster than a statement with arrays."""


# Statements are built once for each dialect, with the names of their parameters, and run with the
# values that `row_parameters` or `list_parameter` gives: to build one takes longer than to run it.


def columns_of(model: type[Base], *names: str) -> Columns:
    """Return columns of a table with their types.

    A text has no length here: a cast to `varchar(n)` would cut what is longer without an error.
    """
    types = ((name, model.__table__.columns[name].type) for name in names)
    return {n: String() if isinstance(type_, String) else type_ for n, type_ in types}


def rows_as_table(dialect: str, columns: Columns) -> FromClause:
    """Rows as a table: `unnest` of an array a column, or `json_each` of one document."""
    if dialect == "postgresql":
        arrays = [
            cast(bindparam(f"source_{name}", type_=String()), postgresql.ARRAY(type_))
            for name, type_ in columns.items()
        ]
        named = [column(name, type_) for name, type_ in columns.items()]
        return func.unnest(*arrays).table_valued(*named, name="source").render_derived()
    each = func.json_each(bindparam("source", type_=String())).table_valued("key", "value")
    extracted = (
        type_coerce(func.json_extract(each.c.value, f"$[{place}]"), type_).label(name)
        for place, (name, type_) in enumerate(columns.items())
    )
    return select(*extracted).subquery("source")


def row_parameters(dialect: str, columns: Columns, rows: Sequence[Sequence[Any]]) -> dict[str, str]:
    """The parameters of `rows_as_table` for these rows."""
    if dialect != "postgresql":
        return {"source": json.dumps(rows, default=_instant)}
    values = zip(*rows, strict=True) if rows else repeat(())
    return {
        f"source_{name}": array_literal(type_, of_column)
        for (name, type_), of_column in zip(columns.items(), values, strict=False)
    }


def is_among(dialect: str, of: Any, name: str = "listed") -> Any:
    """The condition that a column has one of the values that `list_parameter` gives."""
    listed = bindparam(name, type_=String())
    if dialect == "postgresql":
        type_ = Integer() if isinstance(of.type, Integer) else String()
        # The index is walked once along the values; `worker.database.engine` makes sure of that.
        return of == func.any(cast(listed, postgresql.ARRAY(type_)))
    return of.in_(select(func.json_each(listed).table_valued("key", "value").c.value))


def list_parameter(
    dialect: str, values: Collection[int | str], name: str = "listed"
) -> dict[str, str]:
    """The parameter of `is_among` for values that are all of the column's type."""
    if dialect != "postgresql":
        return {name: json.dumps(list(values))}
    # In order, as the server would otherwise have to put them.
    texts = list(map(str, sorted(values)))
    joined = '","'.join(texts)
    if "\\" in joined or joined.count('"') != 2 * max(0, len(texts) - 1):
        return {name: array_literal(String(), texts)}
    return {name: f'{{"{joined}"}}' if texts else "{}"}


def _instant(value: datetime) -> str:
    """A moment in UTC as SQLite keeps it."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def array_literal(type_: TypeEngine[Any], values: Sequence[Any]) -> str:
    """A PostgreSQL array as text; the driver would take longer over it than the server."""
    if isinstance(type_, Integer):
        return f"{{{','.join(map(str, values)).replace('None', 'NULL')}}}"
    return f"{{{','.join(map(_quoted, values))}}}"


def _quoted(value: Any) -> str:
    if value is None:
        return "NULL"
    text = str(value)
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def insert_into(dialect: str, table: Any) -> Any:
    """`INSERT` with `ON CONFLICT`, which both dialects have under the same names."""
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


def add_rows(
    connection: Connection,
    model: type[Base],
    names: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
) -> None:
    """Insert rows with values for the columns of these names; JSON is given as text.

    Raises IntegrityError if a row is there already.
    """
    if not rows:
        return
    dialect = connection.dialect.name
    if dialect == "postgresql" and len(rows) >= COPY_ROWS:
        copy.copy_rows(connection, model.__tablename__, names, rows)
    else:
        parameters = row_parameters(dialect, columns_of(model, *names), rows)
        connection.execute(_insert_rows(dialect, model, names), parameters)


@cache
def _insert_rows(dialect: str, model: type[Base], names: tuple[str, ...]) -> Any:
    columns = columns_of(model, *names)
    texts = {n: String() if isinstance(t, JSON) else t for n, t in columns.items()}
    source = rows_as_table(dialect, texts)
    wanted = [
        cast(source.c[name], JSON)
        if isinstance(type_, JSON) and dialect == "postgresql"
        else source.c[name]
        for name, type_ in columns.items()
    ]
    return insert_into(dialect, model).from_select(list(columns), select(*wanted))


@cache
def select_among(dialect: str, of: Any, *others: Any) -> Any:
    return select(of, *others).where(is_among(dialect, of))
