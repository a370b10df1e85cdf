"""`python -m worker.migrate`: what an operator does to the schema."""

import pytest
from sqlalchemy import inspect, text

from support.migrations import run_alembic
from worker import migrate
from worker.database.engine import make_engine


def test_a_database_is_current_only_at_the_newest_migration(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    assert not migrate.is_current(engine)
    run_alembic(engine, "upgrade", "0002")
    assert not migrate.is_current(engine)
    migrate.upgrade(engine)
    assert migrate.is_current(engine)
    engine.dispose()


def test_an_operator_can_downgrade_and_upgrade_again(
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
    with pytest.raises(
        SystemExit,
        match=f"no migration 9999; choose one of {', '.join(f'{n:04}' for n in range(1, 11))}",
    ):
        run("--to", "9999")
    engine = make_engine(empty_database_url)
    assert inspect(engine).get_table_names() == []
    assert run() == "Migrated: none -> 0015"
    assert run() == "Nothing to do: 0015"
    assert run("--to", "0003") == "Migrated: 0015 -> 0003"
    assert migrate.revisions(engine) == (["0003"], ["0015"])
    assert run() == "Migrated: 0003 -> 0015"
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(SystemExit, match="0099, which this version does not know"):
        run("--to", "0003")
    engine.dispose()
