"""Chunks of a batch: applied once, with results, refusals and an entry in the ledger."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection

from producer.schemas import (
    KIND_MODELS,
    Chunk,
    Code,
    EnrollmentProblem,
    Kind,
    Message,
    StudentEnrollmentRequest,
    count_rows,
    explain,
    line_request_id,
)
from worker import repository
from worker.database import Database
from worker.models import Course, Student
from worker.service import Asked, Problems, fingerprint_of, lines_about, settle, transaction


class ChunkOutcome(StrEnum):
    """What became of a delivery of a chunk."""

    APPLIED = "applied"
    REPEATED = "repeated"
    CONFLICT = "conflict"
    """Another content was applied under this batch id and number; nothing was changed."""


def apply_chunk(database: Database, kind: Kind, chunk: Chunk) -> ChunkOutcome:
    """Apply a chunk, its results and its entry in the ledger, exactly once. Raises DBAPIError."""
    return transaction(database, lambda connection: _apply(connection, kind, chunk))


def _apply(connection: Connection, kind: Kind, chunk: Chunk) -> ChunkOutcome:
    fingerprint = fingerprint_of(chunk.model_dump(mode="json", exclude={"last", "before"}))
    entered = repository.find_chunk(connection, chunk.batch_id, chunk.number)
    if entered is not None:
        same = entered.kind == kind and entered.fingerprint == fingerprint
        return ChunkOutcome.REPEATED if same else ChunkOutcome.CONFLICT
    if repository.open_batch(connection, chunk.batch_id, kind) != kind:
        return ChunkOutcome.CONFLICT
    now = datetime.now(UTC)
    if kind is Kind.ENROLLMENTS:
        counts, refusals = _enroll(connection, chunk, now)
    else:
        counts, refusals = _upsert(connection, kind, chunk)
    for line in chunk.refused:
        problem = EnrollmentProblem(
            code=Code.INVALID_REQUEST, message=line.message, field=line.field
        )
        refusals.append(_refusal(line.line, problem, None))
    repository.add_refusals(connection, chunk.batch_id, refusals)
    counts["rejected"] += len(chunk.refused)
    counts["requests_rejected"] += len(chunk.refused)
    tally = chunk.tally()
    repository.add_chunk(
        connection,
        batch_id=chunk.batch_id,
        number=chunk.number,
        fingerprint=fingerprint,
        last=chunk.last,
        requests_through=chunk.before.requests + tally.requests,
        rows_through=chunk.before.rows + tally.rows,
        requests=tally.requests,
        rows=tally.rows,
        applied_at=now,
        **counts,
    )
    return ChunkOutcome.APPLIED


Counts = dict[str, int]
Refusals = list[dict[str, Any]]


def _no_counts() -> Counts:
    names = ("enrolled", "already_enrolled", "upserted", "unchanged", "rejected")
    return dict.fromkeys((*names, "requests_rejected"), 0)


def _enroll(connection: Connection, chunk: Chunk, now: datetime) -> tuple[Counts, Refusals]:
    asked = []
    for position, (record, lines) in enumerate(_numbered(chunk)):
        request, problems = _parse(StudentEnrollmentRequest, record)
        own_id = line_request_id(chunk.batch_id, chunk.number, position)
        request_id = request.request_id if request and request.request_id else own_id
        asked.append(Asked(request_id, record, request, problems, lines))
    counts = _no_counts()
    refusals: Refusals = []
    for one in settle(connection, asked, chunk.batch_id, now):
        rejected = one.result.status == "rejected"
        rows = count_rows(one.asked.record)
        refused = rows if rejected else len(one.result.errors)
        added = 0 if one.repeated else sum(added for _, added in one.result.enrolled)
        counts["enrolled"] += added
        counts["rejected"] += refused
        counts["already_enrolled"] += rows - added - refused
        counts["requests_rejected"] += rejected
        for problem in map(EnrollmentProblem.model_validate, one.result.errors):
            refusals.extend(_refusals(one.asked, problem))
    return counts, refusals


def _upsert(connection: Connection, kind: Kind, chunk: Chunk) -> tuple[Counts, Refusals]:
    model = Student if kind is Kind.STUDENTS else Course
    counts = _no_counts()
    refusals: Refusals = []
    merged: dict[str, dict[str, Any]] = {}
    for record, lines in _numbered(chunk):
        parsed, problems = _parse(KIND_MODELS[kind], record)
        if parsed is None:
            counts["rejected"] += 1
            counts["requests_rejected"] += 1
            refusals.extend(_refusal(lines[0], problem, record) for problem in problems)
        else:
            given = parsed.model_dump(exclude_none=True)
            merged.setdefault(given["sis_id"], {}).update(given)
    counts["upserted"] = repository.upsert_roster(connection, model, list(merged.values()))
    counts["unchanged"] = len(chunk.records) - counts["rejected"] - counts["upserted"]
    return counts, refusals


def _numbered(chunk: Chunk) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Each record with its lines; where none were given, with its place in the batch, from 1."""
    start = chunk.before.requests + 1
    if chunk.lines is None:
        return ((record, (line,)) for line, record in enumerate(chunk.records, start))
    return iter(zip(chunk.records, chunk.lines, strict=True))


MessageType = TypeVar("MessageType", bound=Message)


def _parse(model: type[MessageType], record: object) -> tuple[MessageType | None, Problems]:
    try:
        return model.model_validate(record), ()
    except ValidationError as error:
        return None, explain(error)


def _refusals(asked: Asked, problem: EnrollmentProblem) -> Iterator[dict[str, Any]]:
    """A refusal for each line that a problem is about, with what was asked in that line."""
    for place, line in lines_about(asked, problem):
        record = asked.record
        if len(asked.lines) > 1:
            record = {**record, "course_ids": [record["course_ids"][place]]}
        yield _refusal(line, problem, record)


def _refusal(line: int, problem: EnrollmentProblem, record: object) -> dict[str, Any]:
    return {
        "line": line,
        "code": problem.code.value,
        "message": problem.message,
        "record": json.dumps(record, default=repr),
    }
