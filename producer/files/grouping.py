"""Group pairs by student into requests, within a window of rows."""

from collections.abc import Callable, Iterator

from producer.contract.chunks import RefusedLine
from producer.files.cells import BadCell, Pair, Row, refused_line
from producer.files.layout import Lines
from producer.publishing.chunking import SourceRecord
from producer.schemas import MAX_COURSES

WINDOW = 5_000
"""Rows within which pairs are grouped by student: what the reader holds of a file."""


def group_requests(
    rows: Iterator[Row | RefusedLine], read: Callable[[list[str]], Pair], *, keep: bool
) -> Lines:
    """Group pairs by student within a window of rows, in the order of first mention.

    A pair that is there twice, and more than 100 courses, make a further request, so that every
    line is accounted for.
    """
    latest: dict[int | str, SourceRecord] = {}
    entries: list[SourceRecord] = []
    for place, one in enumerate(rows, 1):
        if not isinstance(one, tuple):
            yield one
        else:
            line, row = one
            try:
                student, course = read(row)
            except BadCell as bad:
                yield refused_line(line, row, bad)
            else:
                entry = latest.get(student)
                courses: list[int | str] = entry.record["course_ids"] if entry else []
                if entry is None or course in courses or len(courses) == MAX_COURSES:
                    record = {"student_id": student, "course_ids": [course], "atomic": False}
                    entry = latest[student] = SourceRecord(record, [line], [row] if keep else None)
                    entries.append(entry)
                else:
                    courses.append(course)
                    entry.add(line, row)
        if place % WINDOW == 0:
            yield from entries
            latest, entries = {}, []
    yield from entries
