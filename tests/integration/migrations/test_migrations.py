"""The migrations make exactly the tables of the models, on both databases, and go both ways."""

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from support.migrations import run_alembic
from worker import migrate
from worker.database.engine import make_engine


def test_models_and_migrations_agree(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    run_alembic(engine, "upgrade", "head")
    run_alembic(engine, "check")
    engine.dispose()


def test_each_migration_goes_down_and_up_again(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    revisions = list(ScriptDirectory.from_config(migrate.alembic_config()).walk_revisions())
    for revision in reversed(revisions):
        before = str(revision.down_revision or "base")
        run_alembic(engine, "upgrade", revision.revision)
        run_alembic(engine, "downgrade", before)
        run_alembic(engine, "upgrade", revision.revision)
    run_alembic(engine, "downgrade", "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_every_constraint_and_index_has_a_name(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    migrate.upgrade(engine)
    tables = inspect(engine)
    for table in set(tables.get_table_names()) - {"alembic_version"}:
        named = [
            tables.get_pk_constraint(table),
            *tables.get_foreign_keys(table),
            *tables.get_unique_constraints(table),
            *tables.get_indexes(table),
        ]
        assert all(str(thing["name"]).startswith(("pk_", "fk_", "uq_", "ix_")) for thing in named)
    engine.dispose()


def test_the_migrations_have_a_single_head() -> None:
    script = ScriptDirectory.from_config(migrate.alembic_config())
    assert len(script.get_heads()) == 1
    names = [revision.path.split("/")[-1] for revision in script.walk_revisions()]
    assert any("create_student_courses_table" in name for name in names)


def test_alembic_ini_finds_the_same_migrations() -> None:
    from_ini = ScriptDirectory.from_config(Config("alembic.ini"))
    assert from_ini.get_heads() == ScriptDirectory.from_config(migrate.alembic_config()).get_heads()
