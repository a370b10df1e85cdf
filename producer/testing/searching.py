"""Search students and courses in memory, by the rule of a worker."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from producer.contract.searching import (
    FoundCourse,
    FoundCourses,
    FoundStudent,
    FoundStudents,
    Search,
    has_plain_letters,
    pattern_of,
)
from producer.testing.roster import RosterPart
from producer.testing.rulebook import Enrollments


def find_students(enrollments: Enrollments, text: str, limit: int) -> FoundStudents:
    """Return at most `limit` students for a text, the best match first."""
    found = _ranked(enrollments.students, text, "name")
    students = [
        FoundStudent(
            id=key, sis_id=fields["sis_id"], name=fields.get("name"), email=fields.get("email")
        )
        for key, fields in found[:limit]
    ]
    return FoundStudents(students=tuple(students), more=len(found) > limit)


def find_courses(enrollments: Enrollments, text: str, limit: int) -> FoundCourses:
    """Return at most `limit` courses for a text, the best match first."""
    found = _ranked(enrollments.courses, text, "title")
    courses = [
        FoundCourse(id=key, sis_id=fields["sis_id"], title=fields.get("title"))
        for key, fields in found[:limit]
    ]
    return FoundCourses(courses=tuple(courses), more=len(found) > limit)


def _ranked(part: RosterPart, text: str, name: str) -> list[tuple[int, Mapping[str, Any]]]:
    for any_accent in (False, True) if has_plain_letters(text) else (False,):
        ranks = _Ranks(Search.of(text), name, any_accent)
        ranked = [(ranks.of(fields), key, fields) for key, fields in part.all_fields()]
        matching = [(rank, key, fields) for rank, key, fields in ranked if rank is not None]
        if matching:
            matching.sort(key=lambda match: match[:2])
            return [(key, fields) for _, key, fields in matching]
    return []


class _Ranks(NamedTuple):
    """A search, in which letters without accents may stand for those with one."""

    search: Search
    name: str
    any_accent: bool

    def of(self, fields: Mapping[str, Any]) -> int | None:
        """Return how well a student or course matches, 0 for best; None if not at all."""
        return _rank(self.search, fields, self.name, self._pattern)

    def _pattern(self, text: str) -> str:
        return pattern_of(text, re.escape, any_accent=self.any_accent)


def _rank(
    search: Search, fields: Mapping[str, Any], name: str, pattern: Callable[[str], str]
) -> int | None:
    if fields["sis_id"] == search.whole:
        return 0
    whole = re.compile(pattern(search.whole))
    if whole.fullmatch(fields["sis_id"]):
        return 1
    if search.number is not None and fields["sis_id"].lstrip("0") == search.number:
        return 2
    if whole.fullmatch(fields.get("email") or ""):
        return 3
    title = fields.get(name) or ""
    has_words = all(re.search(pattern(word), title) for word in search.words)
    return 4 if has_words else None
