"""Apply chunks in memory, and report the status of their batches as a worker does.

Likely causes of unknown ids are not looked for, and no batch is ever stalled.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from producer.contract.batches import (
    FIRST_LINES,
    AppliedChunks,
    BatchCursor,
    BatchPage,
    BatchState,
    BatchStatus,
    Books,
    RefusalGroup,
    RefusedRecord,
)
from producer.contract.chunks import (
    COURSE_FIELDS,
    KIND_MODELS,
    Cells,
    Chunk,
    Tally,
    courses_of,
    line_request_id,
)
from producer.contract.explain import parse_record
from producer.contract.file_form import FileForm
from producer.contract.headers import BatchOrigin
from producer.contract.refusals import ahead_of_clock
from producer.contract.rosters import (
    ROSTER_FIELDS,
    RosterRecord,
    from_microseconds,
    merge,
    moments_of_records,
    to_microseconds,
    values_reader,
)
from producer.schemas import (
    CODE_MEANINGS,
    Action,
    Code,
    ContractModel,
    EnrollmentProblem,
    Kind,
    ResultStatus,
    StudentEnrollmentRequest,
)
from producer.testing.results import Incoming, Result, Times, count_enrolls, lines_about
from producer.testing.roster import RosterPart
from producer.testing.rulebook import Enrollments

MAX_REPEATED = 1_024
"""The longest JSON text of a request's other fields that is stored with each of its lines."""

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
    started_at: datetime
    finished_at: datetime
    chunks: dict[int, int] = field(default_factory=dict)
    """The fingerprint of each applied chunk."""
    last: int | None = None
    """The number of the last chunk; None as long as that is not applied."""
    counts: Counter[str] = field(default_factory=Counter)
    through: Tally = field(default_factory=Tally)
    """The size of the batch up to the end of the latest chunk."""
    conflicts: int = 0
    refusals: list[RefusedRecord] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Return whether all chunks were applied."""
        return self.last is not None and len(self.chunks) == self.last + 1


class Batches:
    """All batches; their requests are decided by the given rulebook."""

    def __init__(self, enrollments: Enrollments) -> None:
        self._enrollments = enrollments
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
            started_at=now,
            finished_at=now,
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
        cells = _cells_by_line(chunk)
        requests = []
        numbered = zip(chunk.records_in_order, chunk.lines_of_records, strict=True)
        for position, (record, lines) in enumerate(numbered):
            request, problems = parse_record(StudentEnrollmentRequest, record)
            own_id = request.request_id if request else None
            request_id = own_id or line_request_id(chunk.batch_id, chunk.number, position)
            incoming = Incoming(request_id, record, request, problems, lines, own_id is not None)
            if chunk.ordered:
                incoming = incoming._replace(moment=from_microseconds(moments[position]))
            requests.append(incoming)
        results = self._enrollments.decide(requests, chunk.batch_id, times)
        for result, rows in zip(results, chunk.row_counts, strict=True):
            batch.counts += result.count_rows(rows)
            batch.counts["requests_rejected"] += result.status is ResultStatus.REJECTED
            for line, found, part in _refused_lines(result):
                self._refuse(batch, line, found, part, cells.pop(line, None))

    def _upsert(self, batch: Batch, kind: Kind, chunk: Chunk, times: Times) -> None:
        cells = _cells_by_line(chunk)
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
            return BatchStatus(batch_id=batch_id, state=BatchState.UNKNOWN)
        counts = batch.counts
        received = counts["rows"] if batch.is_done else batch.through.rows
        return BatchStatus(
            batch_id=batch_id,
            state=BatchState.DONE if batch.is_done else BatchState.RUNNING,
            kind=batch.kind,
            file_name=batch.file_name,
            submitter=batch.submitter,
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
            refusals=tuple(_groups(batch)) if refusals else (),
            submitted_at=batch.moment,
            started_at=batch.started_at,
            finished_at=batch.finished_at if batch.is_done else None,
        )

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
        batch = self._batches[place[1]]
        return (
            (search.cursor is None or place < search.cursor)
            and search.state is not BatchState.UNKNOWN
            and search.kind in (None, batch.kind)
            and search.submitter in (None, batch.submitter)
        )

    def _places(self) -> list[BatchCursor]:
        """Return the moments and ids of all batches, the newest first."""
        places = ((batch.moment, batch_id) for batch_id, batch in self._batches.items())
        return sorted(places, reverse=True)

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
        refusals = sorted(batch.refusals, key=lambda r: (r.line, r.id)) if batch else []
        following = [r for r in refusals if (r.line, r.id) > after and code in (None, r.code)]
        page = following[:limit]
        return [_completed(r, refusals) for r in page] if whole else page


def _completed(refusal: RefusedRecord, refusals: Sequence[RefusedRecord]) -> RefusedRecord:
    """Return a refusal with the record and the cells that the first one of its line holds."""
    if refusal.record is not None or refusal.cells is not None:
        return refusal
    first = next(other for other in refusals if other.line == refusal.line)
    return refusal.model_copy(update={"record": first.record, "cells": first.cells})


def _cells_by_line(chunk: Chunk) -> dict[int, Cells]:
    return dict(zip(chunk.lines or (), chunk.cells or (), strict=False))


def _refused_lines(result: Result) -> Iterator[tuple[int, list[EnrollmentProblem], Any]]:
    """Yield each refused line of a request, with its problems and the part that is in this line.

    A problem of all lines is the first one of each, but the second one only of the first line.
    """
    incoming = result.incoming
    by_line: dict[tuple[int, int], list[EnrollmentProblem]] = {}
    for problem in result.errors:
        for index, place in enumerate(lines_about(incoming, problem)):
            problems = by_line.setdefault(place, [])
            if index == 0 or not problems:
                problems.append(problem)
    record = _plain(incoming.record)
    in_lines = len(incoming.lines) > 1
    fields = record
    for (row, line), problems in by_line.items():
        if in_lines:
            yield line, problems, {**fields, **_course_of_row(record, row)}
            fields = _short_fields(record)
        else:
            yield line, problems, record


def _course_of_row(record: Mapping[str, Any], row: int) -> dict[str, list[Any]]:
    """Return the fields of a request that hold courses, with only the one that is in this row."""
    enrolls = count_enrolls(record)
    action, position = (Action.ENROLL, row) if row < enrolls else (Action.DROP, row - enrolls)
    return {**_no_courses(record), COURSE_FIELDS[action]: [courses_of(record, action)[position]]}


def _no_courses(record: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [] for name in COURSE_FIELDS.values() if name in record}


def _plain(record: Any) -> Any:
    if isinstance(record, ContractModel):
        return record.model_dump(mode="json", exclude_defaults=True)
    return record


def _short_fields(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what each line of a request repeats; a long text is only stored with the first one."""
    shared = {**record, **_no_courses(record)}
    return shared if len(json.dumps(shared, default=repr)) <= MAX_REPEATED else {}


def _groups(batch: Batch) -> Iterator[RefusalGroup]:
    """Yield the refusals of a batch by cause, each with its first lines and a message of theirs."""
    by_code: dict[Code, dict[int, list[str]]] = {}
    for refusal in batch.refusals:
        by_code.setdefault(refusal.code, {}).setdefault(refusal.line, []).append(refusal.message)
    for code, messages in sorted(by_code.items()):
        lines = sorted(messages)[:FIRST_LINES]
        yield RefusalGroup(
            code=code,
            message=CODE_MEANINGS[code],
            count=sum(map(len, messages.values())),
            first_lines=tuple(lines),
            example=min(messages[lines[0]]),
        )
