"""Decide the clean requests of a chunk all at once, for speed alone.

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
from worker.database.sets import COPY_ROWS
from worker.enrollment.repository import add_clean_results, has_results_of_chunk
from worker.enrollment.values import CleanRequest
from worker.intervals.repository import (
    end_at_once,
    end_enrollments,
    find_newer_drops,
    find_states,
    has_confirmations,
    keep_drops,
)
from worker.intervals.values import Drop, NewerDrops
from worker.models import Course, Pair, Student
from worker.repository import find_keys, insert_enrollments


class CleanRequests(NamedTuple):
    """The requests of a chunk that only enroll, or only drop, and name what exists."""

    action: Action
    requests: Sequence[CleanRequest]
    """In the order of an index on the results, and nearly in that of the rows."""
    pairs: Sequence[Pair]
    """The pairs of all these requests; each is named once."""
    rest: Sequence[int]
    """The positions, in the chunk, of the requests that are left to the rulebook."""


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


class _Columns(NamedTuple):
    """The requests of a chunk, as columns."""

    student_ids: Sequence[int | str | None]
    """An entry is None if its request breaks the contract."""
    course_ids: Sequence[Sequence[int | str]]
    atomic: Sequence[bool]
    action: Action = Action.ENROLL


def find_clean_requests(
    connection: Connection, chunk: Chunk, poison: Collection[int]
) -> CleanRequests:
    """Find the requests of a chunk whose student and courses all exist.

    All requests are left to the rulebook if one of them is poison, both enrolls and drops, has an
    id, a time or a reason of its own or already has a result, or if their order matters. Nothing
    about enrollments is read, so the lock is not needed yet. Raises DBAPIError.
    """
    positions = range(len(chunk.row_counts))
    nothing = CleanRequests(Action.ENROLL, (), (), positions)
    columns = _columns(chunk)
    if columns is None or poison or has_results_of_chunk(connection, chunk.batch_id, chunk.number):
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
    for position in rest:
        known[position] = []
    ids = [line_request_id(chunk.batch_id, chunk.number, position) for position in positions]
    requests = zip(ids, keys, columns.student_ids, known, strict=True)
    # A request with known courses has a known student: the others were emptied above.
    clean = cast("list[CleanRequest]", sorted([r for r in requests if r[3]], key=itemgetter(1)))
    pairs = [(key, course) for _, key, _, course_keys in clean for course in course_keys]
    if _order_matters(pairs, rest_writes=rest_writes):
        return nothing
    return CleanRequests(columns.action, clean, pairs, rest)


def decide_clean_requests(
    connection: Connection,
    chunk: Chunk,
    clean: CleanRequests,
    now: datetime,
    moment: datetime,
) -> ShortcutResult:
    """Enroll clean requests in all of their courses, or drop them, unless a later request differs.

    `moment` is that of the batch. All requests are left to the rulebook if history was pruned since
    then, or if a later request asks for the opposite of one of them. Call this after the lock was
    taken. Raises DBAPIError.
    """
    nothing = ShortcutResult(clean.action, 0, 0, 0, range(len(chunk.row_counts)))
    drops = find_newer_drops(connection, moment)
    if drops.limit is not None and moment < drops.limit:
        return nothing
    if _any_dropped(connection, clean, drops, moment):
        return nothing
    pairs = clean.pairs
    if clean.action is Action.DROP:
        if has_confirmations(connection, {student for student, _ in pairs}, moment):
            return nothing
        missing = _drop(connection, clean, moment)
        changed = len(pairs) - len(missing)
        unchanged = _named_in(clean.requests, missing)
    else:
        added = insert_enrollments(connection, dict.fromkeys(pairs, moment))
        changed = len(added)
        existing = set(pairs).difference(added) if changed < len(pairs) else set()
        unchanged = _named_in(clean.requests, existing)
    add_clean_results(
        connection, clean.action, clean.requests, unchanged, chunk.batch_id, now, moment
    )
    return ShortcutResult(clean.action, len(clean.requests), len(pairs), changed, clean.rest)


def _any_dropped(
    connection: Connection, clean: CleanRequests, drops: NewerDrops, moment: datetime
) -> bool:
    """Return whether one of the pairs was dropped after a moment."""
    if drops.ended is not None:
        return bool(drops.ended) and not drops.ended.keys().isdisjoint(clean.pairs)
    states = find_states(connection, clean.pairs, None).values()
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


def _drop(connection: Connection, clean: CleanRequests, moment: datetime) -> set[Pair]:
    """Drop the pairs of clean requests; return those that were not enrolled."""
    requests = [request_id for request_id, _, _, courses in clean.requests for _ in courses]
    if connection.dialect.name == "postgresql" and len(clean.pairs) >= COPY_ROWS:
        missing = end_at_once(connection, clean.pairs, requests, moment)
        drops = {
            pair: Drop(moment, None, request_id)
            for pair, request_id in zip(clean.pairs, requests, strict=True)
            if pair in missing
        }
    else:
        drops = {
            pair: Drop(moment, None, request_id)
            for pair, request_id in zip(clean.pairs, requests, strict=True)
        }
        for pair in end_enrollments(connection, drops):
            del drops[pair]
    keep_drops(connection, drops)
    return set(drops)


def _named_in(requests: Sequence[CleanRequest], unchanged: Collection[Pair]) -> Iterable[list[int]]:
    """Return, for each request, the courses whose pairs were not changed."""
    if not unchanged:
        return repeat([], len(requests))
    return [[c for c in courses if (key, c) in unchanged] for _, key, _, courses in requests]
