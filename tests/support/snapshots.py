"""Apply snapshots directly on a database, step by step, and read what they did."""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select

from producer.contract.batches import Books
from producer.contract.chunks import Chunk, EnrollmentChunk, RefusedLine
from producer.contract.headers import BatchOrigin
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import AbsentRows, PlannedBatch, Reason
from producer.schemas import Kind
from support.databases import clear_batches, store_roster
from worker.batches.apply import Applied, apply_chunk
from worker.batches.repository import sum_chunks
from worker.data_sets.repository import allow_snapshots, begin_sweep, data_set_key, find_swept
from worker.database.engine import Database
from worker.database.enrollment_lock import lock_enrollments
from worker.enrollment.incoming import read_request
from worker.enrollment.values import StoredResult
from worker.models import PastEnrollment, StudentCourse
from worker.plan_models import AlsoEnrolledBy, DataSet, PlannedDropRow, PlanRow
from worker.service import add_enrollments
from worker.snapshots.absence import plan_absence
from worker.snapshots.hold import reasons_to_hold
from worker.snapshots.named import add_named_pairs, create_named_pairs
from worker.snapshots.repository import planned_rows
from worker.snapshots.rules import read_rules
from worker.snapshots.sweep import Sweep, sweep_page, swept_rows
from worker.snapshots.values import Absence

Pair = tuple[str, str]
"""The SIS ids of a student and a course."""

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
LATE = NOON + timedelta(days=30)


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def clock() -> datetime:
    """Return a time later than all moments of a test."""
    return LATE


class Planned(NamedTuple):
    """A snapshot that was planned, and nothing of it applied."""

    sweep: Sweep
    chunks: Sequence[Chunk]
    absence: Absence
    request: PlanRequest

    @property
    def moment(self) -> datetime:
        return self.sweep.moment


def chunk_of(
    batch_id: str,
    pairs: Iterable[Pair] = (),
    data_set: str | None = None,
    *,
    number: int = 0,
    last: bool = True,
    refused: Sequence[RefusedLine] = (),
    records: Sequence[Any] = (),
    plan: PlanRequest | None = None,
    drops: bool = False,
) -> EnrollmentChunk:
    """Return a chunk of requests with a pair each, as columns, or of these records."""
    wanted = list(pairs)
    columns: dict[str, Any] | None = None
    if wanted:
        columns = {
            "student_ids": [student for student, _ in wanted],
            "drop_course_ids" if drops else "course_ids": [[course] for _, course in wanted],
        }
    return EnrollmentChunk.model_validate_json(
        json.dumps(
            {
                "batch_id": batch_id,
                "number": number,
                "last": last,
                "data_set": data_set,
                "requests": columns,
                "records": list(records),
                "refused": [line.model_dump() for line in refused],
                "plan": None if plan is None else plan.model_dump(mode="json"),
            }
        )
    )


def deliver(database: Database, chunk: Chunk, moment: datetime) -> Applied:
    """Apply a chunk of enrollments that counts at a moment."""
    text = chunk.model_dump_json()
    origin = BatchOrigin(moment=moment)
    return apply_chunk(database, Kind.ENROLLMENTS, text, origin=origin, clock=clock)


