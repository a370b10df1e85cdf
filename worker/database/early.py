"""Ask PostgreSQL for something together with the start of a transaction, in one round trip."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

Row = Sequence[bytes | None]
"""A row as PostgreSQL sends it: as text."""


class EarlyQuery(NamedTuple):
    """A query that returns one row, with its parameters as text."""

    sql: bytes
    """The first parameter is `$1`."""
    parameters: Sequence[bytes]


_DIALECT: Final[Any] = PGDialect_psycopg()  # type: ignore[no-untyped-call]
_PLACE: Final = re.compile(r"%\((\w+)\)s")


def early_query(statement: Any, parameters: Mapping[str, str | datetime]) -> EarlyQuery | None:
    """Return a statement of SQLAlchemy as a query that can be sent early.

    None if a parameter cannot be sent as it is. The statement is compiled once, so it has to be the
    same object each time.
    """
    sql, defaults = _compiled(statement)
    try:
        values = [_text(parameters.get(name, value)).encode() for name, value in defaults.items()]
    except UnicodeEncodeError:
        return None
    return None if any(b"\0" in value for value in values) else EarlyQuery(sql, values)


def _text(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


@cache
def _compiled(statement: Any) -> tuple[bytes, Mapping[str, Any]]:
    """Return the SQL of a statement, and its parameters in their order, with their own values."""
    compiled = statement.compile(dialect=_DIALECT)
    names: dict[str, int] = {}

    def place(match: re.Match[str]) -> str:
        return f"${names.setdefault(match[1], len(names) + 1)}"

    sql = _PLACE.sub(place, str(compiled)).replace("%%", "%")
    return sql.encode(), {name: compiled.params[name] for name in names}


_PREPARED: Final = "early_queries"
_numbers: Final = count()


def send_early(connection: Connection, server: "PGconn", query: EarlyQuery) -> None:
    """Send a query within a pipeline; it is prepared the first time, because planning takes long.

    What reads the replies calls `forget_prepared` if one of them reports an error.
    """
    prepared = connection.info.setdefault(_PREPARED, {})
    if (name := prepared.get(query.sql)) is None:
        name = prepared[query.sql] = b"early_%d" % next(_numbers)
        server.send_prepare(name, query.sql)
    server.send_query_prepared(name, query.parameters)


def forget_prepared(connection: Connection) -> None:
    """Prepare queries again: after a rollback, the driver removes all prepared statements."""
    if not connection.invalidated:
        connection.info.pop(_PREPARED, None)
