"""Answer searches of students and courses. Reads only; knows no Celery."""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from producer.contract.searching import (
    FoundCourse,
    FoundCourses,
    FoundStudent,
    FoundStudents,
    Search,
    has_plain_letters,
)
from worker.database.engine import Database
from worker.models import Course, Student
from worker.roster.search.repository import (
    Model,
    find_exact,
    find_largest_key,
    find_matching,
)

SEARCH_SECONDS: Final = 5.0
"""Seconds after which a search ends: it takes one or two seconds per million students."""

KEYS_AT_ONCE: Final = 50_000
"""How many keys one statement looks through; then the time is checked."""


class SearchTooLong(Exception):
    """A search took too long. The message says what the client can search for instead."""


class _Found(NamedTuple):
    rows: list[Any]
    more: bool


def find_students(
    database: Database, text: str, limit: int, timer: Callable[[], float] = time.monotonic
) -> FoundStudents:
    """Return at most `limit` students for a text, the best match first. Raises SearchTooLong."""
    found = _find(database, Student, text, limit, timer)
    students = [
        FoundStudent(id=row.id, sis_id=row.sis_id, name=row.name, email=row.email)
        for row in found.rows
    ]
    return FoundStudents(students=tuple(students), more=found.more)


def find_courses(
    database: Database, text: str, limit: int, timer: Callable[[], float] = time.monotonic
) -> FoundCourses:
    """Return at most `limit` courses for a text, the best match first. Raises SearchTooLong."""
    found = _find(database, Course, text, limit, timer)
    courses = [FoundCourse(id=row.id, sis_id=row.sis_id, title=row.title) for row in found.rows]
    return FoundCourses(courses=tuple(courses), more=found.more)


def _find(
    database: Database, model: Model, text: str, limit: int, timer: Callable[[], float]
) -> _Found:
    search, until = Search.of(text), timer() + SEARCH_SECONDS
    with database.reading() as connection:
        exact = find_exact(connection, model, search)
        scan = _Scan(connection, model, search, limit + 1)
        try:
            rows = scan.best(timer, until)
        except SearchTooLong:
            if not exact:
                raise
            return _Found(exact, more=True)
        if not rows and has_plain_letters(text):
            try:
                rows = scan.best(timer, until, any_accent=True)
            except SearchTooLong:  # Nothing matches as it is written.
                return _Found([], more=True)
    return _Found(rows[:limit], more=len(rows) > limit)


class _Scan(NamedTuple):
    """A search through the whole roster."""

    connection: Connection
    model: Model
    search: Search
    most: int

    def best(
        self, timer: Callable[[], float], until: float, *, any_accent: bool = False
    ) -> list[Any]:
        """Return the best matches of all keys, looked through a part at a time.

        Raises SearchTooLong once the time is up.
        """
        connection, model, search, most = self
        largest = find_largest_key(connection, model)
        best: list[Any] = []
        for first in range(0, largest, KEYS_AT_ONCE):
            if timer() > until:
                raise SearchTooLong(
                    f"the search took longer than {SEARCH_SECONDS:g} s, because the roster is large"
                    " or the database is busy; search for the whole SIS id, or try again later"
                )
            keys = (first, first + KEYS_AT_ONCE)
            best += find_matching(connection, model, search, keys, most, any_accent=any_accent)
            best = sorted(best, key=lambda row: (row.rank, row.id))[:most]
        return best
