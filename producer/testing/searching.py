"""Search students and courses in memory, by the rule of a worker."""

import re
from collections.abc import Mapping
from typing import Any

from producer.contract.searching import (
    FoundCourse,
    FoundCourses,
    FoundStudent,
    FoundStudents,
    Search,
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
    search = Search.of(text)
    ranked = [(_rank(search, fields, name), key, fields) for key, fields in part.all_fields()]
    matching = [(rank, key, fields) for rank, key, fields in ranked if rank is not None]
    return [(key, fields) for _, key, fields in sorted(matching, key=lambda match: match[:2])]


def _rank(search: Search, fields: Mapping[str, Any], name: str) -> int | None:
    """Return how well a student or course matches, 0 for best; None if not at all."""
    if fields["sis_id"] == search.whole:
        return 0
    whole = re.compile(pattern_of(search.whole, re.escape))
    if whole.fullmatch(fields["sis_id"]):
        return 1
    if search.number is not None and fields["sis_id"].lstrip("0") == search.number:
        return 2
    if whole.fullmatch(fields.get("email") or ""):
        return 3
    title = fields.get(name) or ""
    has_words = all(re.search(pattern_of(word, re.escape), title) for word in search.words)
    return 4 if has_words else None
