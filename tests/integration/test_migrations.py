"""The migrations make exactly the tables of the models, on both databases, and go both ways."""

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from worker import migrate
from worker.database.engine import make_engine


def _run(engine: Engine, step: str, target: str = "") -> None:
    config = migrate.alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        _COMMANDS[step](config, target)


_COMMANDS = {
    "upgrade": command.upgrade,
    "downgrade": command.downgrade,
    "check": lambda config, _: command.check(config),
}


def test_models_and_migrations_agree(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    _run(engine, "upgrade", "head")
    _run(engine, "check")
    engine.dispose()


def test_each_migration_goes_down_and_up_again(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    revisions = list(ScriptDirectory.from_config(migrate.alembic_config()).walk_revisions())
    for revision in reversed(revisions):
        before = str(revision.down_revision or "base")
        _run(engine, "upgrade", revision.revision)
        _run(engine, "downgrade", before)
        _run(engine, "upgrade", revision.revision)
    _run(engine, "downgrade", "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_a_database_is_current_only_at_the_newest_migration(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    assert not migrate.is_current(engine)
    _run(engine, "upgrade", "0002")
    assert not migrate.is_current(engine)
    migrate.upgrade(engine)
    assert migrate.is_current(engine)
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


def test_there_is_one_line_of_migrations() -> None:
    script = ScriptDirectory.from_config(migrate.alembic_config())
    assert len(script.get_heads()) == 1
    names = [revision.path.split("/")[-1] for revision in script.walk_revisions()]
    assert any("create_student_courses_table" in name for name in names)


def test_alembic_ini_finds_the_same_migrations() -> None:
    from_ini = ScriptDirectory.from_config(Config("alembic.ini"))
    assert from_ini.get_heads() == ScriptDirectory.from_config(migrate.alembic_config()).get_heads()


def test_an_operator_goes_back_and_forth(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENROLL_DATABASE_URL", empty_database_url)

    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["migrate", *arguments])
        migrate.main()
        return capsys.readouterr().out.strip()

    with pytest.raises(SystemExit) as helped:
        run("--help")
    assert helped.value.code == 0
    assert "--to REVISION" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no migration 9999; choose one of 0001, 0002, 0003, 0004"):
        run("--to", "9999")
    engine = make_engine(empty_database_url)
    assert inspect(engine).get_table_names() == []
    assert run() == "Migrated: none -> 0004"
    assert run() == "Nothing to do: 0004"
    assert run("--to", "0003") == "Migrated: 0004 -> 0003"
    assert migrate.revisions(engine) == (["0003"], ["0004"])
    assert run() == "Migrated: 0003 -> 0004"
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(SystemExit, match="0099, which this version does not know"):
        run("--to", "0003")
    engine.dispose()
