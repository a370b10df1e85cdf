"""Read an uploaded file: its lines, as a snapshot if it is one, and whether it holds drops."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from producer.files.columns import ACTION
from producer.files.describing import Choices
from producer.files.formats.package_source import PackageSource
from producer.files.formats.packages import Package
from producer.files.layout import FileLayout, Lines
from producer.files.reader import open_stream
from producer.files.snapshots import (
    Described,
    check_layout,
    is_drop,
    may_hold_drops,
    without_drops,
)
from producer.files.whole_check import CheckStopped
from producer.publishing.chunking import Membership, SourceRecord
from producer.publishing.planning import PlanOptions
from producer.schemas import Kind
from producer.web.access import lacking
from producer.web.tokens import Scope


class Upload(NamedTuple):
    """A file that has arrived, and its name if it has one."""

    file: BinaryIO
    name: str | None


def named(choices: Choices, name: str | None) -> Choices:
    """Return choices with the name of the file, which may decide what the file holds."""
    return choices._replace(format=choices.format._replace(file_name=name))


def opened(upload: Upload, choices: Choices) -> tuple[FileLayout, Lines]:
    """Return how an upload is understood, and its lines. Raises UnreadableFile."""
    upload.file.seek(0)
    return open_stream("The file", upload.file, named(choices, upload.name))


def members(
    package: Package, batch_id: str, plan: PlanOptions
) -> Iterator[tuple[PackageSource, Membership, Lines]]:
    """Yield the files of a package, each with what its chunks say, and its lines."""
    request = plan.request_of([(own.batch_id(batch_id), own.kind) for own in package.sources])
    for source in package.sources:
        lines = source.records()
        if plan.snapshot is not None and source.kind is Kind.ENROLLMENTS:
            lines = without_drops(source, lines)
        yield source, plan.membership(source.kind, request), lines


def opened_as_snapshot(upload: Upload, choices: Choices) -> tuple[FileLayout, Lines]:
    """Do as `_opened` does for a snapshot; a file whose lines may hold drops is read before."""
    layout, lines = opened(upload, choices)
    if layout.kind is not Kind.ENROLLMENTS:
        return layout, lines
    check_layout(Described("The file", layout), choices)
    if may_hold_drops(layout):
        for _ in without_drops(Described("The file", layout), lines):
            pass
        layout, lines = opened(upload, choices)
    return layout, without_drops(Described("The file", layout), lines)


def refuse_drops(
    upload: Upload, choices: Choices, is_wanted: Callable[[], bool] = lambda: True
) -> None:
    """Read an upload whose caller may not drop. Raises Refused at the first drop in it.

    Raises UnreadableFile, and CheckStopped once `is_wanted` returns false.
    """
    layout, lines = opened(upload, choices)
    if layout.kind is not Kind.ENROLLMENTS:
        return
    is_ours = layout.system is None and layout.mapping is not None
    if is_ours and ACTION not in (layout.mapping or ()) and not choices.drop:
        return  # Without a column for it, no line is a drop.
    _refuse_drops_among(lines, "", is_wanted)


def refuse_drops_in(package: Package, is_wanted: Callable[[], bool] = lambda: True) -> None:
    """Read a package whose caller may not drop. Raises as `_refuse_drops` does."""
    for source in package.sources:
        if source.kind is Kind.ENROLLMENTS:
            _refuse_drops_among(source.records(), f" of {source.file_name}", is_wanted)


def _refuse_drops_among(lines: Lines, place: str, is_wanted: Callable[[], bool]) -> None:
    for entry in lines:
        if not is_wanted():
            raise CheckStopped
        if isinstance(entry, SourceRecord) and is_drop(entry.record):
            raise lacking(Scope.DROP, f" for the drop in line {entry.lines[0]}{place}")
