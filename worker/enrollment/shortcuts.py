"""Decide the clean requests of a chunk all at once, for speed alone.

The results are exactly those of the rulebook; a property test compares the two.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, compress, islice, repeat
from operator import itemgetter, not_
from typing import NamedTuple, cast

from sqlalchemy import Connection

from producer.contract.chunks import CheckedColumns, Chunk, line_request_id, line_request_ids
from producer.schemas import Action, StudentEnrollmentRequest
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
from worker.enrollment.clean_results import add_clean_results
from worker.enrollment.derived.entries import FreshRequests, are_short, is_short, pack
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


class CleanRequests(NamedTuple):
    """The requests of a chunk that only enroll, or only drop, and name what exists."""

    action: Action
    requests: Sequence[CleanRequest]
    """In the order of an index on the results, and nearly in that of the rows."""
    pairs: Sequence[Pair]
    """The pairs of all these requests; each is named once."""
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


class _Columns(NamedTuple):
    """The requests of a chunk, as columns."""

    student_ids: Sequence[int | str | None]
    """An entry is None if its request breaks the contract."""
    course_ids: Sequence[Sequence[int | str]]
    atomic: Sequence[bool]
    action: Action = Action.ENROLL


def find_clean_requests(
    connection: Connection, chunk: Chunk, poison: Collection[int], times: Times
) -> CleanRequests:
    """Find the requests of a chunk whose student and courses all exist.

    All requests are left to the rulebook if one of them is poison, both enrolls and drops, has an
    id, a time or a reason of its own or already has a result, or if their order matters. Nothing
    about enrollments is read, so the lock is not needed yet. Many drops are prepared as far as they
    can be: `decide_clean_requests` then has less to do while the lock is held, and no other
    transaction can enroll or drop. Raises DBAPIError.
    """
    positions = range(len(chunk.row_counts))
    nothing = CleanRequests(Action.ENROLL, (), (), positions)
    columns = _columns(chunk)
    if columns is None or poison or has_results_of_chunk(connection, chunk.batch_id, chunk.number):
        return nothing
    students = find_keys(connection, Student, columns.student_ids)
    courses = find_keys(connection, Course, chain.from_iterable(columns.course_ids))
    keys = list(map(students.get, columns.student_ids))
    known, is_complete = _known_courses(courses, columns.course_ids)
    rest: list[int] = []
    if None in keys or not is_complete:
        rest = _incomplete(keys, known, columns.course_ids)
    rest_writes = any(keys[i] is not None and known[i] and not columns.atomic[i] for i in rest)
    for position in rest:
        known[position] = []
    requests = zip(positions, keys, columns.student_ids, known, strict=True)
    # A request with known courses has a known student: the others were emptied above.
    clean = cast("list[CleanRequest]", sorted([r for r in requests if r[3]], key=itemgetter(1)))
    pairs = [(key, course) for _, key, _, course_keys in clean for course in course_keys]
    if _order_matters(pairs, rest_writes=rest_writes):
        return nothing
    found = CleanRequests(columns.action, clean, pairs, rest)
    is_large = connection.dialect.name == "postgresql" and len(clean) >= COPY_ROWS
    if columns.action is Action.ENROLL or not is_large:
        return found
    prefix, _ = line_request_ids(chunk.batch_id, chunk.number)
    dropped = [DroppedCourses(str(i), student, c) for i, student, _, c in clean]
    add_clean_results(connection, Action.DROP, clean, repeat([]), chunk, times)
    drops = prepare_drops(dropped, prefix, times.batch, reason_of(chunk))
    return found._replace(drops=drops, is_stored=True)


def _incomplete(
    keys: Sequence[int | None],
    known: Sequence[Sequence[int]],
    course_ids: Sequence[Sequence[int | str]],
) -> list[int]:
    """Return the positions of requests whose student, or one of whose courses, does not exist."""
    requests = enumerate(zip(keys, known, course_ids, strict=True))
    return [
        position
        for position, (key, existing, wanted) in requests
        if key is None or len(existing) < len(wanted)
    ]


def _known_courses(
    courses: Mapping[int | str | None, int], course_ids: Sequence[Sequence[int | str]]
) -> tuple[list[list[int]], bool]:
    """Return the keys of each request's courses that exist, and whether all do."""
    keys = list(map(courses.get, chain.from_iterable(course_ids)))
    if None in keys:
        return [[courses[c] for c in wanted if c in courses] for wanted in course_ids], False
    existing = iter(cast("list[int]", keys))
    if len(keys) == len(course_ids) and all(course_ids):
        return [[key] for key in existing], True
    return [list(islice(existing, len(wanted))) for wanted in course_ids], True


