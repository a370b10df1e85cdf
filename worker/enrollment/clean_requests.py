"""Hold the clean requests of a chunk as columns: thousands of them without an object for each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, compress, pairwise, repeat
from operator import add, itemgetter, not_

from worker.enrollment.values import CleanRequest
from worker.models import PAIR_BITS, Pair, PlacedPair


@dataclass(frozen=True)
class CleanRequests:
    """Requests whose student and courses all exist, in the order of the chunk.

    `courses` has the courses of the first request, then those of the second one, and so on. Every
    other column has an entry for each request.
    """

    positions: Sequence[int] = ()
    """Where the requests are in their chunk."""
    students: Sequence[int] = ()
    """The keys of the students."""
    named: Sequence[int | str] = ()
    """The students as the requests named them."""
    counts: Sequence[int] = ()
    """How many courses each request names."""
    courses: Sequence[int] = ()
    """The keys of the courses."""

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def rows(self) -> list[PlacedPair]:
        """Return the rows of all requests, with their positions, in the order of their keys."""
        students = chain.from_iterable(map(repeat, self.students, self.counts))
        places = chain.from_iterable(map(repeat, self.positions, self.counts))
        return sorted(zip(students, self.courses, places, strict=True))

    @cached_property
    def listed_pairs(self) -> list[Pair]:
        """Return the pairs of all requests, in the order in which these name them."""
        students = chain.from_iterable(map(repeat, self.students, self.counts))
        return list(zip(students, self.courses, strict=True))

    @cached_property
    def pairs(self) -> set[Pair]:
        """Return the pairs of all requests."""
        return set(self.listed_pairs)

    @property
    def packed_pairs(self) -> set[int]:
        """Return the pairs of all requests, packed."""
        students = [student << PAIR_BITS for student in self.students]
        repeated = chain.from_iterable(map(repeat, students, self.counts))
        return set(map(add, repeated, self.courses))

    @cached_property
    def by_student(self) -> list[CleanRequest]:
        """Return the requests one by one, in the order of an index on the results."""
        ends = accumulate(self.counts, initial=0)
        courses = [list(self.courses[start:end]) for start, end in pairwise(ends)]
        requests = zip(self.positions, self.students, self.named, courses, strict=True)
        return sorted(requests, key=itemgetter(1))

    def among(self, pairs: Collection[Pair]) -> "CleanRequests":
        """Return what the requests name of these pairs; a request may have no courses then."""
        is_named = [pair in pairs for pair in self.listed_pairs]
        ends = accumulate(self.counts, initial=0)
        counts = [sum(is_named[start:end]) for start, end in pairwise(ends)]
        courses = list(compress(self.courses, is_named))
        return CleanRequests(self.positions, self.students, self.named, counts, courses)

    def divide(self, pairs: Collection[Pair]) -> tuple["CleanRequests", list[int]]:
        """Return the requests that name none of these pairs, and the positions of the others."""
        if not pairs:
            return self, []
        students = {student for student, _ in pairs}
        ends = list(accumulate(self.counts, initial=0))
        is_other = [
            student in students and any((student, c) in pairs for c in self.courses[start:end])
            for student, (start, end) in zip(self.students, pairwise(ends), strict=True)
        ]
        kept = self.select(list(map(not_, is_other)))
        return kept, list(compress(self.positions, is_other))

    def select(self, stays: Sequence[bool]) -> "CleanRequests":
        """Return some of the requests: `stays` says of each whether it is among them."""
        of_rows = chain.from_iterable(map(repeat, stays, self.counts))
        return CleanRequests(
            list(compress(self.positions, stays)),
            list(compress(self.students, stays)),
            list(compress(self.named, stays)),
            list(compress(self.counts, stays)),
            list(compress(self.courses, of_rows)),
        )

    def name_a_row_twice(self) -> bool:
        """Return whether two of the requests ask for the same row."""
        return len(self.pairs) < len(self.courses)
