"""Apply a chunk of roster records."""

from typing import Any

from sqlalchemy import Connection

from producer.contract.chunks import KIND_MODELS, Chunk
from producer.schemas import Kind
from worker.batches.counts import Counts, Poison, _lines, _no_counts, _parse
from worker.batches.refusals import Refusals, _plain, _refusal
from worker.enrollment.rules import not_processed
from worker.models import Course, Student
from worker.repository import upsert_roster


def _upsert(
    connection: Connection, kind: Kind, chunk: Chunk, poison: Poison
) -> tuple[Counts, Refusals]:
    model = Student if kind is Kind.STUDENTS else Course
    counts = _no_counts()
    refusals: Refusals = []
    cells = dict(zip(chunk.lines or (), chunk.cells or (), strict=False))
    merged: dict[str, dict[str, Any]] = {}
    of_records = zip(chunk.records_in_order, chunk.row_counts, _lines(chunk), strict=True)
    for position, (record, rows, (line, *_)) in enumerate(of_records):
        parsed, problems = _parse(KIND_MODELS[kind], record)
        if position in poison:
            parsed, problems = None, (not_processed(poison[position]),)
        if parsed is None:
            counts["rejected"] += rows
            counts["requests_rejected"] += 1
            refusals.extend(
                _refusal(line, problem, _plain(record), cells.get(line)) for problem in problems
            )
        else:
            given = parsed.model_dump(exclude_none=True)
            merged.setdefault(given["sis_id"], {}).update(given)
    counts["upserted"] = upsert_roster(connection, model, list(merged.values()))
    good = len(chunk.row_counts) - counts["requests_rejected"]
    counts["unchanged"] = good - counts["upserted"]
    return counts, refusals
