"""What pairs are compared with: the script that a database administrator would write.

It copies the file into a temporary table, lists the refused rows, and enrolls the others, sorted by
the primary key. It keeps no results and no counts, and cannot be resumed. Like the yardstick's
tables, it must never change, or ratios of different versions could not be compared.
"""

import random
import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import rig
from producer.client import EnrollmentClient

STAGE = "CREATE TEMPORARY TABLE incoming (student varchar(255), course varchar(255)) ON COMMIT DROP"
REFUSED = """
SELECT i.student, i.course FROM incoming i
LEFT JOIN yardstick_students s ON s.sis_id = i.student
LEFT JOIN yardstick_courses c ON c.sis_id = i.course
WHERE s.id IS NULL OR c.id IS NULL
"""
ENROLL = """
INSERT INTO yardstick (student_id, course_id, enrolled_at)
SELECT s.id, c.id, now() FROM incoming i
JOIN yardstick_students s ON s.sis_id = i.student
JOIN yardstick_courses c ON c.sis_id = i.course
ORDER BY s.id, c.id
ON CONFLICT DO NOTHING
"""
OTHERS = ("enrollment_results", "past_enrollments", "batches", "batch_chunks", "batch_refusals")
"""Our tables that may grow with an enrollment, besides `student_courses`."""


def script_seconds(servers: rig.Rig, path: Path) -> float:
    """Return how long the script takes for a file of pairs, in seconds."""
    with servers.database("yardstick") as url, psycopg.connect(url) as connection:
        started = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute(STAGE)
            with cursor.copy("COPY incoming FROM STDIN (FORMAT csv, HEADER)") as copy:
                copy.write(path.read_bytes())
            assert cursor.execute(REFUSED).fetchall() == []
            enrolled = cursor.execute(ENROLL).rowcount
        connection.commit()
        seconds = time.perf_counter() - started
    assert enrolled == rig.STUDENTS * rig.COURSES_EACH
    return seconds


def sizes(database_url: str) -> tuple[int, int]:
    """Return the bytes of `student_courses` without its index, and those of all other tables."""
    with psycopg.connect(database_url) as connection:
        own = _size(connection, "pg_table_size", "student_courses")
        return own, sum(_size(connection, "pg_total_relation_size", name) for name in OTHERS)


def _size(connection: "psycopg.Connection[Any]", function: str, table: str) -> int:
    row = connection.execute(f"SELECT {function}('{table}')").fetchone()
    assert row is not None
    return int(row[0])


def bytes_beyond_the_row(servers: rig.Rig, before: tuple[int, int], database_url: str) -> float:
    """Return the bytes on disk of a fresh pair beyond its row of the yardstick's table.

    `before` are the sizes before the pairs were enrolled. An index on the pair belongs to the row.
    """
    rows = rig.STUDENTS * rig.COURSES_EACH
    own, others = (after - was for after, was in zip(sizes(database_url), before, strict=True))
    with servers.database("yardstick") as url:
        rig.copy_seconds(url, rig.pairs_by_student())
        with psycopg.connect(url) as connection:
            row = _size(connection, "pg_table_size", "yardstick")
    return (own - row + others) / rows


def check_by_id(client: EnrollmentClient, students: int) -> None:
    """Ask for results by student and then by request id; both must say the same."""
    sample = random.Random(rig.SEED).sample(range(1, rig.STUDENTS + 1), students)
    by_student = client.results_of([f"S{n}" for n in sample])
    results = {result.request_id: result for found in by_student for result in found}
    enrolled = sum(len(result.enrolled_courses) for result in results.values())
    assert enrolled == students * rig.COURSES_EACH
    ids = sorted(results)
    for start in range(0, len(ids), 1_000):
        part = ids[start : start + 1_000]
        for request_id, status in zip(part, client.statuses(part), strict=True):
            assert status.result == results[request_id], request_id
