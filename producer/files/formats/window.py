"""Group the pairs that rows name by student into requests, within a window of rows."""

from producer.contract.chunks import COURSE_FIELDS
from producer.fields import MAX_COURSES
from producer.files.cells import Row
from producer.files.formats.base import DROP, KEEP
from producer.files.formats.judging import Verdict
from producer.publishing.chunking import CELL_END, SourceRecord

Id = int | str

MAX_KNOWN = 10_000
"""The most courses that are remembered."""


class Window:
    """The requests for the pairs of some rows, in the order in which students appear.

    The enrollments of a student are one request, and so are the drops with one reason. A repeated
    pair, or a course beyond the hundredth, starts another request, so that every line is counted.
    """

    def __init__(self) -> None:
        self._requests: list[SourceRecord] = []
        self.latest: dict[Id | tuple[Id, str], SourceRecord] = {}
        """The latest request of each student, and of each student with a reason for a drop."""
        self.courses: set[Id] = set()
        """Valid ids of courses, also those of earlier windows."""

    def add(self, entry: Row, pair: tuple[Id, Id], verdict: Verdict) -> None:
        """Add the pair of a row, which is enrolled or dropped."""
        (line, row), (student, course) = entry, pair
        field = COURSE_FIELDS[DROP if verdict.action is DROP else KEEP]
        key = (student, verdict.why) if verdict.action is DROP else student
        request = self.latest.get(key)
        courses = request.record[field] if request else []
        if request is None or course in courses or len(courses) == MAX_COURSES:
            record = {"student_id": student, field: [course], "atomic": False}
            if verdict.action is DROP:
                record["reason"] = verdict.why
            self.latest[key] = request = SourceRecord(record, [line], [CELL_END.join(row)])
            self._requests.append(request)
        else:
            courses.append(course)
            request.add(line, CELL_END.join(row))
        self.courses.add(course)

    def take(self) -> list[SourceRecord]:
        """Return the requests, and begin another window."""
        requests, self._requests = self._requests, []
        self.latest.clear()
        if len(self.courses) > MAX_KNOWN:
            self.courses.clear()
        return requests
