"""Decide the clean requests of a chunk all at once, for speed alone.

The results are exactly those of the rulebook; a property test compares the two.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import chain, compress, repeat
from operator import itemgetter, not_
from typing import NamedTuple

from sqlalchemy import Connection

from producer.contract.chunks import Chunk, line_request_id, line_request_ids
from producer.schemas import Action
from worker.data_sets.repository import (
    find_foreign,
    find_new_and_foreign,
    find_swept,
    note_foreign,
    remove_older_notes,
)
from worker.data_sets.values import Owner
from worker.database.endings import (
    DroppedCourses,
    PreparedDrops,
    end_at_once,
    prepare_drops,
)
from worker.database.sets import COPY_ROWS
from worker.enrollment.clean_requests import CleanRequests
from worker.enrollment.clean_results import add_clean_results
from worker.enrollment.columns import RequestColumns, columns_of_requests, select_existing
from worker.enrollment.derived.entries import FreshRequests, are_short, is_short, pack, pack_all
from worker.enrollment.reasoned import reason_of
from worker.enrollment.repository import delete_results_of_chunk, has_results_of_chunk
from worker.enrollment.values import CleanRequest, Times
from worker.intervals.repository import (
    end_enrollments,
    find_newer_drops,
    find_states,
    has_confirmations,
    keep_drops,
)
from worker.intervals.values import Drop, NewerDrops
from worker.models import Course, Pair, Student
from worker.repository import (
    NO_OWNERS,
    are_some_enrolled,
    find_keys,
    insert_enrollments,
    insert_placed_enrollments,
)


class FoundRequests(NamedTuple):
    """The requests of a chunk that only enroll, or only drop, and name what exists."""

    action: Action
    requests: CleanRequests
    """They name each pair once."""
    rest: Sequence[int]
    """The positions, in the chunk, of the requests that are left to the rulebook."""
    drops: PreparedDrops | None = None
    """Many drops, prepared while other transactions may still enroll."""
    is_stored: bool = False
    """True if results are stored already, as if each of the drops changed something."""


class ShortcutResult(NamedTuple):
    """What the shortcut did, and what it left to the rulebook."""

    action: Action
    requests: int
    """Requests that were decided: all of their courses were enrolled, or dropped."""
    rows: int
    changed: int
    """Rows that were added, or removed."""
    rest: Sequence[int]
    """The positions, in the chunk, of the requests that are left to the rulebook."""
    fresh: FreshRequests | None = None
    """What the ledger is to hold of the requests whose results are not stored."""
    pairs: Sequence[Pair] = ()
    """The pairs that the decided requests name."""


def find_clean_requests(
    connection: Connection, chunk: Chunk, poison: Collection[int], times: Times
) -> FoundRequests:
    """Find the requests of a chunk whose student and courses all exist.

    All requests are left to the rulebook if one of them is poison, both enrolls and drops, has an
    id, a time or a reason of its own or already has a result, or if their order matters. Nothing
    about enrollments is read, so the lock is not needed yet. Many drops are prepared as far as they
    can be: `decide_clean_requests` then has less to do while the lock is held, and no other
    transaction can enroll or drop. Raises DBAPIError.
    """
    nothing = FoundRequests(Action.ENROLL, CleanRequests(), range(len(chunk.row_counts)))
    columns = columns_of_requests(chunk)
    if columns is None or poison or has_results_of_chunk(connection, chunk.batch_id, chunk.number):
        return nothing
    clean, rest, rest_writes = _select_clean(connection, columns)
    if _order_matters(clean, rest_writes=rest_writes):
        return nothing
    found = FoundRequests(columns.action, clean, rest)
    is_large = connection.dialect.name == "postgresql" and len(clean) >= COPY_ROWS
    if columns.action is Action.ENROLL or not is_large:
        return found
    prefix, _ = line_request_ids(chunk.batch_id, chunk.number)
    dropped = [DroppedCourses(str(i), student, c) for i, student, _, c in clean.by_student]
    add_clean_results(connection, Action.DROP, clean.by_student, repeat([]), chunk, times)
    drops = prepare_drops(dropped, prefix, times.batch, reason_of(chunk))
    return found._replace(drops=drops, is_stored=True)


def _select_clean(
    connection: Connection, columns: RequestColumns
) -> tuple[CleanRequests, Sequence[int], bool]:
    """Return the clean requests, the positions of the others, and whether these have rows to write.

    They have if a student and some of the courses exist, and the request is not atomic.
    """
    students = find_keys(connection, Student, columns.student_ids)
    courses = find_keys(connection, Course, chain.from_iterable(columns.course_ids))
    return select_existing(columns, students, courses)


def decide_clean_requests(
    connection: Connection,
    chunk: Chunk,
    clean: FoundRequests,
    times: Times,
    *,
    derives: bool,
    owner: Owner | None = None,
) -> ShortcutResult:
    """Enroll clean requests in all of their courses, or drop them, unless a later request differs.

    All requests are left to the rulebook if they count earlier than what was pruned or than the
    last snapshot of their data set, or if a later request asks for the opposite of one of them.
    With `derives`, the results of fresh requests are not stored, and the caller puts them into the
    ledger. Call this after the lock was taken. Raises DBAPIError.
    """
    action, requests = clean.action, clean.requests
    drops = find_newer_drops(connection, times.batch)
    is_too_old = counts_too_early(connection, drops, times.batch, owner)
    if is_too_old or not requests or is_contradicted(connection, clean, drops, times):
        if clean.is_stored:
            delete_results_of_chunk(connection, chunk.batch_id, chunk.number)
        return ShortcutResult(action, 0, 0, 0, range(len(chunk.row_counts)))
    if action is Action.DROP:
        unchanged = _drop(connection, chunk, clean, times.batch)
        if drops.has_notes:
            remove_older_notes(connection, dict.fromkeys(requests.pairs, times.batch))
    else:
        unchanged = _enroll(connection, chunk, requests, times.batch, owner, derives=derives)
    fresh = None
    if derives and action is Action.ENROLL:
        stored, fresh = _divide(chunk, requests, unchanged)
    else:
        stored = requests.by_student
    if clean.is_stored and unchanged:
        delete_results_of_chunk(connection, chunk.batch_id, chunk.number)
    if unchanged or not clean.is_stored:
        changes_nothing = len(unchanged) == len(requests.courses)
        same = _named_in(stored, unchanged, every=changes_nothing)
        add_clean_results(connection, action, stored, same, chunk, times)
    rows = len(requests.courses)
    changed = rows - len(unchanged)
    pairs = requests.listed_pairs
    return ShortcutResult(action, len(requests), rows, changed, clean.rest, fresh, pairs)


def _enroll(
    connection: Connection,
    chunk: Chunk,
    requests: CleanRequests,
    moment: datetime,
    owner: Owner | None,
    *,
    derives: bool,
) -> set[Pair]:
    """Enroll the pairs of clean requests; return those that were enrolled already."""
    if owner is None:
        return _add(connection, chunk, requests, moment, None, derives=derives)
    if not are_some_enrolled(connection, requests.listed_pairs):
        known = unchanged = _add(connection, chunk, requests, moment, owner, derives=derives)
        foreign: dict[Pair, int | None] = {}
    else:
        # One look says which pairs are new and which ones others own: most files repeat the last.
        new, foreign = find_new_and_foreign(connection, requests.pairs, owner.data_set)
        known = set()
        if new:  # Another transaction may have been faster.
            part = requests.among(new)
            known = _add(connection, chunk, part, moment, owner, derives=derives)
        unchanged = requests.pairs.difference(new) | known
    if known or foreign:
        foreign |= find_foreign(connection, known, owner.data_set)
        note_foreign(connection, owner, foreign, dict.fromkeys(foreign, moment))
    return unchanged


def _add(
    connection: Connection,
    chunk: Chunk,
    requests: CleanRequests,
    moment: datetime,
    owner: Owner | None,
    *,
    derives: bool,
) -> set[Pair]:
    """Write the rows of requests that do not exist; return the pairs of the others."""
    data_set = None if owner is None else owner.data_set
    added: Iterable[Pair]
    if derives:
        rows = insert_placed_enrollments(connection, requests.rows, moment, chunk.number, data_set)
        if len(rows) == len(requests.rows):
            return set()
        added = map(itemgetter(0, 1), rows)
    else:
        owners = NO_OWNERS if data_set is None else dict.fromkeys(requests.pairs, data_set)
        added = insert_enrollments(connection, dict.fromkeys(requests.pairs, moment), owners)
    return requests.pairs.difference(added)


def _divide(
    chunk: Chunk, requests: CleanRequests, unchanged: set[Pair]
) -> tuple[Sequence[CleanRequest], FreshRequests | None]:
    """Return the requests whose results are to be stored, and the fresh ones, packed."""
    count = len(chunk.row_counts)
    if not unchanged and are_short(requests):
        return (), pack_all(requests, count)
    listed = requests.by_student
    if len(unchanged) == len(requests.courses):
        return listed, pack([], count)
    is_fresh = [
        is_short(request) and unchanged.isdisjoint(_pairs_of(request)) for request in listed
    ]
    stored = list(compress(listed, map(not_, is_fresh)))
    return stored, pack(list(compress(listed, is_fresh)), count)


def _pairs_of(request: CleanRequest) -> list[Pair]:
    _, student, _, courses = request
    return [(student, course) for course in courses]


def counts_too_early(
    connection: Connection, drops: NewerDrops, moment: datetime, owner: Owner | None
) -> bool:
    """Return whether requests count before what was pruned, or before their data set's snapshot."""
    if drops.limit is not None and moment < drops.limit:
        return True
    if owner is None:
        return False
    swept = find_swept(connection, [owner.data_set])
    return moment < swept.get(owner.data_set, moment)


