"""Report a submitted file: its batch, and the lines that were refused while it was read."""

from collections.abc import Iterator
from typing import Any

from producer.contract.chunks import RefusedLine
from producer.files.layout import Lines
from producer.files.reader import FileSource, StreamSource
from producer.publishing.batches import SubmittedBatch
from producer.publishing.chunking import Line

MAX_REFUSED = 1_000
"""The most refused lines that are kept for a file; all of them are counted and published."""


class SubmittedFile(SubmittedBatch):
    """The batch of a file, and what was noticed while the file was read.

    Refused lines are part of the batch: they are counted as rejected, and
    `EnrollmentClient.refusals` returns all of them, with those that a worker refused.
    """

    refused_lines: int = 0
    """How many lines could not be read as records."""
    refused: tuple[RefusedLine, ...] = ()
    """The first of these lines, without their cells."""
    notices: tuple[str, ...] = ()
    """What the submitter should know about the file, in sentences."""


class WatchedSource:
    """Reads the records of a source once, and notes the refused lines among them."""

    def __init__(self, source: FileSource | StreamSource) -> None:
        self._source = source
        self._count = 0
        self._refused: list[RefusedLine] = []

    def records(self) -> Lines:
        """Yield every record and every refused line. Raises UnreadableFile."""
        return self._note(self._source.records())

    def _note(self, lines: Lines) -> Iterator[Line]:
        for line in lines:
            if isinstance(line, RefusedLine):
                self._count += 1
                if self._count <= MAX_REFUSED:
                    self._refused.append(line.model_copy(update={"cells": None}))
            yield line

    def of(self, batch: SubmittedBatch) -> SubmittedFile:
        """Return the batch that these records were published as, with what was noticed."""
        fields: dict[str, Any] = dict(batch)
        return SubmittedFile.model_construct(
            **fields,
            refused_lines=self._count,
            refused=tuple(self._refused),
            notices=tuple(self._source.notices),
        )
