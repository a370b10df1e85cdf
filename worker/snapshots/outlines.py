"""Let a chunk be applied without parsing its text, as long as nothing asks for its requests."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

from producer.contract.chunks import Chunk, Tally

_LEFT_OUT: Final = {"records", "requests", "lines", "cells"}
"""The fields that grow with the requests. Of these, only the lines are needed often."""


class OutlinedChunk:
    """A chunk of which the text is parsed once something asks for its requests.

    It has the attributes of an `EnrollmentChunk`, but is no model: nothing checks it again.
    """

    def __init__(
        self, outline: str, lines: Any, row_counts: Sequence[int], parse: Callable[[], Chunk]
    ) -> None:
        """`outline` and `lines` come from `outline_of`; `parse` parses the text of the chunk."""
        self._outline = Chunk.model_validate_json(outline)
        self._parse = parse
        self.lines = lines
        self.row_counts = row_counts

    def tally(self) -> Tally:
        """Return what `Chunk.tally` does."""
        refused = len(self._outline.refused)
        return Tally(requests=len(self.row_counts) + refused, rows=sum(self.row_counts) + refused)

    @cached_property
    def _parsed(self) -> Chunk:
        return self._parse()

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the outline, or else of the parsed chunk."""
        is_outlined = name in Chunk.model_fields and name not in _LEFT_OUT
        return getattr(self._outline if is_outlined else self._parsed, name)


def outline_of(chunk: Chunk) -> tuple[str, Any]:
    """Return what an `OutlinedChunk` is made of, besides the row counts: JSON, and the lines."""
    return chunk.model_dump_json(exclude=_LEFT_OUT, exclude_defaults=True), chunk.lines