class Feeds:
    """Data sets in a database, whose files are applied as batches or as snapshots."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._batches = 0

    def batch_id(self) -> str:
        self._batches += 1
        return f"b{self._batches}"

    def batch(
        self,
        data_set: str | None,
        pairs: Iterable[Pair],
        moment: datetime,
        *,
        batch_id: str | None = None,
        drops: bool = False,
    ) -> Applied:
        """Enroll pairs, or drop them, by a batch that is no snapshot."""
        chunk = chunk_of(batch_id or self.batch_id(), pairs, data_set, drops=drops)
        return deliver(self.database, chunk, moment)

    def reopen(
        self,
        data_set: str | None,
        pairs: Collection[Pair],
        moment: datetime,
        *,
        batch_id: str | None = None,
    ) -> Applied:
        """Drop pairs and enroll them again, by an operation list."""
        drops = [{"student_id": s, "course_ids": [], "drop_course_ids": [c]} for s, c in pairs]
        enrolls = [{"student_id": s, "course_ids": [c]} for s, c in pairs]
        records = [*drops, *enrolls]
        chunk = chunk_of(batch_id or self.batch_id(), data_set=data_set, records=records)
        return deliver(self.database, chunk.model_copy(update={"ordered": True}), moment)

    def by_hand(
        self, moment: datetime, *, enroll: Iterable[Pair] = (), drop: Iterable[Pair] = ()
    ) -> list[StoredResult]:
        """Enroll and drop pairs by single requests."""
        records = [{"student_id": s, "course_ids": [c]} for s, c in enroll]
        records += [{"student_id": s, "course_ids": [], "drop_course_ids": [c]} for s, c in drop]
        requests = [
            read_request(f"{self.batch_id()}-{i}", [record], {}, moment)
            for i, record in enumerate(records)
        ]
        decided = add_enrollments(self.database, requests, clock=clock).decided
        return [decision.result for decision in decided]

    def plan(
        self,
        data_set: str,
        pairs: Iterable[Pair],
        moment: datetime,
        *,
        adopt: bool = False,
        hold: str | None = None,
        chunks: Sequence[Chunk] = (),
        batch_id: str | None = None,
    ) -> Planned:
        """Plan a snapshot, as a worker does on a connection whose changes are rolled back."""
        batch = batch_id or self.batch_id()
        member = PlanMember(batch_id=batch, kind=Kind.ENROLLMENTS)
        request = PlanRequest(
            id=batch,
            members=(member,),
            purpose=PlanPurpose.APPLY,
            snapshot=True,
            adopt=adopt,
            hold=hold,
        )
        chunks = chunks or [chunk_of(batch, pairs, data_set, plan=request)]
        with self.database.writing() as connection:
            key = data_set_key(connection, data_set, moment)
            allow_snapshots(connection, key)
        sweep = Sweep(batch, batch, len(chunks), key, data_set, moment)
        with self.database.engine.connect() as connection, connection.begin() as transaction:
            create_named_pairs(connection)
            for chunk in chunks:
                add_named_pairs(connection, chunk)
            absence = plan_absence(connection, key, moment)
            rows = planned_rows(connection, None, 10_000)
            transaction.rollback()
        self._store(sweep, request, rows)
        return Planned(sweep, chunks, absence, request)

    def _store(self, sweep: Sweep, request: PlanRequest, rows: Sequence[Any]) -> None:
        plan = {
            "id": sweep.plan_id,
            "state": "approved",
            "request": request.model_dump(mode="json"),
            "data_set": sweep.data_set,
            "moment": sweep.moment,
            "staged_at": sweep.moment,
        }
        drops = [
            {"plan_id": sweep.plan_id, "student_id": s, "course_id": c, "expected": expected}
            for s, c, expected in rows
        ]
        with self.database.writing() as connection:
            connection.execute(insert(PlanRow), plan)
            if drops:
                connection.execute(insert(PlannedDropRow), drops)

    def begin(self, planned: Planned) -> bool:
        """Begin to apply a snapshot; return False if a newer one has begun."""
        with self.database.writing() as connection:
            lock_enrollments(connection, exclusive=True)
            return begin_sweep(connection, planned.sweep.data_set, planned.moment)

    def apply(self, planned: Planned) -> list[Applied]:
        """Apply the chunks of a snapshot."""
        return [deliver(self.database, chunk, planned.moment) for chunk in planned.chunks]

    def sweep(self, planned: Planned, page: int = 3) -> AbsentRows:
        """Drop what a snapshot does not name; return what became of it."""
        while sweep_page(self.database, planned.sweep, clock=clock, page=page):
            pass
        with self.database.reading() as connection:
            return swept_rows(connection, planned.sweep.plan_id, planned.absence.absent)

    def snapshot(
        self, data_set: str, pairs: Iterable[Pair], moment: datetime, **options: Any
    ) -> AbsentRows:
        """Plan and apply a snapshot, whatever its plan says."""
        planned = self.plan(data_set, pairs, moment, **options)
        assert self.begin(planned)
        self.apply(planned)
        return self.sweep(planned)

    def reasons(self, planned: Planned) -> tuple[Reason, ...]:
        """Return why a snapshot is held; its chunks are applied in a transaction for that."""
        batch = self._rehearse(planned)
        with self.database.reading() as connection:
            data_set = select(DataSet.rules).where(DataSet.id == planned.sweep.data_set)
            rules = read_rules(connection.scalar(data_set))
        return reasons_to_hold(planned.request, rules, planned.absence, batch)

    def _rehearse(self, planned: Planned) -> PlannedBatch:
        """Return the counts of the batch of a snapshot, which is then rolled back."""
        batch_id, origin = planned.sweep.batch_id, BatchOrigin(moment=planned.moment)
        with self.database.engine.connect() as connection, connection.begin() as transaction:
            for chunk in planned.chunks:
                apply_chunk(
                    connection,  # type: ignore[arg-type]  # a transaction of the caller does, too
                    Kind.ENROLLMENTS,
                    chunk.model_dump_json(),
                    origin=origin,
                    clock=clock,
                )
            (ledger,) = sum_chunks(connection, [batch_id])
            books = Books(enrolled=ledger.enrolled, already_enrolled=ledger.already_enrolled)
            transaction.rollback()
        return PlannedBatch(batch_id=batch_id, kind=Kind.ENROLLMENTS, books=books)

    # What the database says.

    def key(self, data_set: str) -> int | None:
        with self.database.reading() as connection:
            return connection.scalar(select(DataSet.id).where(DataSet.name == data_set))

    def swept_at(self, data_set: str) -> datetime | None:
        key = self.key(data_set)
        assert key is not None
        with self.database.reading() as connection:
            return find_swept(connection, [key]).get(key)

    def owners(self) -> dict[Pair, str | None]:
        """Return the data set of each enrollment."""
        with self.database.reading() as connection:
            data_sets: Any = connection.execute(select(DataSet.id, DataSet.name))
            names = dict(data_sets.all())
            row = StudentCourse
            rows = connection.execute(select(row.student_id, row.course_id, row.data_set))
            return {
                (f"S{student}", f"C{course}"): names[owner] if owner is not None else None
                for student, course, owner in rows
            }

    def pairs(self) -> set[Pair]:
        return set(self.owners())

    def notes(self) -> dict[tuple[Pair, str], datetime]:
        """Return which other data sets name enrollments, and when they did."""
        note = AlsoEnrolledBy
        query = select(note.student_id, note.course_id, DataSet.name, note.moment)
        with self.database.reading() as connection:
            rows = connection.execute(query.join(DataSet, DataSet.id == note.data_set))
            return {((f"S{s}", f"C{c}"), name): moment for s, c, name, moment in rows}

    def count(self, of: Any) -> int:
        with self.database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(of)) or 0


def make_feeds(database: Database, students: int, courses: int) -> Feeds:
    """Return feeds about students S1, S2, … and courses C1, C2, …, at most nine of each.

    Their keys are their numbers.
    """
    store_roster(
        database,
        [f"S{number}" for number in range(1, students + 1)],
        [f"C{number}" for number in range(1, courses + 1)],
    )
    return Feeds(database)


def grid(students: Collection[int], courses: Collection[int] = (1,)) -> list[Pair]:
    """Return all pairs of these students and courses, by number."""
    return [(f"S{student}", f"C{course}") for student in students for course in courses]


def clear(feeds: Feeds) -> None:
    """Remove everything but the roster."""
    clear_batches(feeds.database)
    with feeds.database.writing() as connection:
        for table in (PlannedDropRow, PlanRow, PastEnrollment, AlsoEnrolledBy, DataSet):
            connection.execute(delete(table))
