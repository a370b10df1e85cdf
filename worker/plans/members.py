"""Say how much of a plan has arrived: pure functions on the rows of its members."""

from collections.abc import Sequence
from typing import Any


def all_chunks_arrived(members: Sequence[Any]) -> bool:
    """Return whether every batch of a plan has all its chunks, and these belong together."""
    return all(has_all_chunks(member) and not is_mixed(member) for member in members)


def has_all_chunks(member: Any) -> bool:
    """Return whether a batch has all its chunks."""
    return member.chunks is not None and member.staged >= member.chunks


def is_mixed(member: Any) -> bool:
    """Return whether chunks of two submissions fill the numbers of one batch.

    `rows_through` is null if the publisher does not count the rows before each chunk; it is then
    taken at its word.
    """
    if not has_all_chunks(member) or member.rows_through is None:
        return False
    return bool(member.rows_through != member.rows)
