"""Store rosters in a database, read its enrollments and dead letters, make it unavailable."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import delete, event, func, select

from producer.contract.identity import DatabaseIdentity
from producer.contract.rosters import RosterRecord, merge
from worker.database.ask import through
from worker.database.engine import Database
from worker.database.identity import read_identity
from worker.dead_letters.repository import find_dead_letters
from worker.models import (
    Batch,
    BatchChunk,
    BatchRefusal,
    Course,
    EnrollmentResult,
    Student,
    StudentCourse,
)
from worker.roster.repository import fields_of, upsert_roster


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def without_syncing(database: Database) -> Database:
    """Let an SQLite database never wait for the disk, because no test cuts the power."""

    @event.listens_for(database.engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    return database


@contextmanager
def opened_database(database_url: str) -> Iterator[Database]:
    """Open a database by its URL, and close it at the end."""
    database = Database(database_url)
    try:
        yield database
    finally:
        database.close()


def store_roster(database: Database, students: Iterable[str], courses: Iterable[str]) -> None:
    """Store students and courses by their SIS ids; in an empty database their keys begin at 1."""
    with database.writing() as connection:
        for model, names in ((Student, students), (Course, courses)):
            nothing = (None,) * len(fields_of(model))
            records = [RosterRecord(name, nothing, 0) for name in names]
            upsert_roster(connection, model, merge(records))


def clear_batches(database: Database) -> None:
    """Remove all batches, results and enrollments; rosters and dead letters stay."""
    with database.writing() as connection:
        for table in (BatchRefusal, BatchChunk, Batch, EnrollmentResult, StudentCourse):
            connection.execute(delete(table))


def clear_roster(database: Database) -> None:
    """Remove everything but dead letters."""
    clear_batches(database)
    with database.writing() as connection:
        for table in (Student, Course):
            connection.execute(delete(table))


def enrolled_pairs(database: Database) -> set[tuple[str, str]]:
    """Return the SIS ids of the students and courses of all enrollments."""
    query = (
        select(Student.sis_id, Course.sis_id)
        .join(StudentCourse, StudentCourse.student_id == Student.id)
        .join(Course, StudentCourse.course_id == Course.id)
    )
    with database.reading() as connection:
        return {(row[0], row[1]) for row in connection.execute(query)}


def count_rows(database: Database, of: Any) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(of)) or 0


def dead_letters(database: Database) -> list[Any]:
    """Return all dead letters, whole, in the order in which they were stored."""
    with database.reading() as connection:
        return find_dead_letters(connection)


def dead_letters_at(database_url: str) -> list[Any]:
    with opened_database(database_url) as database:
        return dead_letters(database)


def identity_of(database: Database) -> DatabaseIdentity:
    with database.reading() as connection:
        return read_identity(through(connection), database.engine.url)


@contextmanager
def sqlite_taken_away(database_url: str) -> Iterator[None]:
    """Make an SQLite database impossible to open; connections that are already open still work."""
    path = Path(database_url.removeprefix("sqlite:///"))
    aside = path.rename(path.with_suffix(".aside"))
    path.mkdir()  # A folder cannot be opened as a database.
    try:
        yield
    finally:
        path.rmdir()
        aside.rename(path)
