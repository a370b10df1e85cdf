"""How PostgreSQL finds what is looked for."""

from collections.abc import Callable

from sqlalchemy import text

from worker import repository
from worker.database import Database
from worker.models import Student


def test_a_plan_made_while_a_table_was_small_enters_its_index(
    new_database: Callable[[str], str],
) -> None:
    database = Database(new_database("postgresql"))
    names = [f"S{n}" for n in range(5)]
    with database.writing() as connection:
        repository.upsert_roster(connection, Student, [{"sis_id": name} for name in names])
        connection.execute(text("ANALYZE students"))
    with database.reading() as connection:
        for _ in range(20):  # Prepared after the fifth, planned for good after the tenth.
            repository.find_keys(connection, Student, names)
        kept = "SELECT name, generic_plans FROM pg_prepared_statements WHERE statement ~ 'agg'"
        ((name, generic_plans),) = connection.execute(text(kept))
        lines = connection.execute(text(f"EXPLAIN EXECUTE {name}('{{S1,S2}}')")).scalars().all()
    database.close()
    plan = "\n".join(lines)
    assert generic_plans > 0
    assert "uq_students_sis_id" in plan
    assert "Seq Scan" not in plan
