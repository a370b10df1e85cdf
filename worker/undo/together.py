"""Read together all that a batch did to some pairs, if it may have changed a pair more than once.

Operation lists can do that, and batches with both drops and enrolls.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from producer.contract.chunks import line_request_id
from producer.schemas import Action
from worker.enrollment.derived.repository import find_derived
from worker.models import Pair
from worker.moments import STEP
from worker.undo.changes import (
    Ended,
    by_pair,
    changes_of,
    group,
    net_change,
    pairs_named_in,
)
from worker.undo.repository import find_mentions, find_past, find_placed, first_applied
from worker.undo.values import Change, PageUndo, Restored, UndoneBatch

_MARGIN: Final = timedelta(hours=1)
"""By how much the clock of a database may have been set back while the batch was applied."""


def read_together(
    connection: Connection, batch: UndoneBatch, own_ids: Collection[str], students: Collection[int]
) -> PageUndo:
    """Return what undoes the pairs of some students whose first change is of one of these requests.

    So each pair is undone once, at its last moment in the batch.
    """
    changes, last = _everything_about(connection, batch, students)
    pairs = {
        pair: listed for pair, listed in by_pair(changes).items() if listed[0].request_id in own_ids
    }
    past = _past_of(connection, pairs)
    actions: dict[Pair, tuple[Action, datetime]] = {}
    restored = []
    for pair, listed in pairs.items():
        action, ended = net_change(listed, past[pair])
        counts_at = last[pair] + STEP
        if action is None:
            continue
        if action is Action.ENROLL:
            owner = ended.data_set if ended else None
            is_enrolled = listed[-1].action is Action.ENROLL
            if is_enrolled and owner is None and not batch.has_data_set:
                continue
            since = ended.ended_at if ended else listed[0].moment
            restored.append(Restored(pair, owner, since, counts_at))
        actions[pair] = (action, counts_at)
    return PageUndo(group(actions), restored)


def _everything_about(
    connection: Connection, batch: UndoneBatch, students: Collection[int]
) -> tuple[list[Change], dict[Pair, datetime]]:
    """Return what a batch changed of some students, and when it last named each pair."""
    since = (first_applied(connection, batch.id) or batch.moment) - _MARGIN
    changes: list[Change] = []
    last: dict[Pair, datetime] = {}
    for row in find_mentions(connection, batch.id, students, since):
        changes += changes_of(row)
        for pair in pairs_named_in(row):
            last[pair] = max(row.counts_at, last.get(pair, row.counts_at))
    for change in derived_changes(connection, batch.id, batch.moment, students):
        changes.append(change)
        last[change.pair] = max(change.moment, last.get(change.pair, change.moment))
    return changes, last


def derived_changes(
    connection: Connection, batch_id: str, moment: datetime, students: Collection[int]
) -> Iterator[Change]:
    """Yield the pairs of some students that derived results of a batch have opened.

    `moment` is that at which the batch counts.
    """
    placed = {
        (row.student_id, row.course_id): line_request_id(batch_id, row.chunk, row.position)
        for row in find_placed(connection, batch_id, moment, students)
    }
    # Stored results name a place, too, and two batches may have one moment: the derived results
    # tell which of them opened a pair.
    results = {result.request_id: result for result in find_derived(connection, placed.values())}
    for (student, course), request_id in placed.items():
        result = results.get(request_id)
        if result and result.student_id == student and course in result.enrolled_ids:
            yield Change((student, course), Action.ENROLL, moment, request_id)


def _past_of(connection: Connection, pairs: dict[Pair, list[Change]]) -> dict[Pair, list[Ended]]:
    past: dict[Pair, list[Ended]] = defaultdict(list)
    if pairs:
        since = min(listed[0].moment for listed in pairs.values())
        for row in find_past(connection, pairs, since):
            ended = Ended(row.ended_at, row.enrolled_at, row.data_set)
            past[row.student_id, row.course_id].append(ended)
    return past
