"""Note which requests of a snapshot change nothing, when their chunk is stored.

Most of a nightly file repeats the last one. What was found then need not be looked up again,
neither for the plan nor when it is applied, as long as the data set has lost nothing since
(`worker.plan_models.DataSet`). This is for speed alone: a chunk of which nothing was noted, or of
which it may not hold any more, is decided like any other.
"""

import json
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain, compress
from operator import not_
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import Connection

from producer.contract.chunks import Chunk
from producer.schemas import Action
from worker.batches.clean import decide_by_shortcut
from worker.batches.counts import Poison
from worker.data_sets.losses.repository import count_losses
from worker.data_sets.repository import find_packed_pairs
from worker.data_sets.values import Owner
from worker.database.enrollment_lock import lock_enrollments
from worker.enrollment.clean_requests import CleanRequests
from worker.enrollment.clean_results import add_clean_results
from worker.enrollment.columns import columns_of_requests, select_existing
from worker.enrollment.confirming import MOST_OTHERS, WholeStudents
from worker.enrollment.repository import has_results_of_chunk
from worker.enrollment.shortcuts import ShortcutResult, counts_too_early
from worker.enrollment.values import Times
from worker.intervals.repository import find_newer_drops
from worker.intervals.values import NewerDrops
from worker.models import PAIR_BITS, Course, Student
from worker.repository import MIN_COURSES, find_keys
from worker.snapshots.outlines import OutlinedChunk, outline_of


@dataclass(frozen=True)
class Unchanged:
    """The requests of a chunk that change nothing.

    Each of them names exactly the enrollments that the data set owns of its student.
    """

    whole: WholeStudents
    """Their students, in the same order, each once."""
    rest: Sequence[int]
    """The positions of the other requests in the chunk."""
    read: Callable[[], CleanRequests]
    """Returns the requests as a whole, which is not needed for a plan."""

    @cached_property
    def requests(self) -> CleanRequests:
        """Return the requests as a whole."""
        return self.read()

    def result(self) -> ShortcutResult:
        """Return what deciding these requests at once comes to."""
        students, counts = self.whole
        return ShortcutResult(Action.ENROLL, len(students), sum(counts), 0, self.rest)


def find_unchanged(connection: Connection, chunk: Chunk, data_set: int) -> Unchanged | None:
    """Find the requests of a chunk of a snapshot that change nothing; None if they are too few.

    Call `worker.data_sets.losses.repository.count_losses` before. Raises DBAPIError.
    """
    columns = columns_of_requests(chunk)
    if columns is None or columns.action is not Action.ENROLL:
        return None
    rows = sum(chunk.row_counts)
    if rows < MIN_COURSES * len(columns.student_ids):
        return None  # The file is not sorted by student: a chunk seldom names all of one.
    students = find_keys(connection, Student, columns.student_ids)
    owned = find_packed_pairs(connection, students.values(), data_set)
    if len(owned) * 2 < rows:
        return None  # Most of it is new.
    courses = find_keys(connection, Course, chain.from_iterable(columns.course_ids))
    requests, rest, _ = select_existing(columns, students, courses)
    named = requests.packed_pairs
    if len(named) < len(requests.courses):
        return None  # Two requests name the same pair, so their order matters.
    changing = named.symmetric_difference(owned)
    others = {pair >> PAIR_BITS for pair in changing} | _named_twice(requests.students)
    if others:
        is_other = [student in others for student in requests.students]
        rest = sorted([*rest, *compress(requests.positions, is_other)])
        requests = requests.select(list(map(not_, is_other)))
    if not requests or len(rest) > len(requests) * MOST_OTHERS:
        return None
    whole = WholeStudents(requests.students, requests.counts)
    return Unchanged(whole, rest, lambda: requests)


def _named_twice(students: Sequence[int]) -> set[int]:
    """Return the students of several requests, each of which names only a part."""
    if len(set(students)) == len(students):
        return set()
    return {student for student, count in Counter(students).items() if count > 1}


# --- how it is stored -----------------------------------------------------------------------------

FORM: Final = 1
"""The form in which unchanged requests are stored; another version may have another one."""

_HEAD: Final = struct.Struct("<BII")
"""The form, the length of the document that follows, and the number of requests. Then come the
numbers, and a document with the students as the requests named them."""


