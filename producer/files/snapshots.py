"""Check that a file can be a snapshot, the whole truth of a data set, and read it as one."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple, Protocol

from producer.contract.chunks import COURSE_FIELDS
from producer.errors import UnreadableFile
from producer.files.archives import within
from producer.files.columns import ACTION, AS_OF, REASON, plain_name
from producer.files.describing import Choices
from producer.files.formats.packages import AnySource, Package
from producer.files.layout import FileLayout, Lines
from producer.files.notices import Notices
from producer.files.reader import FileSource, open_source_chosen
from producer.files.refused_lines import LINE
from producer.publishing.chunking import SourceRecord
from producer.schemas import Action, Kind

_REMEDY = "or submit the file without a snapshot"
_WHY_ONE_MOMENT = (
    "an earlier snapshot may have dropped a student since, and a line with an older moment would"
    " not enroll that student again"
)


class Readable(Protocol):
    """A file whose first lines have been read."""

    @property
    def name(self) -> str:
        """Return its name in messages."""

    @property
    def layout(self) -> FileLayout:
        """Return what its first lines show."""


class Described(NamedTuple):
    """A file that has another name in messages than its own."""

    name: str
    layout: FileLayout


def check_snapshot(
    sources: Sequence[AnySource], choices: Choices, package: Package | None = None
) -> None:
    """Raise UnreadableFile unless what is submitted can be a snapshot.

    A file that can be read again, and whose lines may hold drops, is read to its end.
    """
    if package is not None and package.is_delta:
        raise UnreadableFile(
            f"{package.name} holds only what has changed, so it is not the whole truth of a data"
            f" set. Export all enrollments as a snapshot, {_REMEDY}.",
            "snapshot",
        )
    for source in sources:
        if source.kind is Kind.ENROLLMENTS:
            check_layout(source, choices)
            if may_hold_drops(source.layout) and isinstance(source, FileSource):
                again = open_source_chosen(source.path, choices)
                with closing(again.records()) as lines:
                    for _ in without_drops(again, lines):
                        pass


def check_layout(source: Readable, choices: Choices) -> None:
    """Raise UnreadableFile if the header of a file or the options show that it is no snapshot."""
    if [plain_name(name) for name in source.layout.columns or ()][:1] == [LINE]:
        raise UnreadableFile(
            f"{source.name} holds the refused lines of another file, so it is not the whole truth"
            " of a data set. Correct these lines in the whole file, and submit that; or submit them"
            " with the option data-set in place of snapshot.",
            "snapshot",
            "data-set",
        )
    if choices.drop:
        raise UnreadableFile(
            f"{source.name} is submitted as drops, but a snapshot names those who are enrolled, and"
            " drops the others. Leave one of the two options out.",
            "drop",
            "snapshot",
        )
    if choices.format.moments_from_file:
        raise UnreadableFile(
            f"All lines of the snapshot {within(source.name)} count at the same moment, so they"
            " cannot count when they were last changed. Leave one of the two options out.",
            "moments-from-file",
            "snapshot",
        )
    if AS_OF in (source.layout.mapping or ()):
        raise UnreadableFile(
            f"{source.name} has a column {AS_OF}, but all lines of a snapshot count at the same"
            f" moment: {_WHY_ONE_MOMENT}. Remove the column, {_REMEDY}.",
            "snapshot",
        )
    if source.layout.system is None and ACTION in (source.layout.mapping or ()):
        raise UnreadableFile(
            f"{source.name} has a column {ACTION}, but a snapshot names those who are enrolled, and"
            f" drops the others. Remove the column and the lines with drops, {_REMEDY}.",
            "snapshot",
        )


def may_hold_drops(layout: FileLayout) -> bool:
    """Return whether a line of a file of ours may be a drop, or have a moment of its own.

    JSON Lines say so themselves.
    """
    return layout.system is None and layout.mapping is None


def may_end(layout: FileLayout) -> bool:
    """Return whether a line of a file may be about an enrollment that has ended, or be a drop."""
    return layout.system is not None or may_hold_drops(layout)


def without_drops(source: Readable, lines: Lines) -> Lines:
    """Yield the lines of a snapshot.

    Another system may list enrollments that have ended. The snapshot does not name them, so such
    lines are left out, and a notice counts them. Raises UnreadableFile for a drop, or a moment, in
    any other file with enrollments.
    """
    layout = source.layout
    layout.notices.is_snapshot = True
    ended: Counter[str] = Counter()
    for entry in lines:
        if isinstance(entry, SourceRecord) and layout.system is None:
            _check_record(entry, source.name)
        if not isinstance(entry, SourceRecord) or not is_drop(entry.record):
            yield entry
        else:
            ended[entry.record.get(REASON, "a drop")] += len(entry.lines)
    if ended:
        _notice_ended(source.name, ended, layout.notices)


def _check_record(entry: SourceRecord, name: str) -> None:
    """Raise UnreadableFile for a record of a file of ours that cannot be in a snapshot."""
    line = f"Line {entry.lines[0]:,} of {within(name)}"
    if is_drop(entry.record):
        raise UnreadableFile(
            f"{line} is a drop, but a snapshot names those who are enrolled, and drops the others."
            f" Remove the lines with drops, {_REMEDY}. Nothing was applied.",
            "snapshot",
        )
    if isinstance(entry.record, dict) and entry.record.get(AS_OF) is not None:
        raise UnreadableFile(
            f"{line} has a field {AS_OF}, but all lines of a snapshot count at the same moment:"
            f" {_WHY_ONE_MOMENT}. Remove the field from all lines, {_REMEDY}. Nothing was applied.",
            "snapshot",
        )


def _notice_ended(name: str, counts: Counter[str], notices: Notices) -> None:
    count = counts.total()
    lines = "1 line is" if count == 1 else f"{count:,} lines are"
    reasons = ", ".join(f"{number:,} {reason!a}" for reason, number in counts.most_common())
    notices.add(
        f"{name}: {lines} about enrollments that have ended: {reasons}. The snapshot leaves them"
        " out, so these enrollments are dropped with the others that it does not name."
    )


def is_drop(record: Any) -> bool:
    """Return whether a record that was read from a file asks for a drop."""
    return isinstance(record, dict) and bool(record.get(COURSE_FIELDS[Action.DROP]))
