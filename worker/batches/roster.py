"""Apply a chunk of roster records."""

from typing import Any

from sqlalchemy import Connection

from producer.contract.chunks import KIND_MODELS, Chunk
from producer.contract.explain import parse_record
from producer.schemas import Kind
from worker.batches.counts import Counts, Poison, no_counts
from worker.batches.refusals import Refusals, plain_record, refusals_of_line
from worker.enrollment.rules import not_processed
from worker.models import Course, Student
from worker.repository import upsert_roster


def upsert_records(
    connection: Connection, kind: Kind, chunk: Chunk, poison: Poison
) -> tuple[Counts, Refusals]:
    """Write the records of a chunk; if two have the same SIS id, the later one wins."""
    model = Student if kind is Kind.STUDENTS else Course
    counts = no_counts()
    refusals: Refusals = []
    cells = dict(zip(chunk.lines or (), chunk.cells or (), strict=False))
    merged: dict[str, dict[str, Any]] = {}
    numbered = zip(chunk.records_in_order, chunk.row_counts, chunk.lines_of_records, strict=True)
    for position, (record, rows, (line, *_)) in enumerate(numbered):
        parsed, problems = parse_record(KIND_MODELS[kind], record)
        if position in poison:
            parsed, problems = None, (not_processed(poison[position]),)
        if parsed is None:
            counts["rejected"] += rows
            counts["requests_rejected"] += 1
            # Many records may name the same line; its cells are stored once.
            own_cells = cells.pop(line, None)
            refusals += refusals_of_line(line, problems, plain_record(record), own_cells)
        else:
            values = parsed.model_dump(exclude_none=True)
            merged.setdefault(values["sis_id"], {}).update(values)
    counts["upserted"] = upsert_roster(connection, model, list(merged.values()))
    accepted = len(chunk.row_counts) - counts["requests_rejected"]
    counts["unchanged"] = accepted - counts["upserted"]
    return counts, refusals
