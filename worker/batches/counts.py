"""Count the rows of a chunk: enrolled, already enrolled, or rejected."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from producer.contract.chunks import Chunk
from producer.schemas import ResultStatus
from worker.enrollment.rules import Decision

Counts = dict[str, int]


Poison = Mapping[int, str]
"""What happened to each poison record, by its position in the chunk."""


def no_counts() -> Counts:
    """Return a ledger entry's counts, all zero."""
    names = ("enrolled", "already_enrolled", "upserted", "unchanged", "rejected")
    return dict.fromkeys((*names, "requests_rejected"), 0)


def lines_of_records(chunk: Chunk) -> Sequence[Sequence[int]]:
    """Return the lines of each record; without line numbers, its position in the batch, from 1."""
    if chunk.lines is None:
        start = chunk.before.requests + 1
        return [(line,) for line in range(start, start + len(chunk.row_counts))]
    if len(chunk.lines) == len(chunk.row_counts):
        return [(line,) for line in chunk.lines]
    ends = list(accumulate(chunk.row_counts))
    lines_by_record = [
        chunk.lines[end - rows : end] for end, rows in zip(ends, chunk.row_counts, strict=True)
    ]
    # All rows of a record may be on one line, whose number is then repeated.
    return [lines if lines[0] != lines[-1] else lines[:1] for lines in lines_by_record]


def add_to_counts(counts: Counts, decided: Sequence[Decision], row_counts: Sequence[int]) -> None:
    """Add the rows of decided requests to the counts; `row_counts` has the rows of each request."""
    for decision, rows in zip(decided, row_counts, strict=True):
        request_counts = decision.count_rows(rows)
        counts["enrolled"] += request_counts.enrolled
        counts["already_enrolled"] += request_counts.already_enrolled
        counts["rejected"] += request_counts.rejected
        counts["requests_rejected"] += decision.result.status is ResultStatus.REJECTED
