"""Build the parts of set-based SQL, on both dialects: lists of values, and rows as tables."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    FromClause,
    Integer,
    String,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    true,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from worker.database import copy
from worker.database.last_write import LastStatement
from worker.models import Base

Columns = Mapping[str, TypeEngine[Any]]

ROW_CHARACTERS = 60
"""The fewest characters that a row adds to an answer, besides its texts."""

COPY_ROWS = 200
"""With at least this many rows, PostgreSQL's COPY is faster than a statement with arrays."""


# Building a statement takes longer than running it. So each statement is built once per dialect,
# with named parameters, and runs with the values from `row_parameters` or `list_parameter`.


@cache
def columns_of(model: type[Base], *names: str) -> Columns:
    """Return columns of a table with their types.

    Text columns have no length here: a cast to `varchar(n)` would cut longer values silently.
    """
    types = ((name, model.__table__.columns[name].type) for name in names)
    return {n: String() if isinstance(type_, String) else type_ for n, type_ in types}


def rows_as_table(dialect: str, columns: Columns) -> FromClause:
    """Return rows as a table: `unnest` of one array per column, or `json_each` of a document."""
    if dialect == "postgresql":
        arrays = [
            cast(bindparam(f"source_{name}", type_=String()), postgresql.ARRAY(type_))
            for name, type_ in columns.items()
        ]
        named = [column(name, type_) for name, type_ in columns.items()]
        return func.unnest(*arrays).table_valued(*named, name="source").render_derived()
    each = func.json_each(bindparam("source", type_=String())).table_valued("key", "value")
    extracted = (
        type_coerce(func.json_extract(each.c.value, f"$[{index}]"), type_).label(name)
        for index, (name, type_) in enumerate(columns.items())
    )
    return select(*extracted).subquery("source")


def row_parameters(dialect: str, columns: Columns, rows: Sequence[Sequence[Any]]) -> dict[str, str]:
    """Return the parameters of `rows_as_table` for these rows."""
    if dialect != "postgresql":
        return {"source": json.dumps(rows, default=_instant)}
    values = zip(*rows, strict=True) if rows else repeat(())
    return {
        f"source_{name}": array_literal(type_, column_values)
        for (name, type_), column_values in zip(columns.items(), values, strict=False)
    }


def is_among(dialect: str, of: Any, name: str = "listed") -> Any:
    """Return the condition that a column has one of the values from `list_parameter`."""
    listed = bindparam(name, type_=String())
    if dialect == "postgresql":
        numeric = BigInteger() if isinstance(of.type, BigInteger) else Integer()
        type_ = numeric if isinstance(of.type, Integer) else String()
        # The index is scanned once for all values; `worker.database.engine` ensures that.
        return of == func.any(cast(listed, postgresql.ARRAY(type_)))
    return of.in_(select(func.json_each(listed).table_valued("key", "value").c.value))


def list_parameter(
    dialect: str, values: Collection[int | str], name: str = "listed"
) -> dict[str, str]:
    """Return the parameter of `is_among`; all values must have the type of the column."""
    if dialect != "postgresql":
        return {name: json.dumps(list(values))}
    # Sorted here, because the server would otherwise have to sort them.
    texts = list(map(str, sorted(values)))
    return {name: array_literal(String(), texts)}


