"""Enroll the clean requests of a chunk at once, for speed alone.

What comes out is what the rulebook would make of them, and a property test holds the two together.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import NamedTuple, cast

from sqlalchemy import Connection

from producer.contract.chunks import CheckedColumns, Chunk, line_request_id
from producer.schemas import StudentEnrollmentRequest
from worker.enrollment.repository import add_clean_results, find_results_of_chunk
from worker.enrollment.values import CleanRequest
from worker.models import Course, Pair, Student
from worker.repository import find_keys, insert_enrollments


class ShortcutResult(NamedTuple):
    """What the shortcut did, and what it left to the rulebook."""

    requests: int
    """Requests that are now wholly enrolled."""
    rows: int
    added: int
    """Rows that were not there before."""
    rest: Sequence[int]
    """The places in the chunk of the other requests."""


_Clean = tuple[str, int, int | str, list[int]]
"""A clean request: its id, the student's key, the student as asked for, the courses' keys."""


class _Columns(NamedTuple):
    """The requests of a chunk, as columns."""

    student_ids: Sequence[int | str | None]
    """None for a request that breaks the contract."""
    course_ids: Sequence[Sequence[int | str]]
    atomic: Sequence[bool]


def enroll_clean_requests(
    connection: Connection, chunk: Chunk, poison: Collection[int], now: datetime
) -> ShortcutResult:
    """Enroll the requests of a chunk whose student and courses all exist.

    All requests are left to the rulebook where one is poison, has an id of its own or a result
    already, and where their order matters. Raises DBAPIError.
    """
    places = range(len(chunk.row_counts))
    nothing = ShortcutResult(0, 0, 0, places)
    columns = _columns(chunk)
    if columns is None or poison or find_results_of_chunk(connection, chunk.batch_id, chunk.number):
        return nothing
    students = find_keys(connection, Student, columns.student_ids)
    courses = find_keys(connection, Course, chain.from_iterable(columns.course_ids))
    keys = [students.get(student_id) for student_id in columns.student_ids]
    known = [[courses[c] for c in wanted if c in courses] for wanted in columns.course_ids]
    rest = [
        place
        for place, key, of_request, wanted in zip(
            places, keys, known, columns.course_ids, strict=True
        )
        if key is None or len(of_request) < len(wanted)
    ]
    rest_writes = any(
        keys[place] is not None and known[place] and not columns.atomic[place] for place in rest
    )
    for place in rest:
        known[place] = []
    ids = [line_request_id(chunk.batch_id, chunk.number, place) for place in places]
    requests = zip(ids, keys, columns.student_ids, known, strict=True)
    # Courses are left only where the student is known. In the order of an index of the results,
    # and nearly in that of the rows.
    clean = cast("list[_Clean]", sorted([r for r in requests if r[3]], key=itemgetter(1)))
    pairs = [(key, course) for _, key, _, of_request in clean for course in of_request]
    if _order_matters(pairs, rest_writes=rest_writes):
        return nothing
    added = insert_enrollments(connection, pairs, now)
    add_clean_results(connection, _with_already(clean, pairs, added), chunk.batch_id, now)
    return ShortcutResult(len(clean), len(pairs), len(added), rest)


def _order_matters(pairs: Sequence[Pair], *, rest_writes: bool) -> bool:
    """Say whether the requests of a chunk must be decided one after another.

    They must if two of them ask for one row, because only the first adds it, and if the rest has
    rows to write, because all rows of a chunk are written in the order of their keys.
    """
    return rest_writes or len(set(pairs)) < len(pairs)


def _columns(chunk: Chunk) -> _Columns | None:
    """Return the requests of a chunk as columns; None if one has an id of its own."""
    given = getattr(chunk, "requests", None)
    if isinstance(given, CheckedColumns):
        atomic = [given.atomic] * len(given.student_ids)
        return _Columns(given.student_ids, given.course_ids, atomic)
    requests = [
        record if isinstance(record, StudentEnrollmentRequest) else None
        for record in chunk.records_in_order
    ]
    if any(request is not None and request.request_id is not None for request in requests):
        return None
    return _Columns(
        [None if request is None else request.student_id for request in requests],
        [() if request is None else request.course_ids for request in requests],
        [request is None or request.atomic for request in requests],
    )


def _with_already(
    clean: Sequence[_Clean],
    pairs: Sequence[Pair],
    added: Collection[Pair],
) -> list[CleanRequest]:
    """Add to each request the courses whose row was there before."""
    if len(added) == len(pairs):
        return [CleanRequest(*request, []) for request in clean]
    new = set(added)
    return [
        CleanRequest(*request, [c for c in request[3] if (request[1], c) not in new])
        for request in clean
    ]
