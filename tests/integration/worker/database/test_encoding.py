"""A database of PostgreSQL that is not UTF-8 is refused, and the remedy works as printed."""

import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import select, text

from support.copies import Administer, connection_string
from support.databases import opened_database, store_roster
from support.pgbouncer import running_pgbouncer
from support.postgres import postgres_program
from worker import migrate
from worker.database.ask import through
from worker.database.encoding import wrong_encoding
from worker.database.engine import Database, make_engine
from worker.models import Student

ENCODINGS = ("SQL_ASCII", "LATIN1", "EUC_JP")


@pytest.fixture(params=ENCODINGS)
def other_url(
    request: pytest.FixtureRequest, administer: Administer, postgres: Callable[[str], str]
) -> Iterator[str]:
    """An empty database with another encoding."""
    name = f"t{uuid.uuid4().hex}"
    administer(f"CREATE DATABASE {name} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0")
    yield postgres(name)
    administer(f"DROP DATABASE {name} WITH (FORCE)")


def test_utf8_and_sqlite_are_right(database: Database) -> None:
    with database.reading() as connection:
        assert wrong_encoding(through(connection), database.engine.dialect.name) is None


def test_another_encoding_is_named_with_a_remedy_that_works(
    other_url: str, administer: Administer, postgres: Callable[[str], str]
) -> None:
    with opened_database(other_url) as database:
        with database.writing() as connection:
            connection.execute(text("CREATE TABLE kept (name text)"))
            connection.execute(text("INSERT INTO kept VALUES ('plain')"))
        with database.reading() as connection:
            refusal = wrong_encoding(through(connection), "postgresql")
    assert refusal is not None
    assert re.search(r"has the encoding (SQL_ASCII|LATIN1|EUC_JP), but must be UTF8", str(refusal))
    command = refusal.remedy.partition("`")[2].partition("`")[0]
    new = f"t{uuid.uuid4().hex}"
    folder, values = postgres_program("psql").rpartition("/")[0], connection_string(other_url)
    (host,) = re.findall(r"host=(\S+)", values)
    subprocess.run(
        ["/bin/sh", "-ec", command.replace("NEW", new)],
        env={"PATH": f"{folder}:/bin:/usr/bin", "PGHOST": host, "PGUSER": "postgres"},
        check=True,
        capture_output=True,
    )
    with opened_database(postgres(new)) as copied, copied.reading() as connection:
        assert wrong_encoding(through(connection), "postgresql") is None
        assert connection.execute(text("SELECT name FROM kept")).scalar_one() == "plain"
    administer(f"DROP DATABASE {new} WITH (FORCE)")


def test_it_is_not_migrated(
    other_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENROLL_DATABASE_URL", other_url)
    monkeypatch.setattr("sys.argv", ["migrate"])
    with pytest.raises(SystemExit, match="but must be UTF8"):
        migrate.main()
    engine = make_engine(other_url)
    assert migrate.revisions(engine)[0] == []
    engine.dispose()


def test_text_is_text_whatever_a_pooler_knows_of_the_server(
    new_database: Callable[[str], str],
) -> None:
    """A setting of the server changes sessions that a pooler holds, and it may not notice."""
    url = new_database("postgresql")
    with (
        running_pgbouncer(url) as pooled,
        closing(Database(f"{pooled}?pool_mode=transaction")) as database,
        closing(psycopg.connect(url, autocommit=True)) as operator,
    ):
        store_roster(database, ["Zoë"], ["C"])
        try:
            operator.execute("ALTER SYSTEM SET client_encoding = 'SQL_ASCII'")
            for _ in range(20):
                operator.execute("SELECT pg_reload_conf()")
                time.sleep(0.05)
                with database.writing() as connection:
                    assert connection.scalar(select(Student.sis_id)) == "Zoë"
        finally:
            operator.execute("ALTER SYSTEM RESET client_encoding")
            operator.execute("SELECT pg_reload_conf()")
