"""Work out what a batch changed, and which requests undo that. Pure functions, no SQL.

The undo counts at the last moment of a pair in the batch plus 1 µs. If the batch changed each pair
at most once, each change is undone alone. Otherwise the changes of a pair are read together, and
the last one decides, with what was there before it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

from producer.fields import MAX_COURSES
from producer.schemas import Action
from worker.enrollment.derived.entries import FreshRequests, unpack_all
from worker.models import Pair
from worker.moments import STEP
from worker.undo.values import Change, Restored, Reversal


class Ended(NamedTuple):
    """A past enrollment of a pair."""

    ended_at: datetime
    enrolled_at: datetime
    data_set: int | None


def changes_of(row: Any) -> Iterator[Change]:
    """Yield what the request of a stored result changed."""
    for course in row.dropped or ():
        if course not in (row.not_enrolled or ()):
            yield Change((row.student_id, course), Action.DROP, row.counts_at, row.request_id)
    for course in row.enrolled:
        if course not in row.already:
            yield Change((row.student_id, course), Action.ENROLL, row.counts_at, row.request_id)


def pairs_named_in(row: Any) -> Iterator[Pair]:
    """Yield the pairs that a result names, whatever became of them."""
    superseded = (course for course, *_ in row.superseded or ())
    for course in chain(row.enrolled, row.dropped or (), superseded):
        yield row.student_id, course


def reverse_fresh(fresh: FreshRequests, counts_at: datetime) -> list[Reversal]:
    """Return the requests that undo derived results: each opened all its pairs."""
    return [Reversal(entry.student, (), entry.courses, counts_at) for _, entry in unpack_all(fresh)]


def reverse_alone(rows: Iterable[Any]) -> list[Reversal]:
    """Return the requests that undo stored results one by one."""
    reversals = []
    for row in rows:
        changes = list(changes_of(row))
        enrolled, dropped = (
            [change.pair[1] for change in changes if change.action is action]
            for action in (Action.DROP, Action.ENROLL)
        )
        reversals.append(Reversal(row.student_id, enrolled, dropped, row.counts_at + STEP))
    return reversals


def by_pair(changes: Iterable[Change]) -> dict[Pair, list[Change]]:
    """Return the changes of each pair, in the order in which they count."""
    pairs: dict[Pair, list[Change]] = defaultdict(list)
    for change in changes:
        pairs[change.pair].append(change)
    for listed in pairs.values():
        listed.sort(key=_order)
    return pairs


def _order(change: Change) -> tuple[datetime, bool, str]:
    return change.moment, change.action is Action.ENROLL, change.request_id


def net_change(
    changes: Sequence[Change], past: Sequence[Ended]
) -> tuple[Action | None, Ended | None]:
    """Return the action that undoes all changes of a pair, and the enrollment that it restores.

    `past` are the enrollments of the pair that have ended, the earliest end first. The changes of
    the batch are followed back as long as nothing else changed the pair between two of them.
    """
    ends = {each.ended_at: each for each in past}
    position = len(changes) - 1
    while True:
        change = changes[position]
        earlier = changes[position - 1] if position else None
        if change.action is Action.DROP:
            ended = ends.get(change.moment)
            began = ended.enrolled_at if ended else None
            if earlier is None or earlier.moment != began:
                return Action.ENROLL, ended
        else:
            before = [each for each in past if each.ended_at <= change.moment]
            end = before[-1].ended_at if before else None
            if earlier is None or earlier.moment != end or earlier.action is Action.ENROLL:
                was_open = changes[-1].action is Action.ENROLL
                return (Action.DROP if was_open else None), None
        position -= 1


def group(
    actions: Mapping[Pair, tuple[Action, datetime]],
) -> list[Reversal]:
    """Return requests for the actions of pairs: one for each student and moment, if possible."""
    courses: dict[tuple[int, datetime], dict[Action, list[int]]] = {}
    for (student, course), (action, moment) in sorted(actions.items()):
        lists = courses.setdefault((student, moment), {each: [] for each in Action})
        lists[action].append(course)
    return [
        Reversal(student, *part, moment)
        for (student, moment), lists in courses.items()
        for part in _parts(lists[Action.ENROLL], lists[Action.DROP])
    ]


def _parts(
    enrolled: Sequence[int], dropped: Sequence[int]
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Divide the courses of a request so that each part has as many as a request may have."""
    if len(enrolled) + len(dropped) <= MAX_COURSES:
        yield enrolled, dropped
        return
    for start in range(0, len(enrolled), MAX_COURSES):
        yield enrolled[start : start + MAX_COURSES], ()
    for start in range(0, len(dropped), MAX_COURSES):
        yield (), dropped[start : start + MAX_COURSES]


def restored_alone(
    reversals: Iterable[Reversal], owners: Mapping[tuple[Pair, datetime], int | None]
) -> list[Restored]:
    """Return the pairs that requests enroll again, each with the owner that it had."""
    restored = []
    for reversal in reversals:
        ended_at = reversal.counts_at - STEP
        for course in reversal.enrolled:
            pair = (reversal.student, course)
            owner = owners.get((pair, ended_at))
            restored.append(Restored(pair, owner, ended_at, reversal.counts_at))
    return restored
