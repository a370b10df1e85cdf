"""Databases are told apart, on both dialects, with real copies."""

import shutil
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from producer.contract.identity import DatabaseIdentity
from support.copies import Administer, as_role, dump_and_restore, name_of, template_copy
from support.databases import identity_of, opened_database
from support.pgbouncer import running_pgbouncer
from support.standby import Pair, PairDatabase
from support.waiting import wait_for
from worker import migrate
from worker.database.engine import Database, make_engine
from worker.database.identity import NoIdentity, renew_identity


def identity(database_url: str) -> DatabaseIdentity:
    with opened_database(database_url) as database:
        return identity_of(database)


def path_of(database_url: str) -> Path:
    return Path(database_url.removeprefix("sqlite:///"))


def test_a_database_keeps_its_identity(database: Database) -> None:
    first = identity_of(database)
    database.close()
    assert identity_of(database) == first


def test_databases_that_were_migrated_apart_differ(
    empty_database_url: str, new_database: Callable[[str], str]
) -> None:
    engine = make_engine(empty_database_url)
    migrate.upgrade(engine)
    engine.dispose()
    mine, other = identity(empty_database_url), identity(new_database("sqlite"))
    assert mine.id != other.id
    assert not mine.is_same(other)


def test_a_template_copy_is_another_database(
    administer: Administer, new_database: Callable[[str], str]
) -> None:
    original = new_database("postgresql")
    copy = template_copy(administer, original)
    assert identity(copy).id == identity(original).id
    assert identity(copy).cluster == identity(original).cluster
    assert not identity(copy).is_same(identity(original))


def test_a_restored_dump_is_another_database(
    empty_postgres_url: str, new_database: Callable[[str], str]
) -> None:
    original = new_database("postgresql")
    dump_and_restore(original, empty_postgres_url)
    assert identity(empty_postgres_url).id == identity(original).id
    assert not identity(empty_postgres_url).is_same(identity(original))


def test_a_role_without_the_right_to_read_the_cluster_sees_the_same_database(
    administer: Administer, new_database: Callable[[str], str]
) -> None:
    url, role = new_database("postgresql"), f"r{uuid.uuid4().hex}"
    administer(f"CREATE ROLE {role} LOGIN")
    seen = identity(as_role(url, role))
    assert seen == identity(url)
    with opened_database(url) as database, database.writing() as connection:
        connection.execute(text("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"))
    seen = identity(as_role(url, role))
    assert seen.cluster is None
    assert seen.is_same(identity(url))


def test_a_promoted_standby_is_the_same_database(postgres_pair: Pair) -> None:
    database = PairDatabase(postgres_pair)
    before = identity(database.url)
    wait_for(postgres_pair.is_caught_up)
    standby = f"postgresql://postgres@127.0.0.1:{postgres_pair.standby.port}/{database.name}"
    assert identity(standby).is_same(before)
    postgres_pair.switch_over()
    postgres_pair.name.lead_to(postgres_pair.primary.port)
    assert identity(database.url).is_same(before)


def test_a_pooler_before_the_database_makes_no_difference(
    new_database: Callable[[str], str],
) -> None:
    url = new_database("postgresql")
    with running_pgbouncer(url) as pooled:
        assert identity(f"{pooled}?pool_mode=transaction").is_same(identity(url))


def test_a_password_is_not_part_of_the_place(new_database: Callable[[str], str]) -> None:
    url = new_database("postgresql").replace("postgres:@", "postgres:a-password@")
    seen = identity(url)
    assert "a-password" not in seen.model_dump_json()
    assert "postgres:" not in seen.place
    assert name_of(url) in seen.place


def test_a_moved_file_is_the_same_database_and_a_copied_one_is_not(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database("sqlite")
    path, original = path_of(url), identity(url)
    moved = path.rename(path.with_name("moved.db"))
    assert identity(f"sqlite:///{moved}").is_same(original)
    copy = shutil.copy2(moved, tmp_path / "copy.db")
    assert identity(f"sqlite:///{copy}").id == original.id
    assert not identity(f"sqlite:///{copy}").is_same(original)


def test_a_linked_file_is_the_same_database(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    """As one volume that containers mount at different paths."""
    url = new_database("sqlite")
    for link in (tmp_path / "hard.db", tmp_path / "soft.db"):
        (link.hardlink_to if link.name == "hard.db" else link.symlink_to)(path_of(url))
        assert identity(f"sqlite:///{link}").is_same(identity(url))


def test_a_backup_that_is_restored_in_place_is_the_same_database(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database("sqlite")
    original = identity(url)
    with sqlite3.connect(path_of(url)) as source, sqlite3.connect(tmp_path / "backup") as backup:
        source.backup(backup)
        backup.backup(source)
    assert identity(url).is_same(original)
    assert not identity(f"sqlite:///{tmp_path / 'backup'}").is_same(original)


def test_a_relative_path_is_shown_whole(
    new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(new_database("sqlite"))
    monkeypatch.chdir(path.parent)
    assert Path(identity(f"sqlite:///{path.name}").place).samefile(path)


def test_a_new_identity_is_another_database(database: Database) -> None:
    before = identity_of(database)
    with database.writing() as connection:
        renew_identity(connection)
    assert identity_of(database).id != before.id
    assert not identity_of(database).is_same(before)


def test_a_lost_identity_is_named_with_its_remedy(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("DELETE FROM database_identity"))
    with pytest.raises(NoIdentity, match="enroll database renew"):
        identity_of(database)
    with database.writing() as connection:
        renew_identity(connection)
    assert identity_of(database).id


def test_there_is_only_one_identity(database: Database) -> None:
    insert = text(
        "INSERT INTO database_identity (singleton, id, created_at)"
        " VALUES (:number, 'x', CURRENT_TIMESTAMP)"
    )
    for number in (1, 2):
        with pytest.raises(IntegrityError), database.writing() as connection:
            connection.execute(insert, {"number": number})
