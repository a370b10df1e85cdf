"""Enroll the clean requests of a chunk all at once, for speed alone.

The results are exactly those of the rulebook; a property test compares the two.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import chain, repeat
from operator import itemgetter
from typing import NamedTuple, cast

from sqlalchemy import Connection

from producer.contract.chunks import CheckedColumns, Chunk, line_request_id
from producer.schemas import Action, StudentEnrollmentRequest
from worker.enrollment.repository import add_clean_results, has_results_of_chunk
from worker.enrollment.values import CleanRequest
from worker.intervals.repository import find_newer_drops, find_states
from worker.intervals.values import NewerDrops
from worker.models import Course, Pair, Student
from worker.repository import find_keys, insert_enrollments


class ShortcutResult(NamedTuple):
    """What the shortcut did, and what it left to the rulebook."""

    requests: int
    """Requests that are now enrolled in all of their courses."""
    rows: int
    added: int
    """Rows that are new."""
    rest: Sequence[int]
    """The positions, in the chunk, of the requests that are left to the rulebook."""


class _Columns(NamedTuple):
    """The requests of a chunk, as columns."""

    student_ids: Sequence[int | str | None]
    """An entry is None if its request breaks the contract."""
    course_ids: Sequence[Sequence[int | str]]
    atomic: Sequence[bool]


def enroll_clean_requests(
    connection: Connection, chunk: Chunk, poison: Collection[int], now: datetime, moment: datetime
) -> ShortcutResult:
    """Enroll the requests of a chunk whose student and courses all exist.

    `moment` is that of the batch. All requests are left to the rulebook if one of them is poison,
    drops something, has an id, a time or a reason of its own or already has a result, if one of
    their pairs was dropped later, or if their order matters. Raises DBAPIError.
    """
    positions = range(len(chunk.row_counts))
    nothing = ShortcutResult(0, 0, 0, positions)
    columns = _columns(chunk)
    if columns is None or poison or has_results_of_chunk(connection, chunk.batch_id, chunk.number):
        return nothing
    drops = find_newer_drops(connection, moment)
    if drops.limit is not None and moment < drops.limit:
        return nothing
    students = find_keys(connection, Student, columns.student_ids)
    courses = find_keys(connection, Course, chain.from_iterable(columns.course_ids))
    keys = [students.get(student_id) for student_id in columns.student_ids]
    known = [[courses[c] for c in wanted if c in courses] for wanted in columns.course_ids]
    rest = [
        position
        for position, key, course_keys, wanted in zip(
            positions, keys, known, columns.course_ids, strict=True
        )
        if key is None or len(course_keys) < len(wanted)
    ]
    rest_writes = any(keys[i] is not None and known[i] and not columns.atomic[i] for i in rest)
    if _any_dropped(connection, keys, known, drops, moment):
        return nothing
    for position in rest:
        known[position] = []
    ids = [line_request_id(chunk.batch_id, chunk.number, position) for position in positions]
    requests = zip(ids, keys, columns.student_ids, known, strict=True)
    # A request with known courses has a known student: the others were emptied above. The sort
    # gives the order of an index on the results, and nearly that of the rows.
    clean = cast("list[CleanRequest]", sorted([r for r in requests if r[3]], key=itemgetter(1)))
    pairs = [(key, course) for _, key, _, course_keys in clean for course in course_keys]
    if _order_matters(pairs, rest_writes=rest_writes):
        return nothing
    added = insert_enrollments(connection, dict.fromkeys(pairs, moment))
    already = _already_enrolled(clean, pairs, added)
    add_clean_results(connection, clean, already, chunk.batch_id, now, moment)
    return ShortcutResult(len(clean), len(pairs), len(added), rest)


def _any_dropped(
    connection: Connection,
    students: Sequence[int | None],
    courses: Sequence[Sequence[int]],
    drops: NewerDrops,
    moment: datetime,
) -> bool:
    """Return whether one of the pairs was dropped after a moment."""
    if drops.ended is not None and not drops.ended:
        return False
    pairs = {(s, c) for s, named in zip(students, courses, strict=True) if s for c in named}
    if drops.ended is not None:
        return not pairs.isdisjoint(drops.ended)
    states = find_states(connection, pairs, None).values()
    return any(state.ended_at is not None and state.ended_at > moment for state in states)


def _order_matters(pairs: Sequence[Pair], *, rest_writes: bool) -> bool:
    """Return whether the requests of a chunk must be decided one after another.

    The order matters if two requests ask for the same row, because only the first one adds it. It
    also matters if the requests that are left to the rulebook have rows to write, because a chunk
    writes all its rows in the order of their keys.
    """
    return rest_writes or len(set(pairs)) < len(pairs)


def _columns(chunk: Chunk) -> _Columns | None:
    """Return the requests of a chunk as columns; None if one does more than to enroll."""
    if chunk.ordered:
        return None
    columns = getattr(chunk, "requests", None)
    if isinstance(columns, CheckedColumns):
        if columns.action is Action.DROP:
            return None
        atomic = [columns.atomic] * len(columns.student_ids)
        return _Columns(columns.student_ids, columns.course_ids, atomic)
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


def _already_enrolled(
    clean: Sequence[CleanRequest], pairs: Sequence[Pair], added: Collection[Pair]
) -> Iterable[list[int]]:
    """Return, for each request, the courses whose row existed before."""
    if len(added) == len(pairs):
        return repeat([], len(clean))
    new = set(added)
    return [[c for c in courses if (key, c) not in new] for _, key, _, courses in clean]
