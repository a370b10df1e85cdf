"""Remember when the classes of a package end with their last term; decide which lines that ends.

What is remembered lies on the disk, so that memory stays flat.
"""

from collections.abc import Iterable, Sequence
from datetime import date, tzinfo
from typing import NamedTuple

from producer.fields import MAX_TEXT
from producer.files.columns import ColumnReader
from producer.files.formats.base import DROP, KEEP
from producer.files.formats.dates import days_of, is_plausible
from producer.files.formats.scratch import ScratchTables
from producer.files.formats.verdicts import TERM_ENDED, UNSURE, Verdict

_DELETED = 0
"""The end of a term that has been deleted: it does not count."""
_OPEN = date.max.toordinal()
"""The end of a term or a class whose end is not known: it is never over."""
_MAX_REMEMBERED = 10_000
"""The most classes whose end is held in memory."""


class Term(NamedTuple):
    """A term and its last day, None if that is not known. A deleted term does not count."""

    sis_id: str
    end: date | None
    is_deleted: bool = False


class ClassTerms(NamedTuple):
    """A class, the ids of its terms, and those of the classes that it is a part of.

    `own_end` is an end of its own, which counts if it is later than theirs.
    """

    sis_id: str
    terms: Sequence[str] = ()
    classes: Sequence[str] = ()
    own_end: date | None = None


class Terms:
    """The ends of the terms and of the classes of a package."""

    def __init__(self) -> None:
        self._tables = ScratchTables(
            "The terms",
            "CREATE TABLE terms (id TEXT PRIMARY KEY, ends INTEGER) WITHOUT ROWID",
            "CREATE TABLE classes (id TEXT PRIMARY KEY, ends INTEGER) WITHOUT ROWID",
        )
        self._remembered: dict[str, date | None] = {}

    def add_terms(self, terms: Iterable[Term]) -> None:
        """Add terms. Of several lines about a term, the latest end counts.

        Raises UnreadableFile if there is no room.
        """
        self._write("terms", ((term.sis_id, _stored(term)) for term in terms))

    def add_classes(self, classes: Iterable[ClassTerms]) -> None:
        """Add classes; all terms, and the classes that they are parts of, must have been added.

        Raises UnreadableFile if there is no room.
        """
        self._write("classes", ((class_.sis_id, self._last_end(class_)) for class_ in classes))

    def _write(self, table: str, rows: Iterable[tuple[str, int]]) -> None:
        statement = (
            f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT (id)"  # noqa: S608 - our own names
            " DO UPDATE SET ends = max(ends, excluded.ends)"
        )
        self._tables.write(statement, (row for row in rows if len(row[0]) <= MAX_TEXT))

    def knows(self, term: str) -> bool:
        """Return whether a term has been added."""
        return self._tables.find("SELECT id FROM terms WHERE id = ?", term) is not None

    def _last_end(self, class_: ClassTerms) -> int:
        ends = [
            *(self._tables.find("SELECT ends FROM terms WHERE id = ?", t) for t in class_.terms),
            *(
                self._tables.find("SELECT ends FROM classes WHERE id = ?", c)
                for c in class_.classes
            ),
        ]
        counting = [_OPEN if end is None else int(end) for end in ends if end != _DELETED]
        own_end = _DELETED if class_.own_end is None else class_.own_end.toordinal()
        return max(own_end, max(counting, default=_OPEN))

    def end_of(self, class_: str) -> date | None:
        """Return the last day of a class; None if it is not known."""
        if class_ not in self._remembered:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            ends = self._tables.find("SELECT ends FROM classes WHERE id = ?", class_)
            is_known = ends is not None and ends != _OPEN
            self._remembered[class_] = date.fromordinal(ends) if is_known else None
        return self._remembered[class_]

    def close(self) -> None:
        """Remove the file."""
        self._tables.close()


def _stored(term: Term) -> int:
    if term.is_deleted:
        return _DELETED
    return _OPEN if term.end is None else term.end.toordinal()


class ClassEnds:
    """Ends the lines of one reading that have no end of their own with the last term of the class.

    `places` are the positions of the dates of a line, None if the file lacks them. `closing` is the
    position of the status and what it is in a line that has ended, if the end alone does not count.
    """

    def __init__(
        self,
        terms: Terms,
        read_class: ColumnReader,
        places: tuple[int | None, int | None],
        today: date,
        zone: tzinfo,
        closing: tuple[int, str] | None = None,
    ) -> None:
        self._closing = closing
        self._terms = terms
        self._read_class = read_class
        self._begin_at, self._end_at = places
        self._today = today
        self._zone = zone

    def is_over(self, class_: int | str) -> bool:
        """Return whether the last term of a class has ended."""
        end = self._terms.end_of(class_) if isinstance(class_, str) else None
        return end is not None and end < self._today

    def apply(self, row: list[str], verdict: Verdict) -> Verdict:
        """Return the verdict on a row, which may have ended with the last term of its class.

        The end is written into the cell for the end of the row, or into that for its status. If
        the row is refused and comes back without its package, it has ended there as well.
        """
        end_at = self._end_at
        if verdict.action is not KEEP or (end_at is not None and row[end_at].strip()):
            return verdict
        class_ = self._read_class(row)
        end = self._terms.end_of(class_) if len(class_) <= MAX_TEXT else None
        if end is None or end >= self._today:
            return verdict
        begin = "" if self._begin_at is None else row[self._begin_at].strip()
        if not is_plausible(days_of(begin, self._zone) if begin else (), (end,)):
            return Verdict(KEEP, "", UNSURE, end.isoformat())
        if self._closing is not None:
            status_at, word = self._closing
            row[status_at] = word
        elif end_at is not None:
            row[end_at] = end.isoformat()
        return Verdict(DROP, TERM_ENDED)
