"""Pack the fresh requests of a chunk for its ledger entry. Pure functions, no SQL.

A request is fresh if every row that it asks for was added: its result says nothing else, so it is
derived when it is looked up. Each request of the chunk has an entry of the same size, so that a
single entry can be read: the student's key, negative if the request named the student by key, and
the keys of the courses in the order of the request, filled up with zeros. The entry of a request
that is not fresh holds zeros only.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import accumulate, compress
from operator import itemgetter
from typing import Final, NamedTuple

from producer.contract.chunks import line_request_id
from producer.schemas import ResultStatus
from worker.enrollment.clean_requests import CleanRequests
from worker.enrollment.values import CleanRequest, StoredResult

MAX_COURSES: Final = 8
"""A request for more courses has a stored result: entries as long as its own would cost more."""

KEY_BYTES: Final = 4
_NUMBERS: Final = "i"


class FreshRequests(NamedTuple):
    """The fresh requests of a chunk, packed."""

    entries: bytes
    size: int
    """The bytes of an entry."""


class Entry(NamedTuple):
    """A fresh request: its student and its courses, by key."""

    student: int
    is_named_by_key: bool
    courses: list[int]


class Origin(NamedTuple):
    """What all results of a chunk have in common."""

    batch_id: str
    number: int
    completed_at: datetime
    moment: datetime


def are_short(requests: CleanRequests) -> bool:
    """Return whether all of these requests are short."""
    return max(requests.counts, default=0) <= MAX_COURSES


def is_short(request: CleanRequest) -> bool:
    """Return whether the result of a request may be derived, if all of its rows are added."""
    return len(request[3]) <= MAX_COURSES


def pack_all(requests: CleanRequests, count: int) -> FreshRequests | None:
    """Do what `pack` does, if all of the requests are fresh: a column at a time."""
    if len(requests) < count or not count:
        return pack(requests.by_student, count)
    most = max(requests.counts)
    width = 1 + most
    numbers = array(_NUMBERS, bytes(KEY_BYTES * width * count))
    students: Iterable[int] = requests.students
    if set(map(type, requests.named)) != {str}:
        students = map(_signed, students, requests.named)
    numbers[::width] = array(_NUMBERS, students)
    if min(requests.counts) == most:
        for place in range(most):
            numbers[1 + place :: width] = array(_NUMBERS, requests.courses[place::most])
        return _packed(numbers, width)
    starts = list(accumulate(requests.counts, initial=0))
    numbers[1::width] = array(_NUMBERS, map(requests.courses.__getitem__, starts[:-1]))
    for position in compress(range(count), map((1).__lt__, requests.counts)):
        wanted = requests.courses[starts[position] : starts[position + 1]]
        place = width * position + 1
        numbers[place : place + len(wanted)] = array(_NUMBERS, wanted)
    return _packed(numbers, width)


def pack(requests: Sequence[CleanRequest], count: int) -> FreshRequests | None:
    """Pack the fresh requests of a chunk of `count` requests; None if there are none."""
    if not requests:
        return None
    width = 1 + max(map(len, map(itemgetter(3), requests)))
    numbers = array(_NUMBERS, bytes(KEY_BYTES * width * count))
    for position, student, student_id, wanted in requests:
        start = width * position
        numbers[start] = _signed(student, student_id)
        numbers[start + 1 : start + 1 + len(wanted)] = array(_NUMBERS, wanted)
    return _packed(numbers, width)


def _packed(numbers: "array[int]", width: int) -> FreshRequests:
    return FreshRequests(_in_network_order(numbers).tobytes(), KEY_BYTES * width)


def _signed(student: int, student_id: int | str) -> int:
    return student if isinstance(student_id, str) else -student


def unpack(entry: bytes) -> Entry | None:
    """Return the fresh request of an entry; None if the entry is empty or of another request."""
    numbers = _in_network_order(array(_NUMBERS, entry))
    if not numbers or not numbers[0]:
        return None
    student, *courses = numbers
    return Entry(abs(student), student < 0, [course for course in courses if course])


def unpack_all(fresh: FreshRequests) -> Iterator[tuple[int, Entry]]:
    """Yield the fresh requests of a chunk with their positions."""
    numbers = _in_network_order(array(_NUMBERS, fresh.entries)).tolist()
    width = fresh.size // KEY_BYTES
    has_zeros = 0 in numbers
    for position, start in enumerate(range(0, len(numbers), width)):
        student, *courses = numbers[start : start + width]
        if student:
            wanted = list(filter(None, courses)) if has_zeros else courses
            yield position, Entry(abs(student), student < 0, wanted)


def student_key(student: int, *, is_named_by_key: bool) -> bytes:
    """Return the first bytes of the entries of a student's requests."""
    number = -student if is_named_by_key else student
    return number.to_bytes(KEY_BYTES, "big", signed=True)


def _in_network_order(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def derive(origin: Origin, position: int, entry: Entry, sis_id: str | None) -> StoredResult:
    """Return the result of a fresh request; `sis_id` is the student's, if the request named it."""
    return StoredResult(
        request_id=line_request_id(origin.batch_id, origin.number, position),
        fingerprint=None,
        student_id=entry.student,
        student_sis_id=None if entry.is_named_by_key else sis_id,
        status=ResultStatus.ENROLLED,
        enrolled_ids=entry.courses,
        already_enrolled_ids=[],
        errors=(),
        batch_id=origin.batch_id,
        completed_at=origin.completed_at,
        moment=origin.moment,
    )
