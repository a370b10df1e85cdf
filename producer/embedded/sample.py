"""Generate a sample roster and batch with deliberate mistakes, the same on every machine."""

import csv
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

STUDENTS = 5_000
COURSES = 200
ENROLLMENTS = 25_000
UNKNOWN_STUDENTS = 40
UNKNOWN_COURSES = 60
EMPTY_COURSES = 15
BROKEN_LINES = 10
REPEATED = 250

_SUBJECTS = ("Algebra", "Botany", "Chemistry", "Drawing", "Ethics", "Finance", "Geology", "History")
_LEVELS = ("Foundations of", "Topics in", "Advanced", "Seminar:", "Laboratory:")
_STARTS = ("Al", "Be", "Ca", "Da", "El", "Fi", "Ga", "Ho", "Iv", "Jo", "Ka", "Li", "Mo", "Ni")
_ENDS = ("dan", "lia", "mir", "nor", "ra", "sen", "tias", "vin", "wen", "zoe")


def write_sample(folder: Path) -> list[Path]:
    """Write enrollments.csv, students.csv and courses.csv; return their paths in this order."""
    chance = random.Random(20_260_901)  # noqa: S311 - a sample must be the same everywhere
    students = [f"S{100_000 + number}" for number in range(STUDENTS)]
    courses = [f"C{number:03}-2026" for number in range(COURSES)]
    roster = ((s, _name(chance), f"{s.lower()}@example.edu") for s in students)
    titles = (
        (course, f"{chance.choice(_LEVELS)} {chance.choice(_SUBJECTS)} {number + 1}")
        for number, course in enumerate(courses)
    )
    return [
        _write(folder / "enrollments.csv", _PAIR, _pairs(chance, students, courses)),
        _write(folder / "students.csv", ("sis_id", "name", "email"), roster),
        _write(folder / "courses.csv", ("sis_id", "title"), titles),
    ]


_PAIR = ("student_sis_id", "course_sis_id")


def _pairs(
    chance: random.Random, students: Sequence[str], courses: Sequence[str]
) -> list[tuple[str, ...]]:
    pairs: dict[tuple[str, ...], None] = {}
    while len(pairs) < ENROLLMENTS:
        pairs[chance.choice(students), chance.choice(courses)] = None
    rows = list(pairs)
    rows += chance.sample(rows, REPEATED)
    rows += [(f"S9{n:05}", chance.choice(courses)) for n in range(UNKNOWN_STUDENTS)]
    rows += [(chance.choice(students), f"X{n % 3}-2026") for n in range(UNKNOWN_COURSES)]
    rows += [(chance.choice(students), "") for _ in range(EMPTY_COURSES)]
    rows += [(chance.choice(students),) for _ in range(BROKEN_LINES)]
    chance.shuffle(rows)
    return rows


def _name(chance: random.Random) -> str:
    return " ".join(chance.choice(_STARTS) + chance.choice(_ENDS) for _ in range(2))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path
