"""Apply batches of any form and undo them, with a fixed clock, and read what is enrolled."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update

from producer.contract.headers import BatchOrigin
from producer.schemas import Action, Kind
from worker.batches.apply import Applied, apply_chunk
from worker.database.engine import Database
from worker.enrollment.incoming import read_request
from worker.models import (
    Batch,
    BatchChunk,
    BatchRefusal,
    EnrollmentResult,
    PastEnrollment,
    StudentCourse,
)
from worker.service import add_enrollments
from worker.undo.run import UndoReport, undo

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
STUDENTS, COURSES = ("A", "B"), ("M1", "M2", "M3")

Pair = tuple[str, str]


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def clock() -> datetime:
    """Return the time on the clock of all workers here."""
    return at(60)


def request(
    student: str, enroll: Iterable[str] = (), drop: Iterable[str] = (), **fields: Any
) -> dict[str, Any]:
    lists = {"course_ids": list(enroll), "drop_course_ids": list(drop)}
    return {"student_id": student, **{name: ids for name, ids in lists.items() if ids}, **fields}


def columns(requests: Sequence[dict[str, Any]], action: Action) -> dict[str, Any]:
    """Return requests as columns; all of them only enroll, or only drop."""
    name = "course_ids" if action is Action.ENROLL else "drop_course_ids"
    students = [each["student_id"] for each in requests]
    return {"student_ids": students, name: [each[name] for each in requests]}


def apply(
    database: Database,
    *records: dict[str, Any],
    batch_id: str = "b",
    number: int = 0,
    moment: datetime = NOON,
    **fields: Any,
) -> Applied:
    """Apply a chunk of a batch that counts at noon, as a worker does."""
    chunk = {"batch_id": batch_id, "number": number, "records": records, "last": True, **fields}
    origin = BatchOrigin(moment=moment)
    return apply_chunk(database, Kind.ENROLLMENTS, chunk, origin=origin, clock=clock)


def by_hand(
    database: Database,
    name: str,
    minute: float,
    student: str,
    enroll: Iterable[str] = (),
    drop: Iterable[str] = (),
) -> None:
    """Decide a single request that counts at a minute."""
    record = request(student, enroll, drop, request_id=name)
    add_enrollments(database, [read_request(name, [record], {}, at(minute))], clock=clock)


def undone(database: Database, batch_id: str = "b") -> UndoReport:
    return undo(database, batch_id, clock=clock)


def pairs(database: Database) -> set[Pair]:
    return set(owners(database))


def owners(database: Database) -> dict[Pair, int | None]:
    """Return the data set of each enrollment."""
    row = StudentCourse
    with database.reading() as connection:
        rows = connection.execute(select(row.student_id, row.course_id, row.data_set))
        return {(STUDENTS[s - 1], COURSES[c - 1]): data_set for s, c, data_set in rows}


def own(database: Database, data_sets: dict[Pair, int | None]) -> None:
    """Let data sets own enrollments."""
    with database.writing() as connection:
        for (student, course), data_set in data_sets.items():
            row = StudentCourse
            keys = (STUDENTS.index(student) + 1, COURSES.index(course) + 1)
            is_pair = (row.student_id == keys[0]) & (row.course_id == keys[1])
            connection.execute(update(row).where(is_pair).values(data_set=data_set))


def forget(database: Database) -> None:
    """Remove everything but the roster."""
    with database.writing() as connection:
        for model in (
            StudentCourse,
            PastEnrollment,
            EnrollmentResult,
            BatchRefusal,
            BatchChunk,
            Batch,
        ):
            connection.execute(delete(model))
