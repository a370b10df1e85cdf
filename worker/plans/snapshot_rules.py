"""Refuse what a snapshot must not be: pure functions, with a sentence for the submitter."""

from datetime import datetime
from typing import Any

from producer.contract.chunks import CheckedColumns, Chunk, courses_of
from producer.contract.printable import moment_text, shell_argument
from producer.schemas import Action, Kind
from worker.moments import Reading

_NOTHING_APPLIED = "Nothing was applied."


def problem_of_chunk(kind: Kind, chunk: Chunk) -> str | None:
    """Return why a chunk cannot be part of a snapshot, and what to do; None if it can."""
    if kind is not Kind.ENROLLMENTS:
        return None
    if chunk.data_set is None:
        return (
            "A snapshot must name its data set. Submit it again with the name of the data set."
            f" {_NOTHING_APPLIED}"
        )
    if chunk.ordered or _may_drop(chunk):
        return (
            "A snapshot lists enrollments only, and this one has drops or an action for each line."
            " Leave them out: what a snapshot does not name is dropped anyway. A list of actions"
            f" cannot be a snapshot; submit it as an ordinary file. {_NOTHING_APPLIED}"
        )
    return None


def _may_drop(chunk: Chunk) -> bool:
    columns = getattr(chunk, "requests", None)
    if isinstance(columns, CheckedColumns):
        return columns.action is Action.DROP
    return any(courses_of(record, Action.DROP) for record in chunk.records_in_order)


def problem_of_moment(sent: datetime | None, reading: Reading) -> str | None:
    """Return why a snapshot cannot have this moment; None if it can.

    `sent` is the one in the message, and `reading` what is known of the clock of Redis.
    """
    if sent is None or reading.may_show(sent):
        return None
    return (
        f"The moment of the snapshot, {moment_text(sent)}, lies ahead of the clock of Redis, which"
        f" says {moment_text(reading.now)}: it would win against everything that is submitted until"
        f" then. Submit it again with the time at which the file was true. {_NOTHING_APPLIED}"
    )


def problem_of_data_set(name: str, data_set: Any | None) -> str | None:
    """Return why there can be no snapshot of a data set, and what to do; None if there can.

    `data_set` is its row, None if it does not exist.
    """
    if data_set is not None and data_set.snapshots:
        return None
    return (
        f"The data set {name} has not been created for snapshots. Check the name; if it is right,"
        f" ask the operator to run `enroll data-sets create {shell_argument(name)}`, then submit"
        f" the snapshot under another batch id. {_NOTHING_APPLIED}"
    )


def problem_of_age(name: str, moment: datetime, swept_at: datetime | None) -> str | None:
    """Return why a snapshot is too old to be applied; None if it is not.

    `swept_at` is the moment of the last snapshot of the data set that began to be applied.
    """
    if swept_at is None or moment > swept_at:
        return None
    return (
        f"The snapshot counts at {moment_text(moment)}, but a newer one of the data set {name}, of"
        f" {moment_text(swept_at)}, has already been applied, or is being applied. Submit the"
        " newest file."
    )
