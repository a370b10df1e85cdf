"""Define the values that the rules and the SQL exchange: stored results, and what requests name."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from producer.schemas import EnrollmentProblem, ResultStatus

Problems = tuple[EnrollmentProblem, ...]


class CourseSummary(NamedTuple):
    """What a result shows about a course."""

    id: int
    sis_id: str
    title: str | None


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


CleanRequest = tuple[str, int, int | str, list[int]]
"""A request of a chunk that is enrolled in every course it asks for: its id, the student's key, the
student as the request named it, and the keys of the courses."""


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
