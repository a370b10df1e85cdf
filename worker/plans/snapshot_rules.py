"""Refuse what a snapshot must not be: pure functions, with a sentence for the submitter."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from producer.contract.chunks import CheckedColumns, Chunk, courses_of
from producer.contract.printable import moment_text, shell_argument
from producer.schemas import Action, Kind
from worker.moments import Reading

_NOTHING_APPLIED = "Nothing of it was applied."


def problem_of_chunk(kind: Kind, chunk: Chunk) -> str | None:
    """Return why a chunk cannot be part of a snapshot, and what to do; None if it can."""
    if kind is not Kind.ENROLLMENTS:
        return None
    if chunk.data_set is None:
        return (
            "A snapshot must name the data set of which it is the whole truth. Submit it again with"
            f" the name of the data set. {_NOTHING_APPLIED}"
        )
    if chunk.ordered or _may_drop(chunk):
        return (
            "A snapshot holds enrollments only, and this one has drops or an action for each line."
            " Leave them out: what a snapshot does not name is dropped. To submit a list of"
            f" actions, do it without a snapshot. {_NOTHING_APPLIED}"
        )
    return None


def _may_drop(chunk: Chunk) -> bool:
    columns = getattr(chunk, "requests", None)
    if isinstance(columns, CheckedColumns):
        return columns.action is Action.DROP
    return any(_drops(record) for record in chunk.records_in_order)


def _drops(record: Any) -> Sequence[Any]:
    return courses_of(record, Action.DROP)


def problem_of_moment(sent: datetime | None, reading: Reading) -> str | None:
    """Return why a snapshot cannot have this moment; None if it can.

    `sent` is the one in the message, and `reading` what is known of the clock of Redis.
    """
    if sent is None or reading.may_show(sent):
        return None
    return (
        f"The moment of the snapshot, {moment_text(sent)}, lies ahead of the clock of Redis, which"
        f" says {moment_text(reading.now)}: it would outvote what is submitted until then. Submit"
        f" it again with the time at which the file was true. {_NOTHING_APPLIED}"
    )


def problem_of_data_set(name: str, data_set: Any | None) -> str | None:
    """Return why there can be no snapshot of a data set, and what to do; None if there can.

    `data_set` is its row, None if it does not exist.
    """
    if data_set is not None and data_set.snapshots:
        return None
    return (
        f"No operator has created the data set {name} for snapshots. Check the name; if it is"
        f" right, ask the operator to run `enroll data-sets create {shell_argument(name)}`, then"
        f" submit the snapshot under another batch id. {_NOTHING_APPLIED}"
    )


def problem_of_age(name: str, moment: datetime, swept_at: datetime | None) -> str | None:
    """Return why a snapshot is too old to be applied; None if it is not.

    `swept_at` is the moment of the last snapshot of the data set that began to be applied.
    """
    if swept_at is None or moment > swept_at:
        return None
    return (
        f"The snapshot counts at {moment_text(moment)}, and a newer one of the data set {name}, of"
        f" {moment_text(swept_at)}, has already been applied, or is being applied. Submit the"
        " newest file."
    )
