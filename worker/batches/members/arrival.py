"""Decide how much of a plan has arrived, and say what it waits for: pure functions."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from producer.contract.printable import shell_argument
from worker.batches.state import (
    STALLED_SECONDS,
    DeadChunks,
    advice_on_conflicts,
    advice_on_failures,
)

_RESUME = "submit it again under the same batch id (`enroll submit --resume` does that)"


def all_chunks_arrived(members: Sequence[Any]) -> bool:
    """Return whether every batch of a plan has all its chunks, and these belong together."""
    return all(has_all_chunks(member) and not is_mixed(member) for member in members)


def has_all_chunks(member: Any) -> bool:
    """Return whether a batch has all its chunks."""
    return member.chunks is not None and member.staged >= member.chunks


def is_mixed(member: Any) -> bool:
    """Return whether chunks of two submissions fill the numbers of one batch.

    `rows_through` is null if the client does not count the rows before each chunk; it is then
    taken at its word.
    """
    if not has_all_chunks(member) or member.rows_through is None:
        return False
    return bool(member.rows_through != member.rows)


def quiet_seconds(members: Sequence[Any], now: datetime) -> float:
    """Return how many seconds ago the newest chunk of a plan arrived."""
    newest = max(member.staged_at for member in members if member.staged_at is not None)
    seconds: float = (now - newest).total_seconds()
    return seconds


def advice_on_missing(members: Sequence[Any], now: datetime) -> str | None:
    """Return what to do about chunks that do not arrive; None if they still may, or all did."""
    for member in members:
        if is_mixed(member):
            return (
                f"The chunks of the batch {member.batch_id} do not belong together: two different"
                " submissions used this batch id. Submit the right file again under another one."
            )
    missing = [member.batch_id for member in members if not has_all_chunks(member)]
    if not missing or quiet_seconds(members, now) < STALLED_SECONDS:
        return None
    return (
        f"Chunks of {', '.join(missing)} are missing, and nothing has arrived for"
        f" {STALLED_SECONDS:.0f} s. Nothing is planned or applied before all have arrived:"
        f" {_RESUME}."
    )


def advice_on_arrival(
    members: Sequence[Any], dead_chunks: Iterable[DeadChunks], now: datetime
) -> str | None:
    """Return what to do about chunks that do not arrive, and about those that are dead letters."""
    parts: list[str | None] = []
    for dead in dead_chunks:
        parts += [advice_on_failures(dead) if dead.failed else None, advice_on_conflicts(dead)]
    return " ".join(filter(None, [*parts, advice_on_missing(members, now)])) or None


def advice_on_waiting(waits_for: str | None, data_set: str | None) -> str | None:
    """Return what a snapshot waits for that another plan comes before; None if none does."""
    if waits_for is None:
        return None
    return (
        f"It waits until {waits_for}, another snapshot of the data set {data_set}, is applied, and"
        f" then continues by itself. `enroll plan {shell_argument(waits_for)}` shows whether that"
        " one continues."
    )
