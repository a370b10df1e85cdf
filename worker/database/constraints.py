"""Check the keys without which rows could be stored twice or refer to nothing.

A database can lose such a key in a restore, or have it without enforcing it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Constraint, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint

from worker.database.ask import Ask
from worker.models import Base

PRIMARY, UNIQUE, FOREIGN = "primary key", "unique key", "foreign key"


class Key(NamedTuple):
    """A primary, unique or foreign key; a foreign key has a `target`: the table it refers to."""

    kind: str
    table: str
    columns: tuple[str, ...]
    target: str | None = None
    target_columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the key in words."""
        return f"the {self.kind} of {self.table} ({', '.join(self.columns)})"

    @property
    def rule(self) -> tuple[object, ...]:
        """Return what the key enforces; the order of its columns does not matter."""
        pairs = zip(self.columns, self.target_columns or self.columns, strict=True)
        return (self.kind, self.table, frozenset(pairs), self.target)


class BrokenPart(NamedTuple):
    """A key or other part that is missing or not enforced, and the SQL that repairs it."""

    problem: str
    statement: str | None


def broken_keys(ask: Ask, dialect: str) -> list[BrokenPart]:
    """Return the keys of our tables that are missing or not enforced, in the order of repair.

    Raises what `ask` raises.
    """
    find = _find_in_postgresql if dialect == "postgresql" else _find_in_sqlite
    tables, weaknesses = find(ask)
    missing = [name for name in Base.metadata.tables if name not in tables]
    broken = [BrokenPart(f"the table {name} is missing", None) for name in missing]
    for key, name in required_keys():
        weakness = weaknesses.get(key.rule, "is missing")
        if weakness is None or key.table in missing or key.target in missing:
            continue
        statement = _repair(key, name, weakness) if dialect == "postgresql" else None
        broken.append(BrokenPart(f"{key} {weakness}", statement))
    return broken


def required_keys() -> Iterator[tuple[Key, str]]:
    """Yield the keys of all tables with the names of their constraints, foreign keys last."""
    constraints = [c for table in Base.metadata.sorted_tables for c in table.constraints]
    for constraint in sorted(constraints, key=lambda c: isinstance(c, ForeignKeyConstraint)):
        key = _key(constraint)
        if key is not None:
            yield key, str(constraint.name)


def _key(constraint: Constraint) -> Key | None:
    table = str(constraint.table.name)
    if isinstance(constraint, ForeignKeyConstraint):
        target = constraint.referred_table
        target_columns = tuple(element.column.name for element in constraint.elements)
        return Key(FOREIGN, table, tuple(constraint.column_keys), target.name, target_columns)
    if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
        is_primary = isinstance(constraint, PrimaryKeyConstraint)
        columns = tuple(column.name for column in constraint.columns)
        return Key(PRIMARY if is_primary else UNIQUE, table, columns)
    return None


Found = tuple[set[str], dict[tuple[object, ...], str | None]]
"""The tables, and the weakness of each key by its rule; None if the key is enforced."""

_KINDS = {"p": PRIMARY, "u": UNIQUE, "f": FOREIGN}

_OURS = ", ".join(f"'{name}'" for name in Base.metadata.tables)

_POSTGRESQL_TABLES = f"""
    SELECT relname FROM pg_class
    WHERE relname IN ({_OURS}) AND relkind IN ('r', 'p') AND pg_table_is_visible(oid)
"""  # noqa: S608 - the names of our own tables

_INVALID_INDEX = "has an invalid index"

