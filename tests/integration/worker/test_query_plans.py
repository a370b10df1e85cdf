"""PostgreSQL uses an index for everything that it looks up."""

import re
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, text

from producer.schemas import Code, Kind
from support.databases import store_roster
from worker.batches.apply import apply_chunk
from worker.batches.repository import find_entries
from worker.database.engine import Database
from worker.enrollment.derived.repository import find_derived, find_derived_of_student
from worker.enrollment.incoming import read_request
from worker.models import Student
from worker.refused_lines.repository import find_refused_ids
from worker.repository import find_keys, find_least_and_largest
from worker.service import add_enrollments

NAMES = [f"S{n}" for n in range(30)]


@pytest.fixture
def small_database(new_database: Callable[[str], str]) -> Iterator[Database]:
    """A database with a few rows, and statistics that agree."""
    database = Database(new_database("postgresql"))
    store_roster(database, NAMES, NAMES)
    with database.writing() as connection:
        connection.execute(text("ANALYZE students, courses"))
    yield database
    database.close()


def kept_plan(connection: Connection, part: str) -> str:
    """Return the plan that PostgreSQL has cached for a prepared statement, for any values."""
    prepared = text(
        "SELECT name, cardinality(parameter_types), generic_plans FROM pg_prepared_statements"
        " WHERE statement LIKE :part ORDER BY generic_plans DESC LIMIT 1"
    )
    ((name, count, generic_plans),) = connection.execute(prepared, {"part": f"%{part}%"})
    assert generic_plans > 0
    values = ", ".join(["NULL"] * count)
    lines = connection.execute(text(f"EXPLAIN EXECUTE {name}({values})")).scalars().all()
    return "\n".join(lines)


def test_a_plan_made_for_a_small_table_uses_the_index(small_database: Database) -> None:
    with small_database.writing() as connection:
        for _ in range(20):  # Prepared after the fifth, planned for good after the tenth.
            find_keys(connection, Student, NAMES)
        plan = kept_plan(connection, "json_object_agg")
    assert "uq_students_sis_id" in plan
    assert "Seq Scan" not in plan


def test_a_request_finds_everything_it_names_by_index(small_database: Database) -> None:
    with small_database.writing() as connection:
        for number in range(20):
            record = {"student_id": NAMES[number], "course_ids": NAMES[:3]}
            add_enrollments(connection, [read_request(f"r{number}", [record], {})])
        plan = kept_plan(connection, "request_id = any(")
    for index in ("uq_students_sis_id", "uq_courses_sis_id", "pk_enrollment_results"):
        # Without a condition, the whole index would be scanned.
        assert re.search(rf"(using|on) {index} .*\n *Index Cond:", plan), plan
    assert "Seq Scan" not in plan


def test_chunks_that_are_applied_together_find_their_entries_by_index(
    small_database: Database,
) -> None:
    with small_database.writing() as connection:
        for number in range(20):
            find_entries(connection, [(f"b{n}", number) for n in range(3)])
        plan = kept_plan(connection, "batch_chunks.number = any(")
    for index in ("pk_batches", "pk_batch_chunks"):
        assert re.search(rf"(using|on) {index} .*\n *Index Cond:", plan), plan
    assert "Seq Scan" not in plan


def test_what_an_unknown_id_may_mean_is_found_by_index(small_database: Database) -> None:
    ranges = [(f"{n}.00E+05", f"{n}00000", f"{n}00999") for n in range(1, 5)]
    with small_database.writing() as connection:
        for _ in range(20):
            find_least_and_largest(connection, Student, ranges)
            find_refused_ids(connection, "b", Code.UNKNOWN_STUDENT, 10)
        ends = kept_plan(connection, "length(students.sis_id)")
        refusals = kept_plan(connection, "ORDER BY batch_refusals.code, batch_refusals.line")
    assert len(re.findall(r"uq_students_sis_id .*\n *Index Cond:", ends)) == 2, ends
    assert re.search(r"batch_id_code_line .*\n *Index Cond:", refusals), refusals


def test_derived_results_are_found_by_index(small_database: Database) -> None:
    columns = {"student_ids": NAMES, "course_ids": [[name] for name in NAMES]}
    payload = {"batch_id": "b", "number": 0, "last": True, "requests": columns}
    apply_chunk(small_database, Kind.ENROLLMENTS, payload)
    with small_database.writing() as connection:
        connection.execute(text("ANALYZE"))
        for number in range(20):
            assert len(find_derived_of_student(connection, number + 1, 10)) == 1
            assert len(find_derived(connection, [f"b:0:{number}"])) == 1
        by_student = kept_plan(connection, "past_enrollments")
        by_id = kept_plan(connection, "substr(batch_chunks.fresh")
    for index in ("pk_student_courses", "pk_past_enrollments"):
        assert re.search(rf"(using|on) {index} .*\n *Index Cond:", by_student), by_student
    assert "Seq Scan" not in by_student
    assert "Seq Scan" not in by_id
