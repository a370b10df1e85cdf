"""Apply a chunk of roster records."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from producer.contract.chunks import KIND_MODELS, Chunk
from producer.contract.explain import parse_record
from producer.contract.refusals import ahead_of_clock
from producer.contract.rosters import (
    RosterRecord,
    merge,
    moments_of_records,
    to_microseconds,
    values_reader,
)
from producer.schemas import Kind
from worker.batches.counts import Counts, Poison, no_counts
from worker.batches.refusals import Refusals, plain_record, refusals_of_line
from worker.enrollment.problems import not_processed
from worker.roster.repository import ROSTER_MODELS, upsert_roster


def upsert_records(
    connection: Connection,
    kind: Kind,
    chunk: Chunk,
    poison: Poison,
    batch_moment: datetime,
    latest: datetime,
) -> tuple[Counts, Refusals]:
    """Write the records of a chunk; each counts later than the one before it.

    `batch_moment` is the moment of the batch, and `latest` the latest time that the one clock may
    show.
    """
    counts = no_counts()
    refusals: Refusals = []
    cells = dict(zip(chunk.lines or (), chunk.cells or (), strict=False))
    accepted: list[RosterRecord] = []
    read = values_reader(kind)
    moments = moments_of_records(batch_moment, chunk.number, len(chunk.row_counts), latest)
    numbered = zip(chunk.records_in_order, chunk.row_counts, chunk.lines_of_records, strict=True)
    model: Any = KIND_MODELS[kind]
    for position, (record, rows, lines) in enumerate(numbered):
        # Nearly all are parsed already, and a call for each of thousands would take its time.
        is_parsed = isinstance(record, model)
        parsed, problems = (record, ()) if is_parsed else parse_record(model, record)
        as_of = None if parsed is None else parsed.as_of
        if position in poison:
            parsed, problems = None, (not_processed(poison[position]),)
        elif as_of is not None and (ahead := ahead_of_clock(as_of, latest)) is not None:
            parsed, problems = None, (ahead,)
        if parsed is None:
            counts["rejected"] += rows
            counts["requests_rejected"] += 1
            # Many records may name the same line; its cells are stored once.
            own_cells = cells.pop(lines[0], None)
            refusals += refusals_of_line(lines[0], problems, plain_record(record), own_cells)
        else:
            row = read(parsed)
            moment = moments[position] if as_of is None else to_microseconds(as_of)
            accepted.append(RosterRecord(row[0], row[1:], moment))
    written = upsert_roster(connection, ROSTER_MODELS[kind], merge(accepted))
    counts["upserted"] = written.upserted
    counts["unchanged"] = written.unchanged
    counts["superseded"] = written.superseded
    return counts, refusals
