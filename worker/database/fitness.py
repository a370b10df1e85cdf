"""Decide whether a database is fit for workers: check its encoding, keys and sequences."""

from collections.abc import Sequence

from worker.database.ask import Ask
from worker.database.constraints import BrokenPart, broken_keys
from worker.database.encoding import wrong_encoding
from worker.database.refusal import Refusal
from worker.database.sequences import broken_sequences

RUNBOOK = "docs/operations/runbook.md"


def unusable(ask: Ask, dialect: str) -> Refusal | None:
    """Return why no worker must use a database, or None.

    Only the catalog is read, so that a lock on one of our tables does not delay the check. Raises
    what `ask` raises.
    """
    return wrong_encoding(ask, dialect) or _refusal(broken_keys(ask, dialect), dialect)


def unusable_for_long(ask: Ask, dialect: str) -> Refusal | None:
    """Return why no worker should start with a database; also compare sequences with rows.

    Raises what `ask` raises.
    """
    return wrong_encoding(ask, dialect) or _refusal(broken_parts(ask, dialect), dialect)


def _refusal(broken: Sequence[BrokenPart], dialect: str) -> Refusal | None:
    if not broken:
        return None
    return Refusal(problems(broken), repair(broken, dialect))


def broken_parts(ask: Ask, dialect: str) -> list[BrokenPart]:
    """Return the keys and sequences that are missing or do nothing. Raises what `ask` raises."""
    broken = broken_keys(ask, dialect)
    return broken if _lacks_table(broken) else broken + broken_sequences(ask, dialect)


def problems(broken: Sequence[BrokenPart]) -> str:
    """Return what is broken, as a part of a sentence."""
    parts = "; ".join(part.problem for part in broken)
    return f"the database cannot protect its rows from duplicates and dangling references: {parts}"


def repair(broken: Sequence[BrokenPart], dialect: str) -> str:
    """Return what to do about it, in sentences."""
    if _lacks_table(broken):
        return (
            "Run `python -m worker.migrate`; if that does nothing, rename the table back, grant"
            " USAGE on its schema, or restore the database from a backup."
        )
    if dialect == "sqlite":  # It cannot add a key to a table.
        return f"Stop the workers, and copy the rows into a new database as {RUNBOOK} describes."
    statements = " ".join(part.statement for part in broken if part.statement)
    return (
        f"Stop the workers, and run as the owner of the tables: {statements} If rows break a key,"
        f" {RUNBOOK} says how to find them."
    )


def _lacks_table(broken: Sequence[BrokenPart]) -> bool:
    return any(part.problem.startswith("the table ") for part in broken)
