"""Report a submitted file: its batch, and the lines that were refused while it was read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from producer.contract.chunks import RefusedLine
from producer.files.describing import Choices
from producer.files.formats.package_source import PackageSource
from producer.files.formats.packages import AnySource, Package, opened_input
from producer.files.layout import Lines
from producer.publishing.batches import SubmittedBatch
from producer.publishing.chunking import Block, LineStream, blocks_of

MAX_REFUSED = 1_000
"""The most refused lines that are kept for a file; all of them are counted and published."""


class SubmittedFile(SubmittedBatch):
    """The batch of a file, and what was noticed while the file was read.

    Refused lines are part of the batch: they are counted as rejected, and
    `EnrollmentClient.refusals` returns all of them, with those that a worker refused.

    Of a package, it is the last batch, which is the one of the enrollments if there is one.
    """

    refused_lines: int = 0
    """How many lines could not be read as records."""
    refused: tuple[RefusedLine, ...] = ()
    """The first of these lines, without their cells."""
    notices: tuple[str, ...] = ()
    """What the submitter should know about the file, or the package, in sentences."""
    file_name: str | None = None
    """The name of the file, for one of a package."""
    batches: tuple["SubmittedFile", ...] = ()
    """All batches of a package, in the order in which they were submitted; for a single file, it is
    empty."""


class WatchedSource:
    """Reads the records of a source once, and notes the refused lines among them."""

    def __init__(self, source: AnySource, batch_id: str | None) -> None:
        self.source = source
        self.batch_id = batch_id
        self._count = 0
        self._refused: list[RefusedLine] = []

    def named(self, given: str | None) -> str | None:
        """Return the name to store with the batch, if the submitter has given this name."""
        name = self.source.file_name
        if isinstance(self.source, PackageSource) and given is not None:
            return f"{given}/{name}"
        return given or name

    def records(self) -> Lines:
        """Yield every record and every refused line. Raises UnreadableFile."""
        return LineStream(self._note(blocks_of(self.source.records())))

    def _note(self, lines: Iterator[Block]) -> Iterator[Block]:
        for line in lines:
            if isinstance(line, RefusedLine):
                self._count += 1
                if self._count <= MAX_REFUSED:
                    self._refused.append(line.model_copy(update={"cells": None}))
            yield line

    def of(self, batch: SubmittedBatch) -> SubmittedFile:
        """Return the batch that these records were published as, with what was noticed."""
        fields: dict[str, Any] = dict(batch)
        is_part = isinstance(self.source, PackageSource)
        return SubmittedFile.model_construct(
            **fields,
            refused_lines=self._count,
            refused=tuple(self._refused),
            notices=tuple(self.source.notices),
            file_name=self.source.file_name if is_part else None,
        )


class OpenedFile(NamedTuple):
    """What a path holds: the sources of its batches, and the package that they belong to."""

    sources: tuple[WatchedSource, ...]
    package: Package | None

    def together(self, submitted: Sequence[SubmittedFile]) -> SubmittedFile:
        """Return the report of all batches, in their order."""
        last = submitted[-1]
        if self.package is None:
            return last
        found = {"batches": tuple(submitted), "notices": tuple(self.package.all_notices())}
        return last.model_copy(update=found)


@contextmanager
def opened_file(path: Path, choices: Choices, batch_id: str | None) -> Iterator[OpenedFile]:
    """Open what is submitted, and check it before anything is published.

    Raises UnreadableFile, and InvalidRequest for an id that is too long for a package.
    """
    with opened_input(path, choices) as opened:
        if not isinstance(opened, Package):
            yield OpenedFile((WatchedSource(opened, batch_id),), None)
            return
        opened.check_not_empty()
        ids = opened.batch_ids(batch_id)
        pairs = zip(opened.sources, ids, strict=True)
        yield OpenedFile(tuple(WatchedSource(source, own_id) for source, own_id in pairs), opened)
