"""Define the values that the rules and the SQL exchange: stored results, and what requests name."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from producer.schemas import Action, EnrollmentProblem, ResultStatus
from worker.intervals.values import NewerDrops

Problems = tuple[EnrollmentProblem, ...]


class CourseSummary(NamedTuple):
    """What a result shows about a course."""

    id: int
    sis_id: str
    title: str | None


class Superseded(NamedTuple):
    """A course for which a later request asked for the opposite, and won."""

    course: int
    action: Action
    """What this request asked for."""
    won_at: datetime
    """The moment of the request that won."""


class StoredResult(NamedTuple):
    """A row of `enrollment_results`: the result of one request.

    `student_id` is our key, or the key that the request gave. `student_sis_id` is set when the
    request named the student by SIS id. `fingerprint` is None if the request id was made from a
    chunk's number.
    """

    request_id: str
    fingerprint: int | None
    student_id: int | None
    student_sis_id: str | None
    status: ResultStatus
    enrolled_ids: list[int]
    """Keys of the courses that the student is enrolled in, in the order of the request."""
    already_enrolled_ids: list[int]
    """Keys of those courses whose row existed before."""
    errors: Problems
    batch_id: str | None
    completed_at: datetime
    moment: datetime | None = None
    """When the request counts; None if an older version stored the result."""
    dropped_ids: Sequence[int] = ()
    """Keys of the courses to drop that the student is not enrolled in."""
    not_enrolled_ids: Sequence[int] = ()
    """Keys of those courses that had no row."""
    superseded: tuple[Superseded, ...] = ()
    reason: str | None = None
    line: int | None = None
    """The line in a file, of a request with an id of its own that is in one line."""

    def course_keys(self) -> Iterator[int]:
        """Yield the keys of the courses that the result names."""
        yield from self.enrolled_ids
        yield from self.dropped_ids
        yield from (each.course for each in self.superseded)


CleanRequest = tuple[int, int, int | str, list[int]]
"""A request of a chunk that is enrolled in every course it asks for: its position, the student's
key, the student as the request named it, and the keys of the courses."""


class Times(NamedTuple):
    """The times that count for a chunk."""

    batch: datetime
    """The moment of its batch."""
    now: datetime
    """The present time on the one clock."""
    stored: datetime
    """The present time on the database's clock, which is stored with what was decided."""
    latest: datetime
    """The latest time that the one clock may show."""

    @property
    def ahead(self) -> timedelta:
        """Return how far the one clock is ahead of the database's."""
        return self.now - self.stored


class RequestLookup(NamedTuple):
    """What the database knows about everything that some requests name."""

    students: Mapping[int | str | None, int]
    """Keys of the students that exist, by the id that a request gave."""
    courses: Mapping[int | str, int]
    """Keys of the courses that exist, by the id that a request gave."""
    summaries: Mapping[int, CourseSummary]
    """The courses that these requests and their earlier results name, by key."""
    results: Mapping[str, StoredResult]
    """Earlier results, by request id."""
    sis_ids: Mapping[int, str]
    """SIS ids of the students that requests name by key."""
    now: datetime | None = None
    """The time on the database's clock; None if it has no clock of its own."""
    drops: NewerDrops | None = None
    """The drops that may win against these requests; None if no request was looked up."""
    swept: Mapping[int, datetime] = MappingProxyType({})
    """When the last snapshots of the requests' data sets began to be applied, by data set."""