def is_contradicted(
    connection: Connection, clean: FoundRequests, drops: NewerDrops, times: Times
) -> bool:
    """Return whether a later request may ask for the opposite of one of these."""
    if _any_dropped(connection, clean.requests, drops, times.batch):
        return True
    if clean.action is Action.ENROLL:
        return False
    students = set(clean.requests.students)
    return has_confirmations(connection, students, times.batch, times.ahead)


def _any_dropped(
    connection: Connection, requests: CleanRequests, drops: NewerDrops, moment: datetime
) -> bool:
    """Return whether one of the pairs was dropped after a moment."""
    if drops.ended is not None:
        return bool(drops.ended) and not drops.ended.keys().isdisjoint(requests.pairs)
    states = find_states(connection, requests.pairs).values()
    return any(state.ended_at is not None and state.ended_at > moment for state in states)


def _order_matters(requests: CleanRequests, *, rest_writes: bool) -> bool:
    """Return whether the requests of a chunk must be decided one after another.

    The order matters if two requests ask for the same row, because only the first one changes it.
    It also matters if the requests that are left to the rulebook have rows to write, because a
    chunk writes all its rows in the order of their keys.
    """
    return rest_writes or requests.name_a_row_twice()


def _drop(
    connection: Connection, chunk: Chunk, clean: FoundRequests, moment: datetime
) -> set[Pair]:
    """Drop the pairs of clean requests; return those that were not enrolled."""
    if clean.drops is not None:
        missing = end_at_once(connection, clean.drops)
    else:
        missing = clean.requests.pairs - end_enrollments(connection, _drops(chunk, clean, moment))
    if missing:
        drops = _drops(chunk, clean, moment)
        keep_drops(connection, {pair: drops[pair] for pair in missing})
    return missing


def _drops(chunk: Chunk, clean: FoundRequests, moment: datetime) -> dict[Pair, Drop]:
    reason = reason_of(chunk)
    return {
        (student, course): Drop(
            moment, reason, line_request_id(chunk.batch_id, chunk.number, position)
        )
        for position, student, _, courses in clean.requests.by_student
        for course in courses
    }


def _named_in(
    requests: Sequence[CleanRequest], unchanged: Collection[Pair], *, every: bool
) -> Iterable[list[int]]:
    """Return, for each request, the courses whose pairs were not changed: perhaps all of them."""
    if not unchanged:
        return repeat([])
    if every:
        return map(itemgetter(3), requests)
    return [[c for c in courses if (key, c) in unchanged] for _, key, _, courses in requests]