def pack(unchanged: Unchanged, chunk: Chunk) -> bytes:
    """Return unchanged requests of a chunk as they are stored with it."""
    requests, rest = unchanged.requests, unchanged.rest
    outline, lines = outline_of(chunk)
    positions, row_counts = (list(requests.positions), chunk.row_counts) if rest else (None, None)
    document = _as_json([outline, lines, rest, positions, row_counts])
    numbers = [*requests.students, *requests.counts, *requests.courses]
    return b"".join(
        [
            _HEAD.pack(FORM, len(document), len(requests)),
            document,
            struct.pack(f"<{len(numbers)}i", *numbers),
            _as_json(requests.named),
        ]
    )


def is_readable(stored: bytes) -> bool:
    """Return whether this version can read unchanged requests; another one may have stored them."""
    return stored[:1] == bytes([FORM])


def unpack(stored: bytes, parse: Callable[[], Chunk]) -> tuple[Chunk, Unchanged]:
    """Return a chunk with its unchanged requests.

    `parse` parses the text of the chunk, which is done only if something asks for its requests.
    """
    _, length, count = _HEAD.unpack_from(stored)
    start = _HEAD.size + length
    outline, lines, rest, positions, row_counts = _from_json(stored[_HEAD.size : start])
    numbers = struct.unpack_from(f"<{2 * count}i", stored, start)
    students, counts = numbers[:count], numbers[count:]

    def read() -> CleanRequests:
        pairs, begin = sum(counts), start + 4 * len(numbers)
        courses = struct.unpack_from(f"<{pairs}i", stored, begin)
        named = _from_json(stored[begin + 4 * pairs :])
        places = range(count) if positions is None else positions
        return CleanRequests(places, students, named, counts, courses)

    chunk = OutlinedChunk(outline, lines, row_counts or counts, parse)
    return cast("Chunk", chunk), Unchanged(WholeStudents(students, counts), rest, read)


def _as_json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode(errors="surrogatepass")


def _from_json(document: bytes) -> Any:
    return json.loads(document.decode(errors="surrogatepass"))


# --- whether it holds -----------------------------------------------------------------------------


class Present(NamedTuple):
    """What the database says now, by which it is decided whether unchanged requests still are."""

    losses: int | None
    drops: NewerDrops
    """The drops that count later than the batch."""
    has_results: bool
    """Whether a request of these chunks has a result already."""

    def keeps(self, unchanged: Unchanged, losses: int) -> bool:
        """Return whether nothing has happened that may let the requests change something.

        `losses` is how much the data set had lost when they were found.
        """
        if self.losses != losses or self.has_results or self.drops.ended is None:
            return False
        dropped = {student for student, _ in self.drops.ended}
        return not dropped or dropped.isdisjoint(unchanged.whole.students)


def find_present(
    connection: Connection, data_set: int, moment: datetime, batch_id: str, number: int | None
) -> Present:
    """Read what decides whether requests of a chunk, or of all chunks of a batch, are unchanged.

    Call this after the lock on enrollments was taken, or in a plan. Raises DBAPIError.
    """
    return Present(
        count_losses(connection, data_set),
        find_newer_drops(connection, moment),
        has_results_of_chunk(connection, batch_id, number),
    )


class DecideUnchanged:
    """Decides the requests of a stored chunk that change nothing, without looking them up."""

    def __init__(self, unchanged: Unchanged, losses: int) -> None:
        """`losses` is how much the data set had lost when the requests were found."""
        self._unchanged = unchanged
        self._losses = losses

    def __call__(
        self,
        connection: Connection,
        chunk: Chunk,
        poison: Poison,
        times: Times,
        derives: bool,  # noqa: FBT001 - a DecideClean
        owner: Owner | None,
    ) -> ShortcutResult:
        """Do what `worker.batches.clean.decide_by_shortcut` does."""
        if poison or owner is None:
            return decide_by_shortcut(connection, chunk, poison, times, derives, owner)
        unchanged = self._unchanged
        lock_enrollments(connection, exclusive=False)  # A snapshot has no requests that drop.
        data_set, batch_id, number = owner.data_set, chunk.batch_id, chunk.number
        present = find_present(connection, data_set, times.batch, batch_id, number)
        is_too_early = counts_too_early(connection, present.drops, times.batch, owner)
        if is_too_early or not present.keeps(unchanged, self._losses):
            return decide_by_shortcut(connection, chunk, poison, times, derives, owner)
        listed = unchanged.requests.by_student
        same = [courses for *_, courses in listed]
        add_clean_results(connection, Action.ENROLL, listed, same, chunk, times)
        return unchanged.result()
