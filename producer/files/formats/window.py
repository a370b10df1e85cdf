"""Group the pairs that rows name by student into requests, within a window of rows."""

from producer.contract.chunks import COURSE_FIELDS
from producer.fields import MAX_COURSES
from producer.files.cells import Row
from producer.files.formats.base import DROP, KEEP
from producer.files.formats.verdicts import Verdict
from producer.publishing.chunking import CELL_END, SourceRecord

Id = int | str
Lists = tuple[list[Id], list[int], list[list[str] | str]]
"""The courses of a request, and the lines and cells that they are from; lists that may grow."""

_ENROLLS = COURSE_FIELDS[KEEP]
MAX_KNOWN = 10_000
"""The most courses that are remembered."""


class Window:
    """The requests for the pairs of some rows, in the order in which students appear.

    The enrollments of a student are one request, and so are the drops with one reason. A repeated
    pair, or a course beyond the hundredth, starts another request, so that every line is counted.
    """

    def __init__(self) -> None:
        self._requests: list[SourceRecord] = []
        self.latest: dict[Id | tuple[Id, str], Lists] = {}
        """The latest request of each student, and of each student with a reason for a drop."""
        self.courses: set[Id] = set()
        """Valid ids of courses that are not over, also those of earlier windows."""

    def add(self, entry: Row, pair: tuple[Id, Id], verdict: Verdict) -> None:
        """Add the pair of a row, which is enrolled or dropped."""
        (line, row), (student, course) = entry, pair
        is_drop = verdict.action is DROP
        key = (student, verdict.why) if is_drop else student
        latest = self.latest.get(key)
        if latest is not None and course not in latest[0] and len(latest[0]) < MAX_COURSES:
            courses, lines, cells = latest
            courses.append(course)
            lines.append(line)
            cells.append(CELL_END.join(row))
            return
        courses, lines, cells = self.latest[key] = [course], [line], [CELL_END.join(row)]
        field = COURSE_FIELDS[DROP if is_drop else KEEP]
        record = {"student_id": student, field: courses, "atomic": False}
        if is_drop:
            record["reason"] = verdict.why
        self._requests.append(SourceRecord(record, lines, cells))

    def begin(self, student: str, course: str, entry: Row) -> None:
        """Begin a request of a student who has none yet, and is enrolled in this course."""
        line, row = entry
        courses, lines, cells = self.latest[student] = [course], [line], [CELL_END.join(row)]
        record = {"student_id": student, _ENROLLS: courses, "atomic": False}
        self._requests.append(SourceRecord(record, lines, cells))

    def take(self) -> list[SourceRecord]:
        """Return the requests, and begin another window."""
        requests, self._requests = self._requests, []
        self.latest.clear()
        if len(self.courses) > MAX_KNOWN:
            self.courses.clear()
        return requests
