"""A worker starts, and goes on, only with the database of its deployment."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import text

from producer.client import EnrollmentClient
from producer.contract.identity import REGISTER_FIELD
from producer.contract.keys import Keys
from support.commands import invoke_enroll, invoke_on_terminal
from support.copies import template_copy
from support.databases import count_rows, opened_database, sqlite_taken_away
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import ended_after, running_worker, start_worker, worker_environment
from worker.models import StudentCourse

DATABASES = ("sqlite", "postgresql")
ONE = "--concurrency=1"
REFUSED = 1
KEYS = Keys()


@pytest.fixture(params=DATABASES)
def urls(
    request: pytest.FixtureRequest, new_database: Callable[[str], str], tmp_path: Path
) -> tuple[str, str]:
    """A database and a copy of it."""
    original = new_database(request.param)
    if request.param == "postgresql":
        return original, template_copy(request.getfixturevalue("administer"), original)
    return original, copy_of_file(original, tmp_path)


def copy_of_file(database_url: str, folder: Path) -> str:
    copy = shutil.copy(database_url.removeprefix("sqlite:///"), folder / "copy.db")
    return f"sqlite:///{copy}"


@contextmanager
def starting(broker_url: str, database_url: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that may or may not start."""
    environment = worker_environment(broker_url, database_url) | {"ENROLL_DATABASE_WAIT": "1"}
    with ended_after(start_worker(environment, log, ONE, "--loglevel=INFO")) as process:
        yield process


def refusal(broker_url: str, database_url: str, log: Path) -> str:
    """Start a worker that must be refused, and return what it writes."""
    with starting(broker_url, database_url, log) as process:
        assert process.wait(60) == REFUSED, log.read_text()
    assert "Traceback" not in log.read_text()
    return log.read_text()


def database_command(
    *arguments: str, broker: str, database: str, typed: str = ""
) -> tuple[int, str]:
    variables = {"ENROLL_BROKER_URL": broker, "ENROLL_DATABASE_URL": database}
    done = invoke_on_terminal("database", *arguments, typed=typed, **variables)
    return done.exit_code, done.output


