"""Check the sequences that number our rows: a restore may leave them out, or behind the rows."""

from worker.database.ask import Ask
from worker.database.constraints import BrokenPart
from worker.models import Base

NUMBERED = [
    (table.name, column.name)
    for table in Base.metadata.sorted_tables
    if (column := table.autoincrement_column) is not None
]
"""The tables and columns that PostgreSQL numbers with a sequence."""

_FIND = " UNION ALL ".join(
    f"SELECT '{table}', '{column}', max({column}), pg_get_serial_sequence('{table}', '{column}'),"  # noqa: S608 - our own names
    " (SELECT count(*) FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum"
    f" WHERE adrelid = '{table}'::regclass AND attname = '{column}') FROM {table}"
    for table, column in NUMBERED
)

_BEHIND = f"""
    SELECT table_name, column_name,
      CASE WHEN sequence IS NULL OR defaults = 0 THEN 'missing'
           WHEN has_sequence_privilege(sequence, 'USAGE, SELECT')
                AND COALESCE(pg_sequence_last_value(sequence::regclass), 0) < newest THEN 'behind'
      END
    FROM ({_FIND}) AS numbered (table_name, column_name, newest, sequence, defaults)
"""  # noqa: S608 - made of our own names


def broken_sequences(ask: Ask, dialect: str) -> list[BrokenPart]:
    """Return what is wrong with the sequences of our tables, which must exist.

    SQLite numbers rows without one. Raises what `ask` raises.
    """
    if dialect != "postgresql":
        return []
    broken = []
    for table, column, fault in ask(_BEHIND):
        if fault == "missing":
            problem = f"the column {column} of {table} has no sequence"
        elif fault == "behind":
            problem = f"the sequence of {table}.{column} is behind its rows"
        else:
            continue
        broken.append(BrokenPart(problem, _repair(table, column, fault)))
    return broken


def _repair(table: str, column: str, fault: str) -> str:
    name = f"{table}_{column}_seq"
    create = (
        f"CREATE SEQUENCE IF NOT EXISTS {name} OWNED BY {table}.{column};"
        f" ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT nextval('{name}'); "
    )
    advance = (
        f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'),"  # noqa: S608 - our own names
        f" COALESCE((SELECT max({column}) FROM {table}), 1));"
    )
    return (create if fault == "missing" else "") + advance
