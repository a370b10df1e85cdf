"""Count the rows of a chunk by what happened to them."""

from collections.abc import Mapping, Sequence
from typing import Final

from producer.schemas import ResultStatus
from worker.enrollment.rules import Decision

Counts = dict[str, int]


Poison = Mapping[int, str]
"""What happened to each poison record, by its position in the chunk."""


ROW_COUNTS: Final = (
    "enrolled",
    "already_enrolled",
    "dropped",
    "not_enrolled",
    "upserted",
    "unchanged",
    "superseded",
    "rejected",
)
"""The counts of a ledger entry, in rows."""


def in_words(count: str) -> str:
    """Return what people call one of `ROW_COUNTS`, for example `already enrolled`."""
    return "added or changed" if count == "upserted" else count.replace("_", " ")


def no_counts() -> Counts:
    """Return a ledger entry's counts, all zero."""
    return dict.fromkeys((*ROW_COUNTS, "requests_rejected"), 0)


def add_to_counts(counts: Counts, decided: Sequence[Decision], row_counts: Sequence[int]) -> None:
    """Add the rows of decided requests to the counts; `row_counts` has the rows of each request."""
    for decision, rows in zip(decided, row_counts, strict=True):
        for name, count in decision.count_rows(rows)._asdict().items():
            counts[name] += count
        counts["requests_rejected"] += decision.result.status is ResultStatus.REJECTED
