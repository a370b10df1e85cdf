"""Let an undo count after what was undone since: that counts for nothing any more.

A batch opened a pair, a later one dropped it, and the undo of that one has enrolled it again since
a later moment. The undo of the first batch would count before that, and lose against it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from sqlalchemy import Connection

from producer.schemas import Action
from worker.database.enrollment_lock import lock_enrollments
from worker.intervals.repository import find_states
from worker.intervals.undone.repository import find_undone
from worker.intervals.values import PairState
from worker.models import Pair
from worker.moments import STEP
from worker.undo.changes import group
from worker.undo.events.repository import find_events
from worker.undo.values import PageUndo, Reversal


def count_after_undone(connection: Connection, page: PageUndo) -> PageUndo:
    """Return what undoes a page, so that it counts later than all batches that were undone since.

    A pair of which another request has decided since is left as it is. Takes the lock on
    enrollments alone. Raises DBAPIError, EnrollmentsBusy.
    """
    lock_enrollments(connection, exclusive=True)
    moments = {pair: moment for pair, _, moment in _actions(page.reversals)}
    states = find_states(connection, moments)
    changed = {pair: _changed_at(states[pair]) for pair in moments}
    later = {p: at for p, at in changed.items() if at is not None and at >= moments[p]}
    undisturbed = pairs_left_alone(connection, {pair: moments[pair] for pair in later})
    moved = {p: at + STEP for p, at in later.items() if p in undisturbed and at is not None}
    if not moved:
        return page
    reversals = list(_moved(page.reversals, moved))
    restored = [r._replace(counts_at=moved.get(r.pair, r.counts_at)) for r in page.restored]
    return PageUndo(reversals, restored)


def pairs_left_alone(connection: Connection, since: Mapping[Pair, datetime]) -> set[Pair]:
    """Return those of these pairs that no request has named which counts since a moment of each.

    Requests of batches that were undone do not count.
    """
    if not since:
        return set()
    events = find_events(connection, since.keys(), min(since.values()))
    undone = find_undone(connection, {event.batch_id for event in events})
    return set(since) - {
        event.pair
        for event in events
        if event.batch_id not in undone and event.moment >= since[event.pair]
    }


def _changed_at(state: PairState) -> datetime | None:
    """Return when a pair was enrolled or dropped last."""
    return max((at for at in (state.enrolled_at, state.ended_at) if at), default=None)


def _actions(reversals: Iterable[Reversal]) -> Iterator[tuple[Pair, Action, datetime]]:
    for reversal in reversals:
        for action, courses in (
            (Action.ENROLL, reversal.enrolled),
            (Action.DROP, reversal.dropped),
        ):
            for course in courses:
                yield (reversal.student, course), action, reversal.counts_at


def _moved(reversals: Iterable[Reversal], moved: Mapping[Pair, datetime]) -> Iterator[Reversal]:
    """Yield requests again, so that some pairs count later."""
    divided: dict[Pair, tuple[Action, datetime]] = {}
    by_student: dict[int, set[int]] = defaultdict(set)
    for student, course in moved:
        by_student[student].add(course)
    for reversal in reversals:
        if by_student[reversal.student].isdisjoint((*reversal.enrolled, *reversal.dropped)):
            yield reversal
            continue
        for pair, action, moment in _actions([reversal]):
            divided[pair] = (action, moved.get(pair, moment))
    yield from group(divided)
