"""Group the pairs of a plain file into requests a column at a time, for speed alone.

The requests are those of `producer.files.grouping`, which also reads what is not plain.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, compress, islice
from operator import itemgetter, ne

from producer.contract.chunks import COURSE_FIELDS, RefusedLine
from producer.fields import MAX_COURSES, MAX_TEXT
from producer.files.cells import Pair, Row
from producer.files.grouping import WINDOW, group_requests
from producer.files.layout import Lines
from producer.publishing.chunking import Block, LineStream, RequestColumns
from producer.schemas import Action

PART = 250
"""The number of rows that are taken apart at once; more would not stay in the processor's cache."""

Rows = Iterator[Row | RefusedLine]


def group_plain_pairs(
    rows: Rows,
    places: tuple[int, int],
    read: Callable[[list[str]], Pair],
    action: Action = Action.ENROLL,
) -> Lines:
    """Do what `group_requests` does for rows with two cells, which are SIS ids.

    `places` are the positions of the student and of the course in a row.
    """
    return LineStream(_blocks(rows, places, read, action))


def _blocks(
    rows: Rows, places: tuple[int, int], read: Callable[[list[str]], Pair], action: Action
) -> Iterator[Block]:
    may_be_plain = True
    while may_be_plain:
        window = _Window(rows, places)
        columns = window.grouped(COURSE_FIELDS[action])
        if columns is not None:
            if not columns.students:
                return
            yield columns
            continue
        # Many rows of a student stand together in most files that are in order: they are grouped
        # faster one by one, and so is the rest of the file.
        may_be_plain = not window.repeats_students
        yield from group_requests(window.rows(), read, action, keep_cells=False)
    yield from group_requests(rows, read, action, keep_cells=False)


class _Window:
    """The rows within which pairs are grouped: columns of the plain ones, and all others."""

    def __init__(self, rows: Rows, places: tuple[int, int]) -> None:
        self._places = places
        self._lines: list[int] = []
        self._columns: tuple[list[str], list[str]] = ([], [])
        self._others: list[Row | RefusedLine] = []
        self.repeats_students = False
        while not self._others and (room := min(PART, WINDOW - len(self._lines))):
            part = list(islice(rows, room))
            if not part:
                break
            self._take(part)
        self._others += islice(rows, WINDOW - len(self._lines) - len(self._others))

    def _take(self, part: Sequence[Row | RefusedLine]) -> None:
        if set(map(type, part)) == {tuple}:
            lines, cells = zip(*part, strict=True)
            ids = [list(map(str.strip, map(itemgetter(at), cells))) for at in self._places]
            if all(map(_are_plain, ids)):
                self._lines += lines
                for column, part_of_it in zip(self._columns, ids, strict=True):
                    column.extend(part_of_it)
                return
        self._others += part

    def rows(self) -> Rows:
        """Yield all rows of the window."""
        student_at, _ = self._places
        for line, student, course in zip(self._lines, *self._columns, strict=True):
            yield line, [course, student] if student_at else [student, course]
        yield from self._others

    def grouped(self, field: str) -> RequestColumns | None:
        """Return the requests, with the courses in this field; None if they are not so plain.

        Then a row is not plain, or most rows belong to the request of an earlier one.
        """
        if self._others:
            return None
        students, courses = self._columns
        numbers = range(len(students))
        first_of: dict[str, int] = {}
        firsts = map(first_of.setdefault, students, numbers)
        repeats = list(compress(numbers, map(ne, firsts, numbers)))
        self.repeats_students = 2 * len(repeats) > len(students)
        if self.repeats_students:
            return None
        wanted: list[tuple[str, ...]] = list(zip(courses, strict=True))
        if not repeats:
            return RequestColumns(field, students, wanted, self._lines)
        lines: list[tuple[int, ...]] = list(zip(self._lines, strict=True))
        latest: dict[str, int] = {}
        is_own = [True] * len(students)
        for number in repeats:
            student = students[number]
            at = latest.get(student, first_of[student])
            if courses[number] in wanted[at] or len(wanted[at]) == MAX_COURSES:
                latest[student] = number
            else:
                wanted[at] += wanted[number]
                lines[at] += lines[number]
                is_own[number] = False
        return RequestColumns(
            field,
            list(compress(students, is_own)),
            list(compress(wanted, is_own)),
            list(chain.from_iterable(compress(lines, is_own))),
        )


def _are_plain(ids: Sequence[str]) -> bool:
    """Return whether each of these texts is an id that no check would refuse."""
    return all(ids) and max(map(len, ids)) <= MAX_TEXT and "".join(ids).isprintable()
