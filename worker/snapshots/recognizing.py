"""Recognize the enrollments that a chunk of a snapshot names, refused lines included. No SQL."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from producer.contract.chunks import CheckedColumns, Chunk, courses_of
from producer.fields import MAX_COURSES, Identifier
from producer.schemas import Action, StudentEnrollmentRequest
from worker.models import Pair

Id = int | str
"""The id of a student or course: our key, or a SIS id."""
Doubt = tuple[int | None, int | None]
"""The keys of the student and the course of a refused line, as far as they are recognized."""

MAX_CELLS: Final = 100
"""The most cells of a refused line that are looked at."""

_IDENTIFIER: TypeAdapter[Id] = TypeAdapter(Identifier)


class Wanted(NamedTuple):
    """A request or a refused line of a chunk: the ids that may be its student and its courses."""

    students: tuple[Id, ...]
    courses: tuple[Id, ...]
    is_refused: bool
    is_atomic: bool = False


class NamedPairs(NamedTuple):
    """What a chunk names."""

    pairs: set[Pair]
    doubts: Counter[Doubt]
    """What is recognized of refused lines, and how often."""


def wanted_by(chunk: Chunk, positions: Sequence[int] | None = None) -> list[Wanted]:
    """Return what the requests and the refused lines of a chunk ask for.

    Of requests, only those at the given positions count, if any are given. The cells of a line that
    could not be read do not say which of them is the student.
    """
    lines = [tuple(_ids(line.cells or ())) for line in chunk.refused]
    requests = list(_of_requests(chunk)) if positions is None or positions else []
    if positions is not None:
        requests = [requests[position] for position in positions]
    return [*requests, *(Wanted(ids, ids, is_refused=True) for ids in lines)]


def _of_requests(chunk: Chunk) -> Iterator[Wanted]:
    columns = getattr(chunk, "requests", None)
    if isinstance(columns, CheckedColumns):
        requests = zip(columns.student_ids, columns.courses, strict=True)
        for student_id, courses in requests:
            yield Wanted((student_id,), courses, is_refused=False, is_atomic=columns.atomic)
        return
    for record in chunk.records_in_order:
        if isinstance(record, StudentEnrollmentRequest):
            yield Wanted((record.student_id,), record.course_ids, False, record.atomic)
        else:
            student = record.get("student_id") if isinstance(record, dict) else None
            listed = islice(courses_of(record, Action.ENROLL), MAX_COURSES)
            yield Wanted(tuple(_ids([student])), tuple(_ids(listed)), is_refused=True)


def _ids(values: Iterable[Any]) -> Iterator[Id]:
    return valid_ids(islice(values, MAX_CELLS))


def valid_ids(values: Iterable[Any]) -> Iterator[Id]:
    """Yield the values that can be ids."""
    for value in values:
        try:
            yield _IDENTIFIER.validate_python(value)
        except ValidationError:
            continue


def ids_of(wanted: Iterable[Wanted]) -> tuple[set[Id], set[Id]]:
    """Return the ids of all students and of all courses."""
    students, courses, *_ = zip(*wanted, strict=True) if wanted else ((), ())
    return set(chain.from_iterable(students)), set(chain.from_iterable(courses))


def recognize(
    wanted: Iterable[Wanted], students: Mapping[Any, int], courses: Mapping[Any, int]
) -> NamedPairs:
    """Return which enrollments are named, by the keys of the students and courses that exist."""
    pairs: set[Pair] = set()
    doubts: Counter[Doubt] = Counter()
    for each in wanted:
        keys = [students[i] for i in each.students if i in students]
        named = [courses.get(i) for i in each.courses]
        known = [key for key in named if key is not None]
        if not each.is_refused and keys and (len(known) == len(named) or not each.is_atomic):
            pairs.update((keys[0], course) for course in known)
            doubts.update((keys[0], None) for course in named if course is None)
        else:
            doubts.update(_doubts(each, keys, courses))
    return NamedPairs(pairs, doubts)


def _doubts(wanted: Wanted, keys: list[int], courses: Mapping[Any, int]) -> Iterable[Doubt]:
    """Return what is recognized of each row of a refused request, or of a line."""
    named = [courses.get(i) for i in dict.fromkeys(wanted.courses)]
    if wanted.students != wanted.courses:
        student = keys[0] if keys else None
        return [(student, course) for course in named or [None]]
    # Every cell of a line that could not be read may be the student; the others are no courses.
    students: list[int | None] = [*keys] or [None]
    known: list[int | None] = [key for key in named if key is not None]
    return {(student, course) for student in students for course in known or [None]}