# `conenforced` exists since PostgreSQL 18.
_POSTGRESQL_KEYS = f"""
    SELECT c.contype::text, t.relname, target.relname,
      ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number
            ORDER BY k.place),
      ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.number
            ORDER BY k.place),
      CASE
        WHEN NOT COALESCE((to_jsonb(c) ->> 'conenforced')::boolean, true) THEN 'is not enforced'
        WHEN NOT c.convalidated THEN 'is not valid: rows from before it was added may break it'
        WHEN c.contype <> 'f' AND NOT (i.indisvalid AND i.indisready AND i.indislive)
          THEN '{_INVALID_INDEX}'
        WHEN EXISTS (SELECT 1 FROM pg_trigger WHERE tgconstraint = c.oid
                     AND tgenabled NOT IN ('O', 'A')) THEN 'has disabled triggers'
      END
    FROM pg_constraint c
    JOIN pg_class t ON t.oid = c.conrelid
    LEFT JOIN pg_class target ON target.oid = c.confrelid
    LEFT JOIN pg_index i ON i.indexrelid = c.conindid
    WHERE t.relname IN ({_OURS}) AND c.contype IN ('p', 'u', 'f')
      AND pg_table_is_visible(c.conrelid)
"""  # noqa: S608 - the names of our own tables


# Our connections avoid sequential scans, which makes every plan for the small catalogs look so
# expensive that PostgreSQL would JIT-compile it, which takes many times as long as running it.
_PLAN_FOR_THE_CATALOG = (
    "SELECT set_config('jit', 'off', true), set_config('enable_seqscan', 'on', true)"
)


def _find_in_postgresql(ask: Ask) -> Found:
    ask(_PLAN_FOR_THE_CATALOG)
    tables = {name for (name,) in ask(_POSTGRESQL_TABLES)}
    keys: dict[tuple[object, ...], str | None] = {}
    for kind, table, target, columns, target_columns, weakness in ask(_POSTGRESQL_KEYS):
        key = Key(_KINDS[kind], table, tuple(columns), target, tuple(target_columns))
        # Of two constraints with the same rule, one that is enforced is enough.
        keys[key.rule] = weakness and keys.get(key.rule, weakness)
    return tables, keys


_SQLITE_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"

_SQLITE_KEYS = """
    SELECT 'primary key', t.name, NULL, c.name, NULL, 'primary'
    FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table' AND c.pk > 0
    UNION ALL
    SELECT 'unique key', t.name, NULL, c.name, NULL, i.name
    FROM sqlite_master t, pragma_index_list(t.name) i, pragma_index_info(i.name) c
    WHERE t.type = 'table' AND i."unique" AND NOT i.partial
    UNION ALL
    SELECT 'foreign key', t.name, f."table", f."from", COALESCE(f."to", f."from"), f.id
    FROM sqlite_master t, pragma_foreign_key_list(t.name) f WHERE t.type = 'table'
"""


def _find_in_sqlite(ask: Ask) -> Found:
    tables = {name for (name,) in ask(_SQLITE_TABLES)}
    columns: dict[tuple[Any, ...], list[tuple[str, str | None]]] = {}
    for kind, table, target, column, target_column, group in ask(_SQLITE_KEYS):
        columns.setdefault((kind, table, target, group), []).append((column, target_column))
    keys: dict[tuple[object, ...], str | None] = {}
    for (kind, table, target, _), pairs in columns.items():
        own, others = (tuple(names) for names in zip(*pairs, strict=True))
        key = Key(kind, table, own, target, others if target else ())
        keys[key.rule] = None
    return tables, keys


def _repair(key: Key, name: str, weakness: str) -> str:
    """Return how to add a key to a table of PostgreSQL, or to replace one that is not enforced."""
    if weakness == _INVALID_INDEX:
        return f"REINDEX TABLE {key.table};"
    columns = ", ".join(key.columns)
    if key.target:
        refers = f"REFERENCES {key.target} ({', '.join(key.target_columns)})"
        clause = f"FOREIGN KEY ({columns}) {refers}"
    else:
        clause = f"{'PRIMARY KEY' if key.kind == PRIMARY else 'UNIQUE'} ({columns})"
    return (
        f"ALTER TABLE {key.table} DROP CONSTRAINT IF EXISTS {name}, ADD CONSTRAINT {name} {clause};"
    )
