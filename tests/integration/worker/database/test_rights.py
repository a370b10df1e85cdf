"""What a database refuses to write is reported in its own words, with a remedy that works."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError, OperationalError

from support.copies import Administer, as_role, name_of
from support.databases import count_rows, opened_database, store_roster
from worker import migrate
from worker.database.engine import Database
from worker.database.errors import Meaning, meaning_of
from worker.database.guard import DatabaseRefused
from worker.database.refusal import Refusal
from worker.database.rights import ONLY_READ, refused_writes
from worker.models import Base, Student

WRITTEN = [table.name for table in Base.metadata.sorted_tables if table not in ONLY_READ]
NEEDED = [
    *((table, right) for table in WRITTEN for right in ("SELECT", "INSERT", "UPDATE")),
    *((name, "DELETE") for name in ("student_courses", "past_enrollments")),
]
"""The tables of which a worker needs more than to read them, with each of these rights."""


@pytest.fixture
def owner_url(new_database: Callable[[str], str]) -> str:
    return new_database("postgresql")


@pytest.fixture
def role(administer: Administer, owner_url: str) -> str:
    """A role with the rights that docs/operations gives to workers, and no others."""
    name = f"r{uuid.uuid4().hex}"
    administer(f"CREATE ROLE {name} LOGIN")
    run(
        owner_url,
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}",
        f"REVOKE ALL ON database_identity FROM {name}",  # As if it was created later.
    )
    return name


@pytest.fixture
def worker(owner_url: str, role: str) -> Iterator[Database]:
    with opened_database(as_role(owner_url, role)) as database:
        yield database


def run(database_url: str, *statements: str) -> None:
    with opened_database(database_url) as database, database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement))


def refusal_of(database: Database) -> Refusal | None:
    with database.engine.connect() as connection:
        return refused_writes(connection)


def test_a_migrated_database_accepts_everything_and_is_unchanged(database: Database) -> None:
    store_roster(database, ["S1"], ["C"])
    assert refusal_of(database) is None
    assert count_rows(database, Student) == 1
    store_roster(database, ["S2"], [])
    with database.reading() as connection:
        assert connection.execute(text("SELECT max(id) FROM students")).scalar() == 2


def test_the_documented_rights_are_enough(worker: Database) -> None:
    assert refusal_of(worker) is None


@pytest.mark.parametrize(("table", "right"), NEEDED)
def test_a_revoked_right_is_reported_and_the_remedy_grants_it(
    worker: Database, owner_url: str, role: str, table: str, right: str
) -> None:
    run(owner_url, f"REVOKE {right} ON {table} FROM {role}")
    refusal = refusal_of(worker)
    assert refusal is not None
    assert f"permission denied for table {table}" in refusal.problem
    run(owner_url, refusal.remedy.partition("tables: ")[2])
    assert refusal_of(worker) is None


def test_a_revoked_sequence_is_reported_and_the_remedy_grants_it(
    worker: Database, owner_url: str, role: str
) -> None:
    run(owner_url, f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role}")
    refusal = refusal_of(worker)
    assert refusal is not None
    assert "permission denied for sequence students_id_seq" in refusal.problem
    run(owner_url, refusal.remedy.partition("tables: ")[2])
    assert refusal_of(worker) is None


def test_many_refusals_are_cut_short(worker: Database, owner_url: str, role: str) -> None:
    run(owner_url, f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}")
    refusal = refusal_of(worker)
    assert refusal is not None
    assert refusal.problem.count("permission denied") == 5
    assert refusal.problem.endswith("; and 12 more")


def test_a_read_only_role_is_reported_and_the_remedy_ends_it(
    worker: Database, owner_url: str, role: str
) -> None:
    run(owner_url, f"ALTER DATABASE {name_of(owner_url)} SET default_transaction_read_only = on")
    worker.close()
    refusal = refusal_of(worker)
    assert refusal is not None
    assert "cannot execute INSERT in a read-only transaction" in refusal.problem
    statements = refusal.remedy.partition("superuser: ")[2].partition("COMMIT;")
    with opened_database(owner_url) as owner, owner.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("".join(statements[:2]))
    worker.close()
    assert refusal_of(worker) is None


def test_a_lock_of_another_session_is_reported(worker: Database, owner_url: str) -> None:
    with opened_database(owner_url) as owner, owner.writing() as connection:
        connection.execute(text("LOCK TABLE student_courses"))
        refusal = refusal_of(worker)
    assert refusal is not None
    assert "canceling statement due to lock timeout" in refusal.problem
    assert "pg_locks" in refusal.remedy


def test_a_required_column_of_another_application_is_reported(
    worker: Database, owner_url: str
) -> None:
    run(owner_url, "ALTER TABLE students ADD semester text NOT NULL")
    refusal = refusal_of(worker)
    assert refusal is not None
    assert "the table students has the column semester" in refusal.problem
    assert "Drop the column" in refusal.remedy
    with pytest.raises(IntegrityError) as caught, worker.writing() as connection:
        connection.execute(insert(Student).values(sis_id="S"))
    assert meaning_of(caught.value) is Meaning.REFUSED
    run(owner_url, "ALTER TABLE students ALTER semester SET DEFAULT ''")
    assert refusal_of(worker) is None


def test_a_rule_of_another_application_is_not_the_fault_of_a_row(database: Database) -> None:
    """On both dialects; SQLite adds rules only to new tables."""
    index = "CREATE UNIQUE INDEX one_name ON students (name)"
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE students ADD CONSTRAINT short CHECK (name < 'b')"))
        else:
            connection.execute(text("DROP TABLE students"))
            connection.execute(
                text("CREATE TABLE students (id INTEGER PRIMARY KEY, sis_id, name, email,"
                     " CONSTRAINT short CHECK (name < 'b'))")
            )  # fmt: skip
        connection.execute(text(index))
    with pytest.raises(IntegrityError) as caught, database.writing() as connection:
        connection.execute(insert(Student).values(sis_id="S", name="zoe"))
    assert meaning_of(caught.value) is Meaning.REFUSED


@pytest.mark.parametrize(
    "fault", ["REVOKE USAGE ON SCHEMA public FROM PUBLIC", "ALTER ROLE {} SET search_path = other"]
)
def test_tables_that_a_role_does_not_see_are_no_missing_migration(
    worker: Database, owner_url: str, role: str, fault: str
) -> None:
    run(owner_url, fault.format(role))
    worker.close()
    with pytest.raises(OperationalError) as caught:
        migrate.revisions(worker.engine)
    refused = caught.value.orig
    assert isinstance(refused, DatabaseRefused)
    assert f"the role {role} does not see the tables" in refused.refusal.problem
    grant, set_path = refused.refusal.remedy.partition("schema: ")[2].split(
        " and if the path is wrong: "
    )
    set_path = set_path.partition(" If those tables belong to another deployment")[0]
    run(owner_url, grant, set_path)
    worker.close()
    assert migrate.is_current(worker.engine)


def test_a_trigger_that_refuses_is_not_asked(owner_url: str) -> None:
    """The probe writes no row, so it runs no code of others."""
    run(
        owner_url,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON students FOR EACH ROW EXECUTE FUNCTION no()",
    )
    with opened_database(owner_url) as database:
        assert refusal_of(database) is None
