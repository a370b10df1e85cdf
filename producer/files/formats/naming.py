"""Read which courses the files of a complete export describe, and which students they name.

Nothing is refused here: that was done where the lines were read as records.
"""

from collections.abc import Iterator, Mapping

from producer.fields import MAX_TEXT
from producer.files.columns import BadCell, ColumnReader
from producer.files.formats.base import PASS
from producer.files.formats.judging import Judge
from producer.files.formats.table_reader import Rows
from producer.files.layout import Named


def named_in_rows(
    rows: Rows, width: int, readers: Mapping[str, ColumnReader], judge: Judge
) -> Iterator[Named]:
    """Yield what the rows of a table of enrollments or courses name.

    A refused line counts if its ids can be read. A line about a teacher describes its course. So
    does a course that has been deleted upstream: its students may still be enrolled here.
    """
    course = readers.get("course_id") or readers["sis_id"]
    student = readers.get("student_id")
    for entry in rows:
        row = entry[1] if isinstance(entry, tuple) else entry.cells and list(entry.cells)
        if not row or len(row) != width or not _is_id(sis_id := course(row)):
            continue
        if student is None or not _is_student(judge, row) or not _is_id(user := student(row)):
            yield Named(sis_id)
        else:
            yield Named(sis_id, user)


def _is_student(judge: Judge, row: list[str]) -> bool:
    """Return whether a line may be about a student; so may one whose role cannot be read."""
    try:
        return judge(row).action is not PASS
    except BadCell:
        return True


def _is_id(text: str) -> bool:
    return 0 < len(text) <= MAX_TEXT
