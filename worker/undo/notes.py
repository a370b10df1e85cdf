"""Restore the notes about enrollments that an undo opens again. Knows no SQL.

A drop removes the notes that other data sets name a pair. The results of their requests still say
so: those that confirmed the pair while the enrollment lasted.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from worker.data_sets.repository import add_notes, find_swept
from worker.models import Pair
from worker.undo.repository import find_namings
from worker.undo.values import Restored


def restore_notes(connection: Connection, restored: Sequence[Restored]) -> None:
    """Note again which other data sets name the pairs that are enrolled again."""
    ended = {each.pair: each.ended_at for each in restored if each.data_set is not None}
    if not ended:
        return
    named: dict[int, dict[Pair, datetime]] = defaultdict(dict)
    for row in find_namings(connection, {student for student, _ in ended}):
        for course in row.already:
            pair = (row.student_id, course)
            if pair in ended and row.counts_at < ended[pair]:
                latest = named[row.data_set].get(pair, row.counts_at)
                named[row.data_set][pair] = max(latest, row.counts_at)
    for data_set, pairs in _still_valid(connection, named).items():
        add_notes(connection, data_set, pairs)


def _still_valid(
    connection: Connection, named: dict[int, dict[Pair, datetime]]
) -> dict[int, dict[Pair, datetime]]:
    """Leave out what a later snapshot of its data set does not name any more."""
    swept = find_swept(connection, named.keys()) if named else {}
    return {
        data_set: {
            pair: at for pair, at in pairs.items() if not _is_outdated(at, swept.get(data_set))
        }
        for data_set, pairs in named.items()
    }


def _is_outdated(named_at: datetime, swept_at: datetime | None) -> bool:
    return swept_at is not None and named_at < swept_at
