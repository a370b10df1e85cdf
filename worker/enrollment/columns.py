"""Read the requests of a chunk as columns, and select those that name what exists. No SQL."""

from collections.abc import Mapping, Sequence
from itertools import chain, compress, repeat
from operator import not_
from typing import NamedTuple, cast

from producer.contract.chunks import CheckedColumns, Chunk
from producer.schemas import Action, StudentEnrollmentRequest
from worker.enrollment.clean_requests import CleanRequests


class RequestColumns(NamedTuple):
    """The requests of a chunk, as columns."""

    student_ids: Sequence[int | str | None]
    """An entry is None if its request breaks the contract."""
    course_ids: Sequence[Sequence[int | str]]
    atomic: Sequence[bool]
    action: Action = Action.ENROLL


def columns_of_requests(chunk: Chunk) -> RequestColumns | None:
    """Return the requests of a chunk as columns; None if they cannot be."""
    if chunk.ordered:
        return None
    columns = getattr(chunk, "requests", None)
    if isinstance(columns, CheckedColumns):
        atomic = [columns.atomic] * len(columns.student_ids)
        return RequestColumns(columns.student_ids, columns.courses, atomic, columns.action)
    requests = [
        record if isinstance(record, StudentEnrollmentRequest) else None
        for record in chunk.records_in_order
    ]
    named = [request for request in requests if request is not None]
    if not all(map(_is_plain, named)):
        return None
    return RequestColumns(
        [None if request is None else request.student_id for request in requests],
        [() if request is None else request.course_ids for request in requests],
        [request is None or request.atomic for request in requests],
    )


def _is_plain(request: StudentEnrollmentRequest) -> bool:
    """Return whether a request only enrolls, without an id, a time or a reason of its own."""
    own = (request.request_id, request.as_of, request.reason)
    return own == (None, None, None) and not request.drop_course_ids


def select_existing(
    columns: RequestColumns,
    students: Mapping[int | str | None, int],
    courses: Mapping[int | str | None, int],
) -> tuple[CleanRequests, Sequence[int], bool]:
    """Do what `_select_clean` does, with the keys of the students and courses that exist."""
    named = list(chain.from_iterable(columns.course_ids))
    student_keys = list(map(students.get, columns.student_ids))
    course_keys = list(map(courses.get, named))
    counts = list(map(len, columns.course_ids))
    if None in student_keys or None in course_keys:
        return _without_incomplete(columns, student_keys, course_keys, counts)
    keys = cast("list[int]", student_keys), cast("list[int]", course_keys)
    ids = cast("Sequence[int | str]", columns.student_ids)
    return CleanRequests(range(len(counts)), keys[0], ids, counts, keys[1]), [], False


def _without_incomplete(
    columns: RequestColumns,
    student_keys: Sequence[int | None],
    course_keys: Sequence[int | None],
    counts: Sequence[int],
) -> tuple[CleanRequests, Sequence[int], bool]:
    """Do what `_select_clean` does if something does not exist: its key is None."""
    positions = range(len(counts))
    places = list(chain.from_iterable(map(repeat, positions, counts)))
    exists = [key is not None for key in course_keys]
    lacks_course = set(compress(places, map(not_, exists)))
    has_course = set(compress(places, exists))
    is_clean = [
        key is not None and position in has_course and position not in lacks_course
        for position, key in enumerate(student_keys)
    ]
    rest = list(compress(positions, map(not_, is_clean)))
    rest_writes = any(
        student_keys[i] is not None and i in has_course and not columns.atomic[i] for i in rest
    )
    clean = CleanRequests(
        list(compress(positions, is_clean)),
        cast("list[int]", list(compress(student_keys, is_clean))),
        cast("list[int | str]", list(compress(columns.student_ids, is_clean))),
        list(compress(counts, is_clean)),
        cast("list[int]", list(compress(course_keys, map(is_clean.__getitem__, places)))),
    )
    return clean, rest, rest_writes
