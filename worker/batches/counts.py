"""Count the rows of a chunk: what was enrolled, was there already, or was rejected."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from pydantic import ValidationError

from producer.contract.chunks import Chunk
from producer.contract.explain import explain
from producer.schemas import ContractModel
from worker.enrollment.rules import Problems

Counts = dict[str, int]


Poison = Mapping[int, str]
"""What happened to the records that cannot be processed, by their places in the chunk."""


def _no_counts() -> Counts:
    names = ("enrolled", "already_enrolled", "upserted", "unchanged", "rejected")
    return dict.fromkeys((*names, "requests_rejected"), 0)


def _lines(chunk: Chunk) -> Sequence[Sequence[int]]:
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


MessageType = TypeVar("MessageType", bound=ContractModel)


def _parse(model: type[MessageType], record: object) -> tuple[MessageType | None, Problems]:
    """The record as its model, or what is wrong with it."""
    if isinstance(record, model):
        return record, ()
    try:
        return model.model_validate(record), ()
    except ValidationError as error:
        return None, explain(error)
