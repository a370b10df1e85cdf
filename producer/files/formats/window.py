"""Group the pairs that rows name by student into requests, within a window of rows."""

from collections.abc import Iterator, Sequence
from itertools import compress, islice, pairwise
from operator import ne
from typing import Any

from producer.contract.chunks import COURSE_FIELDS
from producer.fields import MAX_COURSES
from producer.files.formats.base import DROP, KEEP
from producer.files.formats.verdicts import PLAIN, Verdict
from producer.files.grouping import WINDOW
from producer.publishing.chunking import SourceRecord

Id = int | str
Lists = tuple[list[Any], list[int], list[list[str] | str]]
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
        self.end = WINDOW
        """The last line of this window."""
        self.courses: set[Id] = set()
        """Valid ids of courses that are not over, also those of earlier windows."""

    def add(self, line: int, text: str | list[str], pair: tuple[Id, Id], verdict: Verdict) -> None:
        """Add the pair of a row, which is enrolled or dropped; `text` has the cells of the row."""
        student, course = pair
        is_drop = verdict.action is DROP
        key = (student, verdict.why) if is_drop else student
        latest = self.latest.get(key)
        if latest is not None and course not in latest[0] and len(latest[0]) < MAX_COURSES:
            courses, lines, cells = latest
            courses.append(course)
            lines.append(line)
            cells.append(text)
            return
        if not is_drop:
            self.begin(student, [course], [line], [text])
            return
        courses, lines, cells = self.latest[key] = [course], [line], [text]
        record = {
            "student_id": student, COURSE_FIELDS[DROP]: courses, "atomic": False,
            "reason": verdict.why,
        }  # fmt: skip
        self._requests.append(SourceRecord(record, lines, cells))

    def begin(
        self, student: Id, courses: list[Id], lines: list[int], cells: list[list[str] | str]
    ) -> None:
        """Begin another request of a student, who is enrolled in these courses."""
        self.latest[student] = courses, lines, cells
        record = {"student_id": student, _ENROLLS: courses, "atomic": False}
        self._requests.append(SourceRecord(record, lines, cells))

    def add_runs(
        self,
        students: Sequence[str | None],
        courses: list[str],
        lines: list[int],
        texts: list[list[str] | str],
    ) -> Iterator[int]:
        """Add rows that enroll students, with valid ids; those of a student often stand together.

        Yields the position of each row without a student, which is to be looked at before the next
        one is taken.
        """
        size = len(students)
        changes = compress(range(1, size), map(ne, students, islice(students, 1, None)))
        latest_of, add_request = self.latest, self._requests.append
        for begin, end in pairwise([0, *changes, size]):
            student, own, count = students[begin], courses[begin:end], end - begin
            if student is None:
                yield from range(begin, end)
            elif student not in latest_of and (
                count == 1 or (count <= MAX_COURSES and len(set(own)) == count)
            ):
                # This is `begin`, without the call: almost all rows are added here.
                own_lines, own_texts = lines[begin:end], texts[begin:end]
                latest_of[student] = own, own_lines, own_texts
                record = {"student_id": student, _ENROLLS: own, "atomic": False}
                add_request(SourceRecord(record, own_lines, own_texts))
            else:
                self._add_run(student, own, lines[begin:end], texts[begin:end])

    def _add_run(
        self, student: str, courses: list[str], lines: list[int], texts: list[list[str] | str]
    ) -> None:
        """Add the rows of a student who may have a request already."""
        before, its_lines, its_texts = self.latest.get(student, ([], [], []))
        count = len(before) + len(courses)
        if before and count <= MAX_COURSES and len({*before, *courses}) == count:
            before.extend(courses)
            its_lines.extend(lines)
            its_texts.extend(texts)
            return
        for course, line, text in zip(courses, lines, texts, strict=True):
            self.add(line, text, (student, course), PLAIN)

    def take_before(self, line: int) -> list[SourceRecord]:
        """Return the requests and begin another window if this line is not in this one."""
        if line <= self.end:
            return []
        self.end = line + WINDOW
        return self.take()

    def take(self) -> list[SourceRecord]:
        """Return the requests, and begin another window."""
        requests, self._requests = self._requests, []
        self.latest.clear()
        if len(self.courses) > MAX_KNOWN:
            self.courses.clear()
        return requests
