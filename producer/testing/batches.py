"""Apply chunks in memory, and report the status of their batches as a worker does.

Likely causes of unknown ids are not looked for, and no batch is ever stalled.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from producer.contract.batches import (
    AppliedChunks,
    BatchCursor,
    BatchPage,
    BatchState,
    BatchStatus,
    Books,
    RefusedRecord,
)
from producer.contract.chunks import (
    KIND_MODELS,
    Cells,
    Chunk,
    Tally,
    line_request_id,
)
from producer.contract.explain import parse_record
from producer.contract.file_forms import FileForm
from producer.contract.headers import BatchOrigin
from producer.contract.refusals import ahead_of_clock, undone
from producer.contract.rosters import (
    ROSTER_FIELDS,
    RosterRecord,
    from_microseconds,
    merge,
    moments_of_records,
    to_microseconds,
    values_reader,
)
from producer.fields import UNDO_PREFIX
from producer.schemas import (
    Code,
    EnrollmentProblem,
    Kind,
    ResultStatus,
    StudentEnrollmentRequest,
)
from producer.testing.data_sets import DataSets
from producer.testing.refused import cells_by_line, completed, groups, refused_lines
from producer.testing.results import Incoming, Times
from producer.testing.roster import RosterPart
from producer.testing.rulebook import Enrollments

_COUNTED = Books.model_fields.keys() - {"received", "not_applied"}
"""The counts of a batch that say what happened to its rows."""


@dataclass(frozen=True)
class BatchSearch:
    """Which batches are listed, and after which place; None selects all."""

    cursor: BatchCursor | None
    state: BatchState | None
    kind: Kind | None
    submitter: str | None


@dataclass
class Batch:
    """The applied chunks of a batch, and its refusals."""

    kind: Kind
    columns: tuple[str, ...] | None
    form: FileForm | None
    moment: datetime
    file_name: str | None
    submitter: str | None
    data_set: str | None
    started_at: datetime
    finished_at: datetime
    chunks: dict[int, int] = field(default_factory=dict)
    """The fingerprint of each applied chunk."""
    last: int | None = None
    """The number of the last chunk; None as long as that is not applied."""
    counts: Counter[str] = field(default_factory=Counter)
    through: Tally = field(default_factory=Tally)
    """The size of the batch up to the end of the latest chunk."""
    plan_id: str | None = None
    conflicts: int = 0
    refusals: list[RefusedRecord] = field(default_factory=list)

    is_stopped: bool = False
    """Whether its undo has begun: the requests of its other chunks are refused."""

    @property
    def is_done(self) -> bool:
        """Return whether all chunks were applied."""
        return self.last is not None and len(self.chunks) == self.last + 1


class Batches:
    """All batches; their requests are decided by the given rulebook."""

    def __init__(self, enrollments: Enrollments, data_sets: DataSets) -> None:
        self._enrollments = enrollments
        self._data_sets = data_sets
        self.planned: dict[str, BatchStatus] = {}
        """The status of each member of a plan of which nothing is applied, by batch id."""
        self.planned_refusals: dict[str, list[RefusedRecord]] = {}
        """What the plan of each of these members would refuse, by line."""
        self._batches: dict[str, Batch] = {}
        self._refusals = 0

    def apply(
        self, kind: Kind, chunk: Chunk, fingerprint: int, times: Times, origin: BatchOrigin
    ) -> None:
        """Apply a chunk, exactly once; a different one under its number is only counted."""
        moment, now = times
        opened = Batch(
            kind=kind,
            columns=chunk.columns,
            form=chunk.form,
            moment=moment,
            file_name=origin.file_name,
            submitter=origin.submitter,
            data_set=chunk.data_set,
            started_at=now,
            finished_at=now,
            plan_id=chunk.plan.id if chunk.plan else None,
        )
        batch = self._batches.setdefault(chunk.batch_id, opened)
        times = Times(batch.moment, now)
        earlier = batch.chunks.get(chunk.number)
        ends_before = batch.last is not None and chunk.number > batch.last
        if earlier == fingerprint and batch.kind is kind:
            return
        if earlier is not None or batch.kind is not kind or ends_before:
            batch.conflicts += 1
            return
        batch.chunks[chunk.number] = fingerprint
        batch.last = chunk.number if chunk.last else batch.last
        batch.finished_at = now
        tally = chunk.tally()
        batch.through = Tally(
            requests=max(batch.through.requests, chunk.before.requests + tally.requests),
            rows=max(batch.through.rows, chunk.before.rows + tally.rows),
        )
        batch.counts += Counter(requests=tally.requests, rows=tally.rows, chunks=1)
        if kind is Kind.ENROLLMENTS:
            self._enroll(batch, chunk, times)
        else:
            self._upsert(batch, kind, chunk, times)
        for line in chunk.refused:
            problem = EnrollmentProblem(code=Code.INVALID_REQUEST, message=line.message)
            batch.counts += Counter(rejected=1, requests_rejected=1)
            self._refuse(batch, line.line, [problem], None, line.cells)

    def _enroll(self, batch: Batch, chunk: Chunk, times: Times) -> None:
        count = len(chunk.row_counts)
        moments = moments_of_records(times.moment, chunk.number, count, times.now)
        cells = cells_by_line(chunk)
        requests = []
        numbered = zip(chunk.records_in_order, chunk.lines_of_records, strict=True)
        for position, (record, lines) in enumerate(numbered):
            request, problems = parse_record(StudentEnrollmentRequest, record)
            own_id = request.request_id if request else None
            request_id = own_id or line_request_id(chunk.batch_id, chunk.number, position)
            problems = (undone(),) if batch.is_stopped else problems
            incoming = Incoming(request_id, record, request, problems, lines, own_id is not None)
            if chunk.ordered:
                incoming = incoming._replace(moment=from_microseconds(moments[position]))
            requests.append(incoming)
        swept_at = self._data_sets.swept_at(chunk.data_set)
        results = self._enrollments.decide(requests, chunk.batch_id, times, swept_at)
        if chunk.data_set is not None:
            self._data_sets.own(chunk.data_set, results)
        for result, rows in zip(results, chunk.row_counts, strict=True):
            batch.counts += result.count_rows(rows)
            batch.counts["requests_rejected"] += result.status is ResultStatus.REJECTED
            for line, found, part in refused_lines(result):
                self._refuse(batch, line, found, part, cells.pop(line, None))

    def _upsert(self, batch: Batch, kind: Kind, chunk: Chunk, times: Times) -> None:
        cells = cells_by_line(chunk)
        accepted: list[RosterRecord] = []
        read = values_reader(kind)
        count = len(chunk.row_counts)
        moments = moments_of_records(times.moment, chunk.number, count, times.now)
        numbered = zip(
            chunk.records_in_order, chunk.row_counts, chunk.lines_of_records, strict=True
        )
        for position, (record, rows, (line, *_)) in enumerate(numbered):
            parsed: Any
            parsed, problems = parse_record(KIND_MODELS[kind], record)
            if parsed is not None and (ahead := ahead_of_clock(parsed.as_of, times.now)):
                parsed, problems = None, (ahead,)
            if parsed is None:
                batch.counts += Counter(rejected=rows, requests_rejected=1)
                self._refuse(batch, line, problems, record, cells.pop(line, None))
            else:
                row, moment = read(parsed), moments[position]
                if parsed.as_of is not None:
                    moment = to_microseconds(parsed.as_of)
                accepted.append(RosterRecord(row[0], row[1:], moment))
        part = self._part(kind)
        for merged in sorted(merge(accepted), key=lambda record: record.sis_id):
            batch.counts += part.upsert(merged, ROSTER_FIELDS[kind])

    def _part(self, kind: Kind) -> RosterPart:
        roster = self._enrollments
        return roster.students if kind is Kind.STUDENTS else roster.courses

    def _refuse(
        self,
        batch: Batch,
        line: int,
        problems: Sequence[EnrollmentProblem],
        record: Any,
        cells: Cells | None,
    ) -> None:
        """Store the problems of a line; only the first of them has the record."""
        for problem in problems:
            self._refusals += 1
            refused = RefusedRecord(
                id=self._refusals,
                line=line,
                code=problem.code,
                message=problem.message,
                record=record,
                cells=cells,
            )
            batch.refusals.append(refused)
            record = cells = None

    # --- what lookups return --------------------------------------------------------------------

    def status(self, batch_id: str, *, refusals: bool) -> BatchStatus:
        """Return the status of a batch, with its refusals by cause if `refusals` is true."""
        batch = self._batches.get(batch_id)
        if batch is None:
            unknown = BatchStatus(batch_id=batch_id, state=BatchState.UNKNOWN)
            return self.planned.get(batch_id, unknown)
        counts = batch.counts
        received = counts["rows"] if batch.is_done else batch.through.rows
        return BatchStatus(
            batch_id=batch_id,
            state=BatchState.DONE if batch.is_done else BatchState.RUNNING,
            kind=batch.kind,
            file_name=batch.file_name,
            submitter=batch.submitter,
            data_set=batch.data_set,
            plan_id=batch.plan_id,
            columns=batch.columns,
            form=batch.form,
            books=Books(
                received=received,
                not_applied=received - counts["rows"],
                **{name: counts[name] for name in _COUNTED},
            ),
            requests=counts["requests"] if batch.is_done else batch.through.requests,
            requests_applied=counts["requests"],
            requests_rejected=counts["requests_rejected"],
            chunks=None if batch.last is None else batch.last + 1,
            chunks_applied=counts["chunks"],
            chunks_missing=max(batch.chunks) + 1 - counts["chunks"],
            conflicts=batch.conflicts,
            refusals=tuple(groups(batch.refusals)) if refusals else (),
            submitted_at=batch.moment,
            started_at=batch.started_at,
            finished_at=batch.finished_at if batch.is_done else None,
            undoes=batch_id.removeprefix(UNDO_PREFIX) if batch_id.startswith(UNDO_PREFIX) else None,
            **self.undone(batch_id),
        )

    def stop(self, batch_id: str) -> None:
        """Have the requests refused that a batch still gets: it is being undone."""
        self._batches[batch_id].is_stopped = True

    def counts(self, batch_id: str | None) -> bool:
        """Return whether a batch still counts: it was not undone, and is no undo itself."""
        if batch_id is None:
            return True
        return not batch_id.startswith(UNDO_PREFIX) and not self.undone(batch_id)

    def origin_of(self, batch_id: str) -> tuple[str | None, datetime]:
        """Return the data set and the moment of a batch that was applied, at least in part."""
        batch = self._batches[batch_id]
        return batch.data_set, batch.moment

    def ids_of(self, data_set: str, since: datetime | None, until: datetime) -> set[str]:
        """Return the batches of a data set that count from a moment on and before another one."""
        return {
            batch_id
            for batch_id, batch in self._batches.items()
            if batch.data_set == data_set and (since or batch.moment) <= batch.moment < until
        }

    def undone(self, batch_id: str) -> dict[str, Any]:
        """Return what a status says of the undo of a batch: nothing if it stands."""
        undo = self._batches.get(UNDO_PREFIX + batch_id)
        if undo is None or self.undone(UNDO_PREFIX + batch_id):
            return {}
        return {"undone_by": UNDO_PREFIX + batch_id, "undone_at": undo.started_at}

    def newest(self, limit: int) -> list[BatchStatus]:
        """Return the newest batches, without their refusals."""
        return [self.status(batch_id, refusals=False) for _, batch_id in self._places()[:limit]]

    def page(self, search: BatchSearch, limit: int) -> BatchPage:
        """Return a page of the list of batches, like a worker that examines any number of them.

        So more pages may follow although no batch on them is in the wanted state.
        """
        places = [place for place in self._places() if self._is_examined(place, search)]
        listed: list[BatchStatus] = []
        examined = 0
        for _, batch_id in places:
            examined += 1
            status = self.status(batch_id, refusals=False)
            if search.state in (None, status.state):
                listed.append(status.model_copy(update={"columns": None, "form": None}))
            if len(listed) == limit:
                break
        has_more = examined < len(places)
        return BatchPage(batches=tuple(listed), next=places[examined - 1] if has_more else None)

    def _is_examined(self, place: BatchCursor, search: BatchSearch) -> bool:
        batch = self.status(place[1], refusals=False)
        return (
            (search.cursor is None or place < search.cursor)
            and search.state is not BatchState.UNKNOWN
            and search.kind in (None, batch.kind)
            and search.submitter in (None, batch.submitter)
        )

    def _places(self) -> list[BatchCursor]:
        """Return the moments and ids of all batches, the newest first."""
        places = {batch_id: batch.moment for batch_id, batch in self._batches.items()}
        for batch_id, status in self.planned.items():
            if status.submitted_at is not None:
                places.setdefault(batch_id, status.submitted_at)
        return sorted(((moment, own) for own, moment in places.items()), reverse=True)

    def applied(self, batch_id: str, numbers: Sequence[int], claim: int | None) -> AppliedChunks:
        """Return which of these chunks of a batch were applied."""
        batch = self._batches.get(batch_id)
        return AppliedChunks(
            kind=batch and batch.kind,
            fingerprints=tuple(batch.chunks.get(number) if batch else None for number in numbers),
            first_chunk=claim,
        )

    def refused(
        self,
        batch_id: str,
        after: tuple[int, int],
        limit: int,
        code: Code | None = None,
        *,
        whole: bool = False,
    ) -> list[RefusedRecord]:
        """Return refusals by line, from the one that comes after a (line, id).

        With `code`, only those for this cause; with `whole`, each with record and cells.
        """
        batch = self._batches.get(batch_id)
        planned = self.planned_refusals.get(batch_id, [])
        refusals = sorted(batch.refusals, key=lambda r: (r.line, r.id)) if batch else planned
        following = [r for r in refusals if (r.line, r.id) > after and code in (None, r.code)]
        page = following[:limit]
        return [completed(r, refusals) for r in page] if whole else page
