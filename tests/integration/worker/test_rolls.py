"""The rolls of several courses: every enrollment in them once, in parts of a bounded size."""

import zlib
from collections.abc import Sequence

import pytest

from producer.contract.history import CourseRolls
from producer.schemas import Kind
from support.chunks import apply_chunk, chunk
from support.databases import store_roster
from worker.answer_size import AnswerTooLarge
from worker.database.engine import Database
from worker.history.lookups import course_rolls

COURSES = [f"C{number}" for number in range(12)]
STUDENTS = [f"S{number}" for number in range(40)]


def hash_of(*texts: str) -> int:
    return zlib.crc32(" ".join(texts).encode())


@pytest.fixture
def pairs(database: Database) -> set[tuple[str, str]]:
    """Two thirds of all enrollments, without a pattern."""
    store_roster(database, STUDENTS, COURSES)
    chosen = {(s, c) for s in STUDENTS for c in COURSES if hash_of(s, c) % 3}
    records = [{"student_id": s, "course_ids": [c]} for s, c in sorted(chosen)]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*records))
    return chosen


def parts(database: Database, courses: Sequence[int | str], rows: int) -> list[CourseRolls]:
    found = [course_rolls(database, courses, None, rows)]
    while (after := found[-1].next) is not None:
        found.append(course_rolls(database, courses, after, rows))
    return found


@pytest.mark.parametrize("rows", [1, 7, 1_000])
def test_the_parts_of_rolls_have_every_enrollment_once(
    database: Database, pairs: set[tuple[str, str]], rows: int
) -> None:
    wanted = COURSES[2:7]
    found = parts(database, [*wanted, "nowhere"], rows)
    listed = [(s, c) for part in found for c, students in part.students.items() for s in students]
    assert sorted(listed) == sorted(pair for pair in pairs if pair[1] in wanted)
    assert len(found) == len(pairs) // rows + 1


def test_rolls_end_with_the_last_enrollment(
    database: Database, pairs: set[tuple[str, str]]
) -> None:
    whole = course_rolls(database, COURSES, None, len(pairs))
    assert whole.next is not None  # Whether another enrollment follows is not known yet.
    assert course_rolls(database, COURSES, whole.next) == CourseRolls()


def test_courses_that_do_not_exist_have_no_rolls(database: Database) -> None:
    assert course_rolls(database, ["nowhere", 4711]) == CourseRolls()


def test_a_part_that_is_too_large_says_what_to_do(
    database: Database, pairs: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.answer_size.MAX_ANSWER", 200)
    assert pairs
    with pytest.raises(AnswerTooLarge, match="ask for fewer courses at a time"):
        course_rolls(database, COURSES)
