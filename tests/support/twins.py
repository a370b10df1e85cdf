"""Two databases with the same deliveries: one derives results, the other stores all of them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, update

from producer.contract.headers import BatchOrigin
from producer.schemas import Kind
from support.databases import clear_batches, store_roster
from support.derived import all_results
from worker.batches.apply import Applied, apply_chunk
from worker.batches.status import batch_statuses
from worker.database.engine import Database
from worker.dead_letters.repository import find_dead_letters
from worker.enrollment.incoming import read_request
from worker.enrollment.lookups import request_statuses, student_results, students
from worker.history.lookups import course_roll, student_history
from worker.models import (
    BatchChunk,
    DeadLetter,
    EnrollmentResult,
    IdentityRow,
    PastEnrollment,
    RetentionLimit,
    StudentCourse,
)
from worker.recovery.retry import retry_letter
from worker.retention.prune import prune
from worker.service import add_enrollments

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
STUDENTS, COURSES = ("A", "B", "C"), ("M1", "M2", "M3", "M4")
BATCHES, CHUNKS, POSITIONS = ("b", "c:1", "d"), 3, 4
NEVER = datetime(2100, 1, 1, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


class Delivery(NamedTuple):
    """A chunk, the minute at which its batch counts, and its poison."""

    chunk: dict[str, Any]
    minute: int
    poison: dict[int, str]


class Twins:
    """A database that derives results, and one that stores all; the clock is in minutes."""

    def __init__(self, deriving: Database, storing: Database) -> None:
        self.deriving, self.storing = deriving, storing
        with storing.writing() as connection:
            connection.execute(update(IdentityRow).values(results_stored_until=NEVER))
        for database in self.both:
            store_roster(database, STUDENTS, COURSES)

    @property
    def both(self) -> tuple[Database, Database]:
        return self.deriving, self.storing

    def store_until(self, moment: datetime | None) -> None:
        """Let the deriving database store all results until a moment."""
        with self.deriving.writing() as connection:
            connection.execute(update(IdentityRow).values(results_stored_until=moment))

    def clear(self) -> None:
        """Remove everything but the roster."""
        self.store_until(None)
        for database in self.both:
            clear_batches(database)
            with database.writing() as connection:
                for table in (PastEnrollment, DeadLetter):
                    connection.execute(delete(table))
                connection.execute(update(RetentionLimit).values(moment=None))

    def _each(self, minute: int, work: Callable[[Database], Any]) -> Any:
        """Do the same in both, and compare what it returns."""
        first, second = [work(database) for database in self.both]
        assert first == second
        for database in self.both:
            _set_clock_back(database, minute)
        return first

    def deliver(self, delivery: Delivery, minute: int) -> Applied:
        origin = BatchOrigin(moment=at(delivery.minute))
        applied: Applied = self._each(
            minute,
            lambda database: apply_chunk(
                database,
                Kind.ENROLLMENTS,
                delivery.chunk,
                delivery.poison,
                origin,
                clock=lambda: at(minute),
            ),
        )
        return applied

    def request(self, record: dict[str, Any], counts_at: int, minute: int) -> None:
        request = read_request(record["request_id"], [record], {}, at(counts_at))
        self._each(
            minute,
            lambda database: [
                decision.result._replace(completed_at=NOON)
                for decision in add_enrollments(
                    database, [request], clock=lambda: at(minute)
                ).decided
            ],
        )

    def prune(self, before: int, minute: int) -> None:
        self._each(minute, lambda database: prune(database, at(before), dry_run=True))
        self._each(minute, lambda database: prune(database, at(before), page=2))

    def retry(self, minute: int) -> None:
        self._each(minute, lambda database: _retry_all(database, minute))

    def compare(self, minutes: Sequence[int]) -> None:
        """Compare everything that a client can ask for."""
        first, second = (answers(database, minutes) for database in self.both)
        for name, answer in first.items():
            assert answer == second[name], name
        stored, expected = (sorted(map(_plain, all_results(d))) for d in self.both)
        assert stored == expected

    def derived(self) -> int:
        """Return how many results are derived."""
        with self.deriving.reading() as connection:
            stored = connection.scalar(select(func.count()).select_from(EnrollmentResult)) or 0
        return len(all_results(self.deriving)) - stored


def _plain(row: Any) -> str:
    return repr(tuple(row))


def _set_clock_back(database: Database, minute: int) -> None:
    """Let the times that the database's clock has just set be those of the test's clock."""
    with database.writing() as connection:
        for column in (EnrollmentResult.completed_at, BatchChunk.applied_at):
            recent = update(column.class_).where(column > at(minute))
            connection.execute(recent.values({column.key: at(minute)}))


def _retry_all(database: Database, minute: int) -> list[str]:
    with database.reading() as connection:
        letters = [letter.id for letter in find_dead_letters(connection)]
    return [retry_letter(database, letter, clock=lambda: at(minute)) for letter in letters]


def answers(database: Database, minutes: Sequence[int]) -> dict[str, Any]:
    """Return all that lookups say."""
    lines = [f"{b}:{n}:{p}" for b in BATCHES for n in range(CHUNKS) for p in range(POSITIONS)]
    ids = [*lines, "b:00:1", "b:0:01", "b:1:99999999999", "r0", "r1", "r2"]
    people = [*STUDENTS, *range(1, len(STUDENTS) + 1), "unknown", 99]
    found: dict[str, Any] = {
        "status": request_statuses(database, ids, {}),
        "students": students(database, people),
        # The advice counts the seconds since the batch stalled.
        "batches": [
            status.model_copy(update={"advice": None})
            for status in batch_statuses(database, BATCHES, {}, refusals=True)
        ],
    }
    for limit in (2, 100):
        found[f"results, {limit}"] = pages = _pages(database, people, limit)
        assert len(pages) == len(people)
    for person in people:
        for course in (None, "M1"):
            for limit, before in ((2, None), (100, at(minutes[0]))):
                name = f"history of {person}, {course}, {limit}, {before}"
                found[name] = student_history(database, person, course, limit, before)
    for course in COURSES:
        for minute in minutes:
            found[f"{course} at {minute}"] = course_roll(database, course, at(minute))
    with database.reading() as connection:
        columns = (StudentCourse.student_id, StudentCourse.course_id, StudentCourse.enrolled_at)
        found["rows"] = {tuple(row) for row in connection.execute(select(*columns))}
        past = PastEnrollment
        columns = (past.student_id, past.course_id, past.enrolled_at, past.ended_at)  # type: ignore[assignment]
        found["past"] = {tuple(row) for row in connection.execute(select(*columns))}
    return found


def _pages(database: Database, people: Sequence[int | str], limit: int) -> list[list[Any]]:
    """Return all results of each student, read page by page."""
    everything = []
    for person in people:
        results: list[Any] = []
        before = None
        while page := student_results(database, [person], limit, before)[0]:
            results += page
            before = (page[-1].completed_at, page[-1].request_id)
        everything.append(results)
    return everything
