"""Report a submitted file: its batch, and the lines that were refused while it was read."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from producer.contract.chunks import RefusedLine
from producer.contract.history import CourseRolls
from producer.contract.routing import TaskName
from producer.files.describing import Choices
from producer.files.formats.comparison import (
    COMPARISON_SECONDS,
    Comparison,
    compare,
    is_complete,
)
from producer.files.formats.package_source import PackageSource
from producer.files.formats.packages import AnySource, Package, opened_input
from producer.files.layout import Lines
from producer.files.reader import StreamSource
from producer.files.snapshots import check_snapshot, may_end, without_drops
from producer.publishing.arguments import rolls_arguments
from producer.publishing.batches import SubmittedBatch
from producer.publishing.chunking import Block, LineStream, Membership, blocks_of
from producer.publishing.planning import PlanOptions
from producer.schemas import Kind

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
    not_in_file: int | None = None
    """How many current enrollments of its sections a complete export does not name. It is None for
    any other file, if they could not be counted, and if the client cannot look anything up."""
    batches: tuple["SubmittedFile", ...] = ()
    """All batches of a package, in the order in which they were submitted; for a single file, it is
    empty."""


class WatchedSource:
    """Reads the records of a source once, and notes the refused lines among them."""

    def __init__(
        self, source: AnySource, batch_id: str | None, membership: Membership, *, is_new: bool
    ) -> None:
        self.source = source
        self.batch_id = batch_id
        self.membership = membership
        self.is_new = is_new
        """Whether no other submission can have its batch id."""
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
        lines = self.source.records()
        plan = self.membership.plan
        is_snapshot = plan is not None and plan.snapshot
        if is_snapshot and self.source.kind is Kind.ENROLLMENTS and may_end(self.source.layout):
            lines = without_drops(self.source, lines)
        return LineStream(self._note(blocks_of(lines)))

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

    def compared(self, ask: Callable[..., Any], timeout: float) -> Comparison | None:
        """Compare a complete export with the current enrollments; return None for another file.

        It cannot be compared if it is read from a pipe, either. `ask` has a worker answer a lookup,
        for at most `timeout` seconds.
        """
        files = [w.source for w in self.sources if not isinstance(w.source, StreamSource)]
        if len(files) < len(self.sources) or not is_complete(files):
            return None
        seconds = min(timeout, COMPARISON_SECONDS)

        def rolls(courses: Sequence[str], after: tuple[int, int] | None) -> CourseRolls:
            part: CourseRolls = ask(
                TaskName.ROLLS, *rolls_arguments(courses, after), timeout=seconds
            )
            return part

        name = files[-1].name if self.package is None else self.package.name
        return compare(name, files, rolls, COMPARISON_SECONDS)

    def together(
        self, submitted: Sequence[SubmittedFile], comparison: Comparison | None
    ) -> SubmittedFile:
        """Return the report of all batches, in their order."""
        last, found = submitted[-1], dict[str, Any]()
        notices = last.notices
        if self.package is not None:
            found, notices = {"batches": tuple(submitted)}, tuple(self.package.all_notices())
        if comparison is not None:
            found["not_in_file"] = comparison.not_in_file
            notices += (comparison.notice,) if comparison.notice is not None else ()
        return last.model_copy(update=found | {"notices": notices})


@contextmanager
def opened_file(
    path: Path, choices: Choices, batch_id: str | None, plan: PlanOptions
) -> Iterator[OpenedFile]:
    """Open what is submitted, and check it before anything is published.

    Raises UnreadableFile, and InvalidRequest for an id that is too long for a package, and for
    options of a plan that do not fit the file.
    """
    with opened_input(path, choices) as opened:
        package = opened if isinstance(opened, Package) else None
        is_new = package is None and batch_id is None
        ids: list[str | None] = [batch_id]
        if package is not None:
            package.check_not_empty()
            ids = [*package.batch_ids(batch_id)]
        elif plan.is_planned and batch_id is None:
            ids = [uuid.uuid4().hex]
        sources = package.sources if package is not None else (cast("AnySource", opened),)
        check_planned(sources, choices, plan, package)
        members = [(str(own), source.kind) for own, source in zip(ids, sources, strict=True)]
        request = plan.request_of(members)
        watched = [
            WatchedSource(source, own, plan.membership(source.kind, request), is_new=is_new)
            for own, source in zip(ids, sources, strict=True)
        ]
        yield OpenedFile(tuple(watched), package)


def check_planned(
    sources: Sequence[AnySource],
    choices: Choices,
    plan: PlanOptions,
    package: Package | None = None,
) -> None:
    """Raise InvalidRequest or UnreadableFile if the options of a plan do not fit its sources."""
    plan.check_members([source.kind for source in sources])
    if plan.snapshot is not None:
        check_snapshot(sources, choices, package)