def decide_clean_requests(
    connection: Connection,
    chunk: Chunk,
    clean: CleanRequests,
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
    action, pairs = clean.action, clean.pairs
    drops = find_newer_drops(connection, times.batch)
    is_too_old = drops.limit is not None and times.batch < drops.limit
    if owner is not None and not is_too_old:
        swept = find_swept(connection, [owner.data_set])
        is_too_old = times.batch < swept.get(owner.data_set, times.batch)
    if is_too_old or not pairs or _is_contradicted(connection, clean, drops, times):
        if clean.is_stored:
            delete_results_of_chunk(connection, chunk.batch_id, chunk.number)
        return ShortcutResult(action, 0, 0, 0, range(len(chunk.row_counts)))
    if action is Action.DROP:
        unchanged = _drop(connection, chunk, clean, times.batch)
        if drops.has_notes:
            remove_older_notes(connection, dict.fromkeys(pairs, times.batch))
    else:
        added = _enroll(connection, chunk, clean, times.batch, owner, derives=derives)
        unchanged = set(pairs).difference(added) if len(added) < len(pairs) else set()
    stored, fresh = clean.requests, None
    if derives and action is Action.ENROLL:
        stored, fresh = _divide(chunk, clean.requests, unchanged)
    if clean.is_stored and unchanged:
        delete_results_of_chunk(connection, chunk.batch_id, chunk.number)
    if unchanged or not clean.is_stored:
        same = _named_in(stored, unchanged)
        add_clean_results(connection, action, stored, same, chunk, times)
    changed = len(pairs) - len(unchanged)
    return ShortcutResult(action, len(clean.requests), len(pairs), changed, clean.rest, fresh)


def _enroll(
    connection: Connection,
    chunk: Chunk,
    clean: CleanRequests,
    moment: datetime,
    owner: Owner | None,
    *,
    derives: bool,
) -> Sequence[Pair]:
    """Enroll the pairs of clean requests; return those that were not enrolled before."""
    requests = clean.requests
    if owner is None or not are_some_enrolled(connection, clean.pairs):
        added = _add(connection, chunk, requests, moment, owner, derives=derives)
        known: set[Pair] = set() if owner is None else set(clean.pairs).difference(added)
        foreign: dict[Pair, int | None] = {}
    else:
        # One look says which pairs are new and which ones others own: most files repeat the last.
        new, foreign = find_new_and_foreign(connection, clean.pairs, owner.data_set)
        added = _add(connection, chunk, _part(requests, new), moment, owner, derives=derives)
        known = new.difference(added)  # Another transaction was faster.
    if owner is not None and (known or foreign):
        foreign |= find_foreign(connection, known, owner.data_set)
        note_foreign(connection, owner, foreign, dict.fromkeys(foreign, moment))
    return added


def _part(requests: Sequence[CleanRequest], pairs: Collection[Pair]) -> list[CleanRequest]:
    """Return requests with those of their courses that make one of these pairs."""
    if not pairs:
        return []
    return [
        (position, student, student_id, [c for c in courses if (student, c) in pairs])
        for position, student, student_id, courses in requests
    ]


def _add(
    connection: Connection,
    chunk: Chunk,
    requests: Sequence[CleanRequest],
    moment: datetime,
    owner: Owner | None,
    *,
    derives: bool,
) -> Sequence[Pair]:
    """Write the rows of requests that do not exist; return their pairs."""
    data_set = None if owner is None else owner.data_set
    if derives:
        rows = [(student, c, i) for i, student, _, courses in requests for c in courses]
        return insert_placed_enrollments(connection, rows, moment, chunk.number, data_set)
    pairs = [(student, c) for _, student, _, courses in requests for c in courses]
    owners = NO_OWNERS if data_set is None else dict.fromkeys(pairs, data_set)
    return insert_enrollments(connection, dict.fromkeys(pairs, moment), owners)


def _divide(
    chunk: Chunk, requests: Sequence[CleanRequest], unchanged: set[Pair]
) -> tuple[Sequence[CleanRequest], FreshRequests | None]:
    """Return the requests whose results are to be stored, and the fresh ones, packed."""
    count = len(chunk.row_counts)
    if not unchanged and are_short(requests):
        return (), pack(requests, count)
    is_fresh = [
        is_short(request) and unchanged.isdisjoint(_pairs_of(request)) for request in requests
    ]
    stored = list(compress(requests, map(not_, is_fresh)))
    return stored, pack(list(compress(requests, is_fresh)), count)


def _pairs_of(request: CleanRequest) -> list[Pair]:
    _, student, _, courses = request
    return [(student, course) for course in courses]


def _is_contradicted(
    connection: Connection, clean: CleanRequests, drops: NewerDrops, times: Times
) -> bool:
    """Return whether a later request may ask for the opposite of one of these."""
    if _any_dropped(connection, clean, drops, times.batch):
        return True
    if clean.action is Action.ENROLL:
        return False
    students = {student for student, _ in clean.pairs}
    return has_confirmations(connection, students, times.batch, times.ahead)


def _any_dropped(
    connection: Connection, clean: CleanRequests, drops: NewerDrops, moment: datetime
) -> bool:
    """Return whether one of the pairs was dropped after a moment."""
    if drops.ended is not None:
        return bool(drops.ended) and not drops.ended.keys().isdisjoint(clean.pairs)
    states = find_states(connection, clean.pairs).values()
    return any(state.ended_at is not None and state.ended_at > moment for state in states)


def _order_matters(pairs: Sequence[Pair], *, rest_writes: bool) -> bool:
    """Return whether the requests of a chunk must be decided one after another.

    The order matters if two requests ask for the same row, because only the first one changes it.
    It also matters if the requests that are left to the rulebook have rows to write, because a
    chunk writes all its rows in the order of their keys.
    """
    return rest_writes or len(set(pairs)) < len(pairs)


def _columns(chunk: Chunk) -> _Columns | None:
    """Return the requests of a chunk as columns; None if they cannot be."""
    if chunk.ordered:
        return None
    columns = getattr(chunk, "requests", None)
    if isinstance(columns, CheckedColumns):
        atomic = [columns.atomic] * len(columns.student_ids)
        return _Columns(columns.student_ids, columns.courses, atomic, columns.action)
    requests = [
        record if isinstance(record, StudentEnrollmentRequest) else None
        for record in chunk.records_in_order
    ]
    named = [request for request in requests if request is not None]
    if not all(map(_is_plain, named)):
        return None
    return _Columns(
        [None if request is None else request.student_id for request in requests],
        [() if request is None else request.course_ids for request in requests],
        [request is None or request.atomic for request in requests],
    )


def _is_plain(request: StudentEnrollmentRequest) -> bool:
    """Return whether a request only enrolls, without an id, a time or a reason of its own."""
    own = (request.request_id, request.as_of, request.reason)
    return own == (None, None, None) and not request.drop_course_ids


def _drop(
    connection: Connection, chunk: Chunk, clean: CleanRequests, moment: datetime
) -> set[Pair]:
    """Drop the pairs of clean requests; return those that were not enrolled."""
    if clean.drops is not None:
        missing = end_at_once(connection, clean.drops)
    else:
        missing = set(clean.pairs) - end_enrollments(connection, _drops(chunk, clean, moment))
    if missing:
        drops = _drops(chunk, clean, moment)
        keep_drops(connection, {pair: drops[pair] for pair in missing})
    return missing


def _drops(chunk: Chunk, clean: CleanRequests, moment: datetime) -> dict[Pair, Drop]:
    reason = reason_of(chunk)
    return {
        (student, course): Drop(
            moment, reason, line_request_id(chunk.batch_id, chunk.number, position)
        )
        for position, student, _, courses in clean.requests
        for course in courses
    }


def _named_in(requests: Sequence[CleanRequest], unchanged: Collection[Pair]) -> Iterable[list[int]]:
    """Return, for each request, the courses whose pairs were not changed."""
    if not unchanged:
        return repeat([])
    return [[c for c in courses if (key, c) in unchanged] for _, key, _, courses in requests]
