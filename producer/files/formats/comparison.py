"""Compare a complete export with the current enrollments of its sections.

What the export names is stored on the disk, so that memory stays flat.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Final, NamedTuple, Protocol

from producer.contract.history import CourseRolls
from producer.errors import EnrollmentError, NoWorkerAnswered, UnreadableFile
from producer.fields import MAX_LOOKUP
from producer.files.layout import FileLayout, Named
from producer.schemas import Kind

Rolls = Callable[[Sequence[str], tuple[int, int] | None], CourseRolls]
"""Returns a part of the rolls of some courses, after the `next` of another part."""

COMPARISON_SECONDS: Final = 600.0
"""The longest time that a comparison may take."""

_SHOWN = 3
"""How many sections a notice names."""


class Source(Protocol):
    """A file that can be read again."""

    @property
    def layout(self) -> FileLayout:
        """Return what its first lines show."""

    def named(self) -> Iterator[Named]:
        """Yield which courses and students the file names. Raises UnreadableFile."""


class Comparison(NamedTuple):
    """How many current enrollments of its sections an export does not name.

    `not_in_file` is None if they could not be counted. `notice` says so, or what was counted; it
    is None if there is nothing to say.
    """

    not_in_file: int | None
    notice: str | None


def is_complete(sources: Iterable[Source]) -> bool:
    """Return whether files of an export name all current enrollments of their sections."""
    layouts = [s.layout for s in sources if s.layout.kind is Kind.ENROLLMENTS]
    return bool(layouts) and all(layout.is_complete and layout.named for layout in layouts)


def compare(name: str, sources: Iterable[Source], rolls: Rolls, seconds: float) -> Comparison:
    """Compare what the files of an export name with the current enrollments, within `seconds`.

    `name` is that of the export in notices. A failure is part of the result: the export has been
    submitted whatever the comparison says.
    """
    named = chain.from_iterable(source.named() for source in sources)
    try:
        with closing(_Names()) as names:
            names.add(named)
            names.compare(rolls, seconds)
            total, sections = names.total(), names.largest()
    except EnrollmentError as error:
        return Comparison(
            None,
            f"{name}: the current enrollments that it does not name could not be counted. {error}",
        )
    return Comparison(total, _sentence(name, total, sections) if total else None)


def _sentence(name: str, total: int, sections: Sequence[tuple[str, int]]) -> str:
    shown = ", ".join(f"{count:,} in {course!a}" for course, count in sections)
    if total == 1:
        return (
            f"{name}: 1 enrollment is current here, but not in the file ({shown}). The student was"
            " not dropped; submit a drop if the student has left, or submit the export as a"
            " snapshot."
        )
    others = "" if sum(count for _, count in sections) == total else " and more in other sections"
    return (
        f"{name}: {total:,} enrollments are current here, but not in the file ({shown}{others})."
        " No student was dropped; submit drops for those who have left, or submit the export as a"
        " snapshot."
    )


class _Names:
    """What an export names, in a temporary file without a name, which `close` removes."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        # Nothing of it outlives the process, so nothing needs to be safe on the disk.
        self._run("PRAGMA synchronous = OFF")
        self._run("PRAGMA journal_mode = OFF")
        self._run("CREATE TABLE named (course TEXT, student TEXT)")
        self._run("CREATE TABLE lacking (course TEXT PRIMARY KEY, students INTEGER) WITHOUT ROWID")

    def _run(self, statement: str, *values: object) -> list[tuple[str, int]]:
        """Run a statement. Raises UnreadableFile if there is no room."""
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _no_room(error) from None

    def add(self, named: Iterable[Named]) -> None:
        """Add what an export names. Raises UnreadableFile."""
        self._run("BEGIN")
        try:
            self._database.executemany("INSERT INTO named VALUES (?, ?)", named)
        except sqlite3.Error as error:
            raise _no_room(error) from None
        self._run("COMMIT")
        self._run("CREATE INDEX named_pair ON named (course, student)")

    def compare(self, rolls: Rolls, seconds: float) -> None:
        """Look up the rolls of all sections, and count who is not named.

        Raises NoWorkerAnswered, also when time has run out.
        """
        deadline = time.monotonic() + seconds
        for courses in self._courses():
            after = None
            while True:
                part = rolls(courses, after)
                self._count(part.students)
                after = part.next
                if after is None:
                    break
                if time.monotonic() > deadline:
                    raise NoWorkerAnswered(f"Not all were looked up within {seconds:g} s.")

    def _courses(self) -> Iterator[list[str]]:
        """Yield the sections, as many as one lookup takes."""
        page = "SELECT DISTINCT course FROM named WHERE course > ? ORDER BY course LIMIT ?"
        last = ""
        while courses := [row[0] for row in self._run(page, last, MAX_LOOKUP)]:
            yield courses
            last = courses[-1]

    def _count(self, students: Mapping[str, Sequence[str]]) -> None:
        """Count the students of a part of the rolls who are not named in their course."""
        for course, enrolled in students.items():
            ((count,),) = self._database.execute(
                "SELECT count(*) FROM json_each(?) AS enrolled WHERE NOT EXISTS"
                " (SELECT 1 FROM named WHERE course = ? AND student = enrolled.value)",
                (json.dumps(enrolled), course),
            )
            if count:
                self._run(
                    "INSERT INTO lacking VALUES (?, ?) ON CONFLICT (course)"
                    " DO UPDATE SET students = students + excluded.students",
                    course,
                    count,
                )

    def total(self) -> int:
        """Return how many enrollments are not named."""
        ((total,),) = self._database.execute("SELECT coalesce(sum(students), 0) FROM lacking")
        return int(total)

    def largest(self) -> list[tuple[str, int]]:
        """Return the sections with the most of them, each with how many it has."""
        return self._run(
            "SELECT course, students FROM lacking ORDER BY students DESC, course LIMIT ?", _SHOWN
        )

    def close(self) -> None:
        """Remove the file."""
        self._database.close()


def _no_room(error: sqlite3.Error) -> UnreadableFile:
    return UnreadableFile(
        f"What it names could not be stored in a temporary file: {error}. Make room on the disk, or"
        " name another folder in TMPDIR or SQLITE_TMPDIR."
    )