def test_a_worker_with_another_database_does_not_start_until_it_is_accepted(
    broker_url: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    original, copy = urls
    with running_worker(broker_url, original, tmp_path / "first", ONE) as first:
        printed = refusal(broker_url, copy, tmp_path / "second")
        assert "is a copy of the one that the workers of this Redis use" in printed
        assert "enroll database accept" in printed
        assert first.process.poll() is None
        # Without a confirmation, nothing changes.
        code, printed = database_command("accept", broker=broker_url, database=copy, typed="n\n")
        assert (code, "Nothing was changed" in printed) == (1, True)
        refusal(broker_url, copy, tmp_path / "again")
        code, printed = database_command("accept", "--yes", broker=broker_url, database=copy)
        assert (code, "Accepted" in printed) == (0, True), printed
        assert first.process.wait(60) == REFUSED  # It stops by itself.
        assert "The worker stops: The database" in first.log.read_text()
    with running_worker(broker_url, copy, tmp_path / "third", ONE):
        refusal(broker_url, original, tmp_path / "fourth")


def test_workers_share_a_database_and_register_it_again_in_a_flushed_redis(
    broker_url: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    original, copy = urls
    with (
        Redis.from_url(broker_url) as redis,
        running_worker(broker_url, original, tmp_path / "first", ONE) as first,
        running_worker(broker_url, original, tmp_path / "second", ONE),
    ):
        redis.flushall()
        wait_for(lambda: redis.hexists(KEYS.database, REGISTER_FIELD))
        assert first.process.poll() is None
        refusal(broker_url, copy, tmp_path / "third")


def test_rows_never_end_up_in_two_databases(
    broker_url: str, urls: tuple[str, str], tmp_path: Path
) -> None:
    original, copy = urls
    with (
        running_worker(broker_url, original, tmp_path / "first", ONE),
        starting(broker_url, copy, tmp_path / "second"),
        EnrollmentClient(broker_url, timeout=20) as client,
    ):
        enter_roster(client, [f"S{n}" for n in range(50)], ["C"])
        ids = [client.submit({"student_id": f"S{n}", "course_ids": ["C"]}) for n in range(50)]
        wait_for(lambda: all(status.state == "done" for status in client.statuses(ids)))
    with opened_database(original) as here, opened_database(copy) as there:
        assert (count_rows(here, StudentCourse), count_rows(there, StudentCourse)) == (50, 0)


def test_a_worker_whose_database_is_unavailable_at_the_start_is_checked_later(
    broker_url: str, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    original = new_database("sqlite")
    copy, log = copy_of_file(original, tmp_path), tmp_path / "second"
    with (
        running_worker(broker_url, original, tmp_path / "first", ONE),
        EnrollmentClient(broker_url, timeout=20) as client,
        contextlib.ExitStack() as stack,
    ):
        enter_roster(client, [f"S{n}" for n in range(50)], ["C"])
        with sqlite_taken_away(copy):
            second = stack.enter_context(starting(broker_url, copy, log))
            wait_for(lambda: " ready." in log.read_text())
            assert "not available yet" in log.read_text()
            ids = [client.submit({"student_id": f"S{n}", "course_ids": ["C"]}) for n in range(50)]
        assert second.wait(60) == REFUSED
        wait_for(lambda: all(status.state == "done" for status in client.statuses(ids)))
    assert "The worker stops: The database" in log.read_text()
    with opened_database(copy) as there:
        assert count_rows(there, StudentCourse) == 0


def test_a_worker_stops_when_its_file_is_replaced(
    broker_url: str, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    """Otherwise it would go on writing into the file that was replaced."""
    url = new_database("sqlite")
    with running_worker(broker_url, url, tmp_path / "log", ONE) as worker:
        copy = Path(copy_of_file(url, tmp_path).removeprefix("sqlite:///"))
        copy.replace(url.removeprefix("sqlite:///"))
        assert worker.process.wait(60) == REFUSED
        assert "was replaced by another one while the worker used it" in worker.log.read_text()
    refusal(broker_url, url, tmp_path / "again")


LOST_KEY = {
    "postgresql": "ALTER TABLE student_courses DROP CONSTRAINT pk_student_courses;",
    "sqlite": "CREATE TABLE aside AS SELECT * FROM student_courses;"
    " DROP TABLE student_courses; ALTER TABLE aside RENAME TO student_courses;",
}


def lose_the_key(database_url: str, dialect: str) -> None:
    """As in a restore that left the primary keys out."""
    with opened_database(database_url) as database, database.writing() as connection:
        for statement in filter(None, LOST_KEY[dialect].split(";")):
            connection.execute(text(statement))


@pytest.mark.parametrize("dialect", DATABASES)
def test_a_database_without_its_keys_is_refused_and_not_registered(
    broker_url: str, new_database: Callable[[str], str], tmp_path: Path, dialect: str
) -> None:
    url = new_database(dialect)
    lose_the_key(url, dialect)
    printed = refusal(broker_url, url, tmp_path / "log")
    assert "the primary key of student_courses (student_id, course_id) is missing" in printed
    assert ("ADD CONSTRAINT pk_student_courses" in printed) is (dialect == "postgresql")
    with Redis.from_url(broker_url) as redis:
        assert not redis.exists(KEYS.database)


def test_a_database_that_lost_its_keys_while_it_was_away_is_refused_when_it_is_back(
    broker_url: str, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, log = new_database("sqlite"), tmp_path / "log"
    lose_the_key(url, "sqlite")
    with contextlib.ExitStack() as stack:
        with sqlite_taken_away(url):
            process = stack.enter_context(starting(broker_url, url, log))
            wait_for(lambda: " ready." in log.read_text())
        assert process.wait(60) == REFUSED
    assert "The worker stops: The database cannot protect its rows from" in log.read_text()


def test_a_database_that_is_not_utf8_is_refused_before_it_is_migrated(
    broker_url: str,
    administer: Callable[[str], None],
    postgres: Callable[[str], str],
    tmp_path: Path,
) -> None:
    administer("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    printed = refusal(broker_url, postgres("ascii"), tmp_path / "log")
    assert "has the encoding SQL_ASCII, but must be UTF8" in printed
    done = invoke_enroll(
        *("doctor", "--broker", broker_url, "--timeout", "0.5", "--json"),
        ENROLL_DATABASE_URL=postgres("ascii"),
    )
    assert "has the encoding SQL_ASCII, but must be UTF8" in done.stdout
    administer("DROP DATABASE ascii")
