"""Count the rows of a chunk: enrolled, already enrolled, or rejected."""

from collections.abc import Mapping, Sequence

from producer.schemas import ResultStatus
from worker.enrollment.rules import Decision

Counts = dict[str, int]


Poison = Mapping[int, str]
"""What happened to each poison record, by its position in the chunk."""


def no_counts() -> Counts:
    """Return a ledger entry's counts, all zero."""
    names = ("enrolled", "already_enrolled", "upserted", "unchanged", "rejected")
    return dict.fromkeys((*names, "requests_rejected"), 0)


def add_to_counts(counts: Counts, decided: Sequence[Decision], row_counts: Sequence[int]) -> None:
    """Add the rows of decided requests to the counts; `row_counts` has the rows of each request."""
    for decision, rows in zip(decided, row_counts, strict=True):
        request_counts = decision.count_rows(rows)
        counts["enrolled"] += request_counts.enrolled
        counts["already_enrolled"] += request_counts.already_enrolled
        counts["rejected"] += request_counts.rejected
        counts["requests_rejected"] += decision.result.status is ResultStatus.REJECTED
