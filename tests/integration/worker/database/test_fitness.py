"""A database that lost what keeps its rows right is noticed, and the remedy works as printed."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from support.copies import dump_and_restore
from support.databases import count_rows, opened_database, store_roster, url_of
from support.paths import ROOT
from worker.database.ask import through
from worker.database.constraints import FOREIGN, Key, required_keys
from worker.database.engine import Database
from worker.database.fitness import unusable, unusable_for_long
from worker.database.refusal import Refusal
from worker.database.sequences import NUMBERED
from worker.models import Base, Student

RUNBOOK = ROOT / "docs" / "operations" / "runbook.md"
KEYS = list(required_keys())
FOREIGN_KEYS = [(key, name) for key, name in KEYS if key.kind == FOREIGN]


@pytest.fixture
def postgresql(new_database: Callable[[str], str]) -> Iterator[Database]:
    """A migrated database of PostgreSQL."""
    with opened_database(new_database("postgresql")) as database:
        yield database


def refusal_of(database: Database) -> Refusal | None:
    with database.reading() as connection:
        return unusable_for_long(through(connection), database.engine.dialect.name)


def run(database: Database, *statements: str) -> None:
    with database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement))


def run_remedy(database: Database, refusal: Refusal | None) -> None:
    """Do what the remedy says."""
    assert refusal is not None
    run(database, refusal.remedy.partition("tables: ")[2].partition(" If rows")[0])


def test_what_the_migrations_make_is_complete(database: Database) -> None:
    assert refusal_of(database) is None
    kinds = {key.kind for key, _ in KEYS}
    assert kinds == {"primary key", "unique key", "foreign key"}
    assert {key.table for key, _ in KEYS} == set(Base.metadata.tables)


@pytest.mark.parametrize(("key", "name"), KEYS, ids=[name for _, name in KEYS])
def test_a_dropped_key_is_named_and_its_remedy_works(
    postgresql: Database, key: Key, name: str
) -> None:
    store_roster(postgresql, ["S1", "S2"], ["C"])
    run(postgresql, f"ALTER TABLE {key.table} DROP CONSTRAINT {name} CASCADE")
    refusal = refusal_of(postgresql)
    assert refusal is not None
    assert f"{key} is missing" in refusal.problem
    run_remedy(postgresql, refusal)
    assert refusal_of(postgresql) is None


WEAKENED = {
    "not valid": (
        "ALTER TABLE {table} DROP CONSTRAINT {name}",
        (
            "ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY ({columns})"
            " REFERENCES {target} ({target_columns}) NOT VALID"
        ),
    ),
    "triggers of the table": ("ALTER TABLE {table} DISABLE TRIGGER ALL",),
    "triggers of the other table": ("ALTER TABLE {target} DISABLE TRIGGER ALL",),
    "only on replicas": ("ALTER TABLE {table} DISABLE TRIGGER ALL", "{as_replica}"),
    "not enforced": ("ALTER TABLE {table} ALTER CONSTRAINT {name} NOT ENFORCED",),
}
AS_REPLICA = (
    "DO $$ DECLARE t name; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid ="
    " '{table}'::regclass LOOP EXECUTE format('ALTER TABLE {table} ENABLE REPLICA TRIGGER %I', t);"
    " END LOOP; END $$"
)


@pytest.mark.parametrize("how", WEAKENED)
@pytest.mark.parametrize(("key", "name"), FOREIGN_KEYS, ids=[name for _, name in FOREIGN_KEYS])
def test_a_foreign_key_that_is_not_enforced_is_named_and_its_remedy_works(
    postgresql: Database, key: Key, name: str, how: str
) -> None:
    values = {
        "table": key.table,
        "name": name,
        "columns": ", ".join(key.columns),
        "target": key.target,
        "target_columns": ", ".join(key.target_columns),
    }
    values["as_replica"] = AS_REPLICA.format(**values)
    run(postgresql, *(statement.format(**values) for statement in WEAKENED[how]))
    refusal = refusal_of(postgresql)
    assert refusal is not None
    assert str(key) in refusal.problem
    run_remedy(postgresql, refusal)
    assert refusal_of(postgresql) is None


def test_a_key_with_an_invalid_index_is_named(postgresql: Database) -> None:
    run(
        postgresql,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'uq_students_sis_id'::regclass",
    )
    refusal = refusal_of(postgresql)
    assert refusal is not None
    assert "the unique key of students (sis_id) has an invalid index" in refusal.problem
    run_remedy(postgresql, refusal)
    assert refusal_of(postgresql) is None


def test_the_same_key_in_another_order_or_under_another_name_is_as_good(
    postgresql: Database,
) -> None:
    run(
        postgresql,
        "ALTER TABLE student_courses DROP CONSTRAINT pk_student_courses",
        "ALTER TABLE student_courses ADD CONSTRAINT mine PRIMARY KEY (course_id, student_id)",
    )
    assert refusal_of(postgresql) is None


def test_keys_of_the_same_table_in_another_schema_do_not_count(postgresql: Database) -> None:
    run(
        postgresql,
        "CREATE SCHEMA aside",
        "CREATE TABLE aside.student_courses (LIKE student_courses INCLUDING ALL)",
        "ALTER TABLE student_courses DROP CONSTRAINT pk_student_courses",
    )
    assert "student_courses (student_id, course_id)" in str(refusal_of(postgresql))


def test_a_restore_without_the_keys_is_noticed(
    postgresql: Database, empty_postgres_url: str
) -> None:
    store_roster(postgresql, [f"S{n}" for n in range(100)], ["C"])
    dump_and_restore(url_of(postgresql), empty_postgres_url, "--section=pre-data", "--section=data")
    with opened_database(empty_postgres_url) as restored:
        refusal = refusal_of(restored)
        assert refusal is not None
        assert all(str(key) in refusal.problem for key, _ in KEYS)
        run_remedy(restored, refusal)
        assert refusal_of(restored) is None


def test_rows_that_were_copied_with_their_ids_leave_the_sequence_behind(
    postgresql: Database,
) -> None:
    """As tools do that copy the rows alone."""
    run(
        postgresql,
        "INSERT INTO students (id, sis_id) SELECT n, 'S' || n FROM generate_series(1, 100) n",
    )
    refusal = refusal_of(postgresql)
    assert refusal is not None
    assert "the sequence of students.id is behind its rows" in refusal.problem
    run_remedy(postgresql, refusal)
    assert refusal_of(postgresql) is None
    store_roster(postgresql, ["S-new"], [])


@pytest.mark.parametrize(("table", "column"), NUMBERED)
def test_a_column_without_its_sequence_is_noticed(
    postgresql: Database, table: str, column: str
) -> None:
    store_roster(postgresql, ["S1", "S2"], ["C"])
    run(postgresql, f"DROP SEQUENCE {table}_{column}_seq CASCADE")
    refusal = refusal_of(postgresql)
    assert refusal is not None
    assert f"the column {column} of {table} has no sequence" in refusal.problem
    run_remedy(postgresql, refusal)
    assert refusal_of(postgresql) is None
    store_roster(postgresql, ["S-new"], ["C-new"])


def test_a_lock_on_our_tables_does_not_hold_up_a_new_connection(
    postgresql: Database, new_database: Callable[[str], str]
) -> None:
    tables = ", ".join(Base.metadata.tables)
    with postgresql.writing() as holder, opened_database(url_of(postgresql)) as other:
        holder.execute(text(f"LOCK TABLE {tables}"))
        with other.writing() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            assert unusable(through(connection), "postgresql") is None


@pytest.mark.parametrize("table", Base.metadata.tables)
def test_a_missing_table_is_named_before_its_keys(database: Database, table: str) -> None:
    run(database, f"ALTER TABLE {table} RENAME TO aside")
    refusal = refusal_of(database)
    assert refusal is not None
    assert f"the table {table} is missing" in refusal.problem
    assert f" of {table} (" not in refusal.problem
    assert "python -m worker.migrate" in refusal.remedy
    run(database, f"ALTER TABLE aside RENAME TO {table}")
    assert refusal_of(database) is None


def copy_rows(source: Path, target: Path) -> None:
    """Do what the runbook says for SQLite."""
    (script,) = re.findall(r"```sql\n(ATTACH.*?)```", RUNBOOK.read_text(), flags=re.DOTALL)
    with contextlib.closing(sqlite3.connect(target)) as database:
        database.executescript(script.replace("/path/to/old.db", str(source)))


@pytest.mark.parametrize(("key", "name"), KEYS, ids=[name for _, name in KEYS])
def test_a_key_that_sqlite_lost_is_named_and_the_runbook_helps(
    new_database: Callable[[str], str], key: Key, name: str
) -> None:
    path = Path(new_database("sqlite").removeprefix("sqlite:///"))
    with opened_database(f"sqlite:///{path}") as database:
        store_roster(database, ["S1", "S2"], ["C"])
    with contextlib.closing(sqlite3.connect(path)) as plain, plain:
        # As in a copy that was made with CREATE TABLE … AS SELECT.
        plain.execute("PRAGMA legacy_alter_table = ON")  # Triggers may name a missing table.
        plain.execute(f"CREATE TABLE aside AS SELECT * FROM {key.table}")  # noqa: S608
        plain.execute(f"DROP TABLE {key.table}")
        plain.execute(f"ALTER TABLE aside RENAME TO {key.table}")
    with opened_database(f"sqlite:///{path}") as damaged:
        refusal = refusal_of(damaged)
    assert refusal is not None
    assert f"{key} is missing" in refusal.problem
    assert "docs/operations/runbook.md" in refusal.remedy
    fresh = Path(new_database("sqlite").removeprefix("sqlite:///"))
    copy_rows(path, fresh)
    with opened_database(f"sqlite:///{fresh}") as repaired:
        assert refusal_of(repaired) is None
        assert count_rows(repaired, Student) == 2
