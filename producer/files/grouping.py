"""Group pairs by student into requests, within a window of rows."""

from collections.abc import Callable, Iterator

from producer.contract.chunks import COURSE_FIELDS, RefusedLine
from producer.fields import MAX_COURSES
from producer.files.cells import Pair, Row, refused_line, request_of
from producer.files.columns import BadCell
from producer.files.layout import Lines
from producer.publishing.chunking import SourceRecord
from producer.schemas import Action

WINDOW = 5_000
"""The number of rows within which pairs are grouped; the reader holds this much of a file."""


def group_requests(
    rows: Iterator[Row | RefusedLine],
    read: Callable[[list[str]], Pair],
    action: Action = Action.ENROLL,
    *,
    keep_cells: bool,
) -> Lines:
    """Group pairs by student within a window of rows, in the order in which students appear.

    A repeated pair, or a course beyond the hundredth, starts another request for the student, so
    that every line is counted. A line with a reason or a time of its own is a request of its own.
    """
    field = COURSE_FIELDS[action]
    latest: dict[int | str, SourceRecord] = {}
    requests: list[SourceRecord] = []
    for row_number, entry in enumerate(rows, 1):
        if not isinstance(entry, tuple):
            yield entry
        else:
            line, row = entry
            try:
                pair = student, course, details = read(row)
            except BadCell as bad_cell:
                yield refused_line(line, row, bad_cell)
            else:
                request = None if details else latest.get(student)
                courses: list[int | str] = request.record[field] if request else []
                if request is None or course in courses or len(courses) == MAX_COURSES:
                    record = request_of(pair, action)
                    request = SourceRecord(record, [line], [row] if keep_cells else None)
                    requests.append(request)
                    if not details:
                        latest[student] = request
                else:
                    courses.append(course)
                    request.add(line, row)
        if row_number % WINDOW == 0:
            yield from requests
            latest, requests = {}, []
    yield from requests
