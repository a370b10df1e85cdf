"""Count the rows of a chunk: what was enrolled, was there already, or was rejected."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from pydantic import ValidationError

from producer.contract.chunks import Chunk
from producer.contract.explain import explain
from producer.schemas import ContractModel, ResultStatus
from worker.enrollment.rules import Decision
from worker.enrollment.values import Problems

Counts = dict[str, int]


Poison = Mapping[int, str]
"""What happened to the records that cannot be processed, by their places in the chunk."""


def no_counts() -> Counts:
    names = ("enrolled", "already_enrolled", "upserted", "unchanged", "rejected")
    return dict.fromkeys((*names, "requests_rejected"), 0)


def lines_of_records(chunk: Chunk) -> Sequence[Sequence[int]]:
    """The lines of each record; where none were given, its place in the batch, from 1."""
    if chunk.lines is None:
        start = chunk.before.requests + 1
        return [(line,) for line in range(start, start + len(chunk.row_counts))]
    if len(chunk.lines) == len(chunk.row_counts):
        return [(line,) for line in chunk.lines]
    ends = list(accumulate(chunk.row_counts))
    of_records = [
        chunk.lines[end - rows : end] for end, rows in zip(ends, chunk.row_counts, strict=True)
    ]
    # All rows of a record may stand in one line.
    return [lines if lines[0] != lines[-1] else lines[:1] for lines in of_records]


def add_to_counts(counts: Counts, decided: Sequence[Decision], row_counts: Sequence[int]) -> None:
    """Add what became of requests; each stands for as many rows as `row_counts` says."""
    for decision, rows in zip(decided, row_counts, strict=True):
        of_request = decision.count_rows(rows)
        counts["enrolled"] += of_request.enrolled
        counts["already_enrolled"] += of_request.already_enrolled
        counts["rejected"] += of_request.rejected
        counts["requests_rejected"] += decision.result.status is ResultStatus.REJECTED


MessageType = TypeVar("MessageType", bound=ContractModel)


def parse_record(model: type[MessageType], record: object) -> tuple[MessageType | None, Problems]:
    """The record as its model, or what is wrong with it."""
    if isinstance(record, model):
        return record, ()
    try:
        return model.model_validate(record), ()
    except ValidationError as error:
        return None, explain(error)
