"""While the database cannot store anything, no message is acknowledged before its commit."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.schemas import Code, Kind
from support.databases import sqlite_taken_away
from support.fleet import fleet
from support.folders import folder_for_all_users
from support.requirements import require_program
from support.rosters import enter_roster, finished
from support.waiting import wait_for

SIZE = 24 * 1024 * 1024


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 24 MiB; the test is skipped if the user is not allowed to mount one."""
    mount, unmount = require_program("mount"), require_program("umount")
    with folder_for_all_users() as folder:
        command = [mount, "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            # This is a skip in CI too: in most containers, not even root may mount one.
            pytest.skip("This user is not allowed to mount a small disk.")
        yield folder
        subprocess.run([unmount, "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fill the file system completely."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


@pytest.fixture
def database_on_it(request: pytest.FixtureRequest, small_disk: Path) -> Iterator[str]:
    new_database = request.getfixturevalue("new_database")
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), small_disk / "enrollment.db")
        yield f"sqlite:///{small_disk / 'enrollment.db'}"
        return
    server: Any = request.getfixturevalue("postgres_server")
    url = new_database("postgresql")
    name = make_url(url).database
    space = small_disk / "space"
    space.mkdir()
    if server.system_user:
        shutil.chown(space, server.system_user)  # Its server runs as another user.
    with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
        connection.execute(f"ALTER DATABASE {name} SET TABLESPACE small")
        yield url
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute("DROP TABLESPACE small")


@pytest.mark.parametrize("database_on_it", ["sqlite", "postgresql"], indirect=True)
def test_a_full_disk_delays_work_and_loses_nothing(
    tmp_path: Path, small_disk: Path, database_on_it: str
) -> None:
    students = [f"S{n}" for n in range(2_000)]
    records = [{"student_id": f"S{n}", "course_ids": ["C1", "C2"]} for n in range(2_000)]
    with (
        fleet(tmp_path, database_on_it) as made,
        EnrollmentClient(made.broker.url, timeout=30) as client,
    ):
        made.start_worker()
        enter_roster(client, students, ["C1", "C2"])
        filler = fill(small_disk)
        batch_id = client.submit_batch(Kind.ENROLLMENTS, records).batch_id
        wait_for(lambda: "The database is unavailable" in made.log.read_text())
        time.sleep(5)
        status = client.batch(batch_id)
        assert (status.books.received, status.books.not_applied) == (4_000, 4_000)
        filler.unlink()
        assert finished(client, batch_id).books.enrolled == 4_000
        # The outage is logged, but not in a flood of lines.
        assert 1 <= made.log.read_text().count("The database is unavailable") < 10


def test_an_outage_is_not_counted_as_a_failed_attempt(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    with (
        fleet(tmp_path, new_database("sqlite")) as made,
        EnrollmentClient(made.broker.url, timeout=30) as client,
    ):
        with sqlite_taken_away(made.database_url):
            made.start_worker(ENROLL_DATABASE_WAIT="1", ENROLL_MAX_ATTEMPTS="1")
            single = client.submit({"student_id": "S1", "course_ids": ["C1"]})
            batch = client.submit_batch(Kind.STUDENTS, [{"sis_id": "S1"}])
            wait_for(lambda: made.log.read_text().count("task requeued") >= 4)
        wait_for(lambda: client.status(single).state == "done")
        wait_for(lambda: client.batch(batch.batch_id).state == "done")
        result = client.status(single).result
        assert result is not None
        assert [problem.code for problem in result.errors] != [Code.NOT_PROCESSED]
        assert made.broker.redis.hgetall(Keys().attempts) == {}