def _instant(value: datetime) -> str:
    """Return a moment in UTC, in the format that SQLAlchemy uses for SQLite."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def array_literal(type_: TypeEngine[Any], values: Sequence[Any]) -> str:
    """Return a PostgreSQL array as text: the driver would take longer than the server."""
    if isinstance(type_, Integer):
        return f"{{{','.join(map(str, values)).replace('None', 'NULL')}}}"
    if (quoted := _all_quoted(values)) is not None:
        return quoted
    return f"{{{','.join(map(_quoted, values))}}}"


def _all_quoted(texts: Sequence[Any]) -> str | None:
    """Return an array of plain texts; None if some are missing, or need more than quotes."""
    try:
        joined = '","'.join(texts)
    except TypeError:
        return None
    if not texts or "\\" in joined or joined.count('"') != 2 * (len(texts) - 1):
        return None
    return f'{{"{joined}"}}'


def _quoted(value: Any) -> str:
    if value is None:
        return "NULL"
    text = str(value)
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def insert_into(dialect: str, table: Any) -> Any:
    """Return an `INSERT` that has `ON CONFLICT`, with the same methods on both dialects."""
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


def add_rows(
    connection: Connection,
    model: type[Base],
    names: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
) -> None:
    """Insert rows with values for the columns of these names; pass JSON values as text.

    Raises IntegrityError if a row already exists.
    """
    if not rows:
        return
    dialect = connection.dialect.name
    if dialect == "postgresql" and len(rows) >= COPY_ROWS:
        copy.copy_rows(connection, model.__tablename__, names, rows)
    else:
        parameters = row_parameters(dialect, columns_of(model, *names), rows)
        connection.execute(insert_rows(dialect, model, names), parameters)


@cache
def insert_rows(dialect: str, model: type[Base], names: tuple[str, ...]) -> Any:
    """Return the statement that inserts rows with the values from `row_parameters`."""
    columns = columns_of(model, *names)
    texts = {n: String() if isinstance(t, JSON) else t for n, t in columns.items()}
    source = rows_as_table(dialect, texts)
    wanted = [
        cast(source.c[name], JSON)
        if isinstance(type_, JSON) and dialect == "postgresql"
        else source.c[name]
        for name, type_ in columns.items()
    ]
    # Without a condition, SQLite would take `ON CONFLICT` for that of a join.
    rows = select(*wanted).where(true())
    return insert_into(dialect, model).from_select(list(columns), rows)


def last_insert(
    model: type[Base], names: tuple[str, ...], row: Sequence[Any]
) -> LastStatement | None:
    """Return the statement that inserts a row on PostgreSQL at the end of a transaction.

    Pass JSON values as text. None if a value cannot be sent as it is.
    """
    values = [None if value is None else str(value).encode() for value in row]
    if any(b"\0" in value for value in values if value is not None):
        return None
    return LastStatement(_insert_row(model, names), values)


@cache
def _insert_row(model: type[Base], names: tuple[str, ...]) -> bytes:
    table, columns = model.__tablename__, ", ".join(names)
    places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    return f"INSERT INTO {table} ({columns}) VALUES ({places})".encode()  # noqa: S608 - our own names


class RowsUpTo(NamedTuple):
    """The first rows of a page, and how many characters they have together."""

    rows: list[Any]
    characters: int


def select_up_to(page: FromClause, texts: Sequence[str], *order: Any) -> Any:
    """Select the first rows of a page, for `rows_up_to`.

    `texts` are the columns that count, besides `ROW_CHARACTERS` for each row.
    """
    lengths = [func.coalesce(func.length(cast(page.c[name], String())), 0) for name in texts]
    row = sum(lengths, literal(ROW_CHARACTERS))
    total = func.sum(row).over(order_by=order, rows=(None, 0))
    sized = select(*page.c, total.label("characters"), (total - row).label("before")).subquery()
    shown = [column for column in sized.c if column.name != "before"]
    return (
        select(*shown)
        .where(sized.c.before < bindparam("most", type_=BigInteger()))
        .order_by(sized.c.characters)
    )


def rows_up_to(
    connection: Connection, statement: Any, parameters: Mapping[str, Any], most: int
) -> RowsUpTo:
    """Run a statement of `select_up_to`; return rows until they have `most` characters.

    The last row may exceed them, so that a page is never empty only because its first row is long.
    If fewer characters are returned, the page is complete. Each row has one more column at the end.
    """
    rows = connection.execute(statement, {**parameters, "most": most}).all()
    return RowsUpTo(list(rows), rows[-1].characters if rows else 0)


@cache
def select_among(dialect: str, of: Any, *others: Any) -> Any:
    """Select columns of the rows whose first column has one of the values from `list_parameter`."""
    return select(of, *others).where(is_among(dialect, of))
