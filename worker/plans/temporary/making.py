"""Make a plan: run the ordinary code on temporary tables, chunk by chunk, and report what it did.

Nothing real is changed. What ordinary code reads is copied into the temporary tables before each
chunk, once for a plan: so its requests see duplicates, rosters and drops of earlier chunks as they
will when the plan is applied.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from pydantic import ValidationError
from sqlalchemy import Connection

from producer.contract.chunks import Chunk
from producer.contract.headers import BatchOrigin
from producer.contract.plan_requests import PlanRequest
from producer.contract.plans import PlannedBatch
from producer.contract.refusals import MAX_AHEAD
from producer.schemas import Kind
from worker.batches.apply import ChunkOutcome, apply_to, read_chunk
from worker.batches.causes import explain_refusals
from worker.batches.repository import sum_chunks
from worker.batches.status import books_of, refusal_groups
from worker.data_sets.repository import TooManyDataSets, begin_sweep
from worker.database.clock import database_time
from worker.database.engine import Database, nothing
from worker.database.errors import is_outage, sentence_of
from worker.database.planning import PlanRefused, real_tables
from worker.database.refusal import Refusal
from worker.database.shared_snapshot import SharedSnapshot, share_snapshot
from worker.database.temporary_tables import check_not_rewritten, planning_connection, seal
from worker.enrollment.confirming import ConfirmingRequests, LookUp, look_up
from worker.enrollment.values import Times
from worker.models import Course, Pair, Student
from worker.moments import Clock, TrustingClock, own_clock
from worker.plans.poison import way_out
from worker.plans.stored import Stored
from worker.plans.temporary.ahead import read_ahead
from worker.plans.temporary.filling import Filling
from worker.plans.temporary.names import Scan, names_in, scan
from worker.plans.temporary.report import Report, store_report, summary_of
from worker.plans.temporary.repository import RealRows, Since
from worker.snapshots.absence import plan_absence
from worker.snapshots.named import add_named_pairs, create_named_pairs
from worker.snapshots.repository import add_named_students
from worker.snapshots.unchanged import Present, find_present
from worker.snapshots.values import Absence


class StagedBatch(NamedTuple):
    """A member of a plan: a batch whose chunks are stored, and not applied."""

    batch_id: str
    kind: Kind
    origin: BatchOrigin
    chunks: Callable[[], Iterator[Stored]]
    """Returns its chunks, in the order of their numbers, each time it is called."""
    changing: Callable[[], Iterator[Stored]]
    """Returns those of them of which no unchanged requests were noted."""


class PlanInput(NamedTuple):
    """What a plan is made of."""

    plan_id: str
    request: PlanRequest
    moment: datetime
    """When its requests count, unless a member has a moment of its own."""
    batches: Sequence[StagedBatch]
    """In the order in which they will be applied."""
    data_set: int | None
    reads_ahead: bool = True
    """False if a chunk must not be read before those before it were planned."""


class MadePlan(NamedTuple):
    """What a plan would do."""

    batches: tuple[PlannedBatch, ...]
    absence: Absence | None
    """What a snapshot does not name; None if the plan is not for a snapshot."""
    planned_at: datetime
    """When it was true: the database is that of this moment."""
    digest: str
    """The SHA-256 of all that is reported, refusals and drops included."""


Conclude = Callable[[Connection, MadePlan], None]
"""Changes the state of the plan, in the transaction that stores the report."""


def make_plan(
    database: Database,
    plan: PlanInput,
    conclude: Conclude,
    *,
    on_chunk: Callable[[], None],
    before_conclusion: Callable[[], None] = nothing,
    clock: Clock = own_clock,
) -> MadePlan:
    """Make a plan and store its report; return what was made.

    `on_chunk` is called after each chunk and each page of the report, and `before_conclusion` once
    before `conclude`; what they raise ends the work.
    Nothing is stored then, or what is stored is removed by the next attempt. Raises PlanRefused if
    the plan cannot be made, because of a conflict or a chunk that fails; DBAPIError if the
    database is unavailable; TablesRewritten if it may succeed at once.
    """
    enrollments = [batch for batch in plan.batches if batch.kind is Kind.ENROLLMENTS]
    # Where unchanged requests were noted, all requests are plain ones.
    named = scan(stored.text for batch in enrollments for stored in batch.changing())
    is_snapshot = plan.request.snapshot
    with planning_connection(database, stores_results=named.may_drop) as connection:
        if is_snapshot:
            create_named_pairs(connection)
        seal(connection)
        rehearsal = _Rehearsal(connection, plan, named, clock)
        with read_ahead(database, rehearsal.share_snapshot) as ahead:
            for batch in plan.batches:
                for stored, read in ahead.each(batch.chunks(), rehearsal.reader(batch)):
                    rehearsal.apply(batch, stored, read)
                    on_chunk()
        with database.reading() as roster:
            batches = tuple(rehearsal.planned(batch, roster) for batch in plan.batches)
        absence = rehearsal.absence() if is_snapshot else None
        report = Report(connection, plan.plan_id, on_chunk, has_drops=is_snapshot)
        shown = [[batch.model_dump(mode="json") for batch in batches], summary_of(absence)]
        digest = report.digest(shown, rehearsal.at)
        check_not_rewritten(connection)
        made = MadePlan(batches, absence, rehearsal.at, digest)
        store_report(database, report, lambda writing: conclude(writing, made), before_conclusion)
    return made


class _Read(NamedTuple):
    """A chunk that was read, and looked up if it has requests."""

    chunk: Chunk
    fingerprint: int
    found: LookUp | None


class _Rehearsal:
    """The chunks of a plan, applied on its connection."""

    def __init__(self, connection: Connection, plan: PlanInput, named: Scan, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._plan = plan
        self._named = named
        self._rows = RealRows(connection)
        self._present: dict[str, Present] = {}
        self._students: list[int] = []
        self._counts: list[int] = []
        now = clock()
        self.at = database_time(connection) or now
        self._ahead = max(timedelta(0), now - self.at)
        stored = self._rows.copy_batches([batch.batch_id for batch in plan.batches])
        moments = [now, plan.moment, *stored, *(batch.origin.moment for batch in plan.batches)]
        if plan.request.snapshot:
            self._begin_snapshot(plan.batches[-1].origin.moment or plan.moment)
        since = Since(None, None)
        # An older version stored no moment of a batch; then all rows matter.
        if not named.may_name_times and None not in stored:
            earliest = min(moment for moment in moments if moment is not None)
            since = Since(earliest, earliest - self._ahead - _MARGIN)
        self._filling = Filling(self._rows, named, since)

    def _begin_snapshot(self, moment: datetime) -> None:
        """Let older requests of the data set open nothing, as when the plan is applied."""
        plan = self._plan
        if plan.data_set is None:
            raise PlanRefused(_without_data_set(plan.plan_id))
        if not begin_sweep(self._connection, plan.data_set, moment):
            raise PlanRefused(_outdated(plan.plan_id))

    def share_snapshot(self) -> SharedSnapshot | None:
        """Share the snapshot for chunks that are read ahead; return None if none may be."""
        is_possible = self._plan.reads_ahead and not self._named.may_drop
        return share_snapshot(self._connection) if is_possible else None

    def reader(self, batch: StagedBatch) -> Callable[[Connection, Stored], _Read]:
        """Return a function that reads a chunk ahead, on another connection with this snapshot."""
        moment, data_set = self._moment_of(batch), self._plan.data_set
        times = Times(moment, moment, moment, moment)

        def read(connection: Connection, stored: Stored) -> _Read:
            if (noted := self._read_unchanged(connection, batch, stored)) is not None:
                return noted
            chunk, fingerprint = read_chunk(batch.kind, stored.text)
            if batch.kind is not Kind.ENROLLMENTS:
                return _Read(chunk, fingerprint, None)
            return _Read(chunk, fingerprint, look_up(connection, chunk, times, data_set))

        return read

    def _read_unchanged(
        self, connection: Connection, batch: StagedBatch, stored: Stored
    ) -> _Read | None:
        """Return a chunk with its unchanged requests; None if none were noted, or they may change.

        Any connection with the snapshot of the plan will do.
        """
        data_set, moment = self._plan.data_set, self._moment_of(batch)
        is_of_use = self._plan.request.snapshot and not self._named.may_drop
        read = stored.read_unchanged() if is_of_use else None
        if read is None or data_set is None:
            return None
        chunk, fingerprint, unchanged, losses = read
        present = self._present.get(batch.batch_id)
        if present is None:
            with real_tables(connection):
                present = find_present(connection, data_set, moment, batch.batch_id, None)
            # The same for all chunks, because all of them are read from one snapshot.
            self._present[batch.batch_id] = present
        if not present.keeps(unchanged, losses):
            return None
        found = ConfirmingRequests(unchanged.result(), present.drops, unchanged.whole)
        return _Read(chunk, fingerprint, LookUp(moment, data_set, found))

    def _moment_of(self, batch: StagedBatch) -> datetime:
        return batch.origin.moment or self._plan.moment

    def apply(self, batch: StagedBatch, stored: Stored, read: _Read | None) -> None:
        """Apply a chunk, after what it names was copied. Raises PlanRefused, DBAPIError."""
        try:
            read = read or self._read_unchanged(self._connection, batch, stored)
            self._apply(batch, read or _Read(*read_chunk(batch.kind, stored.text), None))
        except PlanRefused:
            raise
        except TooManyDataSets as error:
            raise PlanRefused(Refusal(str(error), "Choose another batch id for that.")) from error
        except Exception as error:
            if is_outage(error):
                raise
            raise PlanRefused(_failure(self._plan.request, batch, stored.text, error)) from error

    def _apply(self, batch: StagedBatch, read: _Read) -> None:
        chunk, fingerprint = read.chunk, read.fingerprint
        if batch.kind is not Kind.ENROLLMENTS:
            named = names_in(batch.kind, chunk)
            self._rows.copy_roster(Student, named.students)
            self._rows.copy_roster(Course, named.courses)
        moment = self._moment_of(batch)
        origin = batch.origin._replace(moment=moment)
        # The moment was compared with the clock when the chunk was stored.
        clock = TrustingClock(self._clock, moment)
        self._filling.expect(read.found)
        applied = apply_to(
            self._connection,
            batch.kind,
            chunk,
            fingerprint,
            {},
            origin,
            clock=clock,
            decide_clean=self._filling.decide,
        )
        if applied.outcome is ChunkOutcome.CONFLICT:
            raise PlanRefused(_conflict(batch, chunk.number))
        if self._plan.request.snapshot and batch.kind is Kind.ENROLLMENTS:
            decided = self._filling.take_decided(chunk)
            add_named_pairs(self._connection, chunk, decided.pairs, decided.others)
            self._students += decided.whole.students
            self._counts += decided.whole.counts
            if len(self._students) >= _STUDENTS:
                self._add_whole()

    def _add_whole(self) -> None:
        """Add the students of whom chunks name all, many at once: each `COPY` has its price."""
        add_named_students(self._connection, self._students, self._counts)
        self._students.clear()
        self._counts.clear()

    def planned(self, batch: StagedBatch, roster: Connection) -> PlannedBatch:
        """Return what a batch would do, as its ledger says.

        What unknown ids may mean is looked up in the real roster, on a connection of its own.
        """
        (ledger,) = sum_chunks(self._connection, [batch.batch_id])
        refusals = refusal_groups(self._connection, batch.batch_id) if ledger.rejected else ()
        return PlannedBatch(
            batch_id=batch.batch_id,
            kind=batch.kind,
            books=books_of(ledger, ledger.rows),
            requests=ledger.requests,
            requests_rejected=ledger.requests_rejected,
            refusals=explain_refusals(self._connection, roster, batch.batch_id, refusals),
        )

    def absence(self) -> Absence:
        """Return what becomes of the enrollments that a snapshot does not name."""
        plan = self._plan
        (ledger,) = sum_chunks(self._connection, [plan.plan_id])
        if plan.data_set is None:
            raise PlanRefused(_without_data_set(plan.plan_id))
        self._add_whole()
        moment = ledger.submitted_at
        return plan_absence(self._connection, plan.data_set, moment, self._ahead, self._pairs_of)

    def _pairs_of(self, students: Collection[int]) -> Iterator[Pair]:
        """Yield the pairs that unchanged requests name of some students."""
        batch = self._plan.batches[-1]
        present = self._present.get(batch.batch_id)
        for stored in batch.chunks():
            read = stored.read_unchanged()
            # A note that does not hold any more may mean other students.
            if read and present and present.keeps(read.unchanged, read.losses):
                yield from (pair for pair in read.unchanged.requests.pairs if pair[0] in students)


_STUDENTS: Final = 20_000
"""How many students of whom chunks name all are kept in memory."""

_MARGIN: Final = timedelta(seconds=MAX_AHEAD) + timedelta(hours=1)
"""How much earlier than its moment a result may have been stored, and what clocks may differ."""


def _conflict(batch: StagedBatch, number: int) -> Refusal:
    return Refusal(
        f"chunk {number} of the batch {batch.batch_id} cannot be applied: a different submission"
        " used this batch id",
        "Submit the file again under a new batch id.",
    )


def _without_data_set(plan_id: str) -> Refusal:
    return Refusal(
        f"the data set of the snapshot {plan_id} does not exist",
        "Submit the file for a data set that the operator has created for snapshots.",
    )


def _outdated(plan_id: str) -> Refusal:
    return Refusal(
        f"a newer snapshot of its data set than {plan_id} was already applied",
        "Submit a newer file.",
    )


def _failure(request: PlanRequest, batch: StagedBatch, text: str, error: Exception) -> Refusal:
    return Refusal(
        f"{_place(batch, text)} failed: {sentence_of(error)}",
        f"A record in it probably causes this error. {way_out(request)}",
    )


def _place(batch: StagedBatch, text: str) -> str:
    """Return the name of a chunk with its lines, as far as it can be read."""
    try:
        chunk, _ = read_chunk(batch.kind, text)
    except ValidationError:
        return f"a chunk of the batch {batch.batch_id}"
    lines = {line for lines in chunk.lines_of_records for line in lines}
    first, last = min(lines, default=0), max(lines, default=0)
    where = f"line {first}" if first == last else f"lines {first} to {last}"
    return f"chunk {chunk.number} of the batch {batch.batch_id} ({where})"
