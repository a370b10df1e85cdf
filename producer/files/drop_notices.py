"""Notice a drop that a file seems to ask for in a column that is not read."""

from collections.abc import Iterator, Sequence

from producer.contract.chunks import RefusedLine
from producer.files.cells import Row
from producer.files.notices import Notices
from producer.schemas import Kind

_WORDS = frozenset({
    "cancel", "canceled", "cancelled", "delete", "deleted", "drop", "dropped", "inactive",
    "remove", "removed", "tobedeleted", "unenrol", "unenroll", "unenrolled", "withdraw",
    "withdrawn", "withdrew",
})  # fmt: skip
"""How other systems mark an enrollment that has ended.

`deleted` and `inactive` are from Canvas, `tobedeleted` and `inactive` from OneRoster.
"""

_WHAT_IS_DONE = {
    Kind.ENROLLMENTS: "the line enrolls its student all the same. If that is not meant, name this"
    " column action, and write enroll or drop into it",
    Kind.STUDENTS: "the line adds or changes its student all the same. A roster removes nothing; to"
    " drop students, submit a file of enrollments with a column action",
    Kind.COURSES: "the line adds or changes its course all the same. A roster removes nothing; to"
    " drop students, submit a file of enrollments with a column action",
}


def noticing_drops(
    path: str,
    kind: Kind,
    rows: Iterator[Row | RefusedLine],
    unread: Sequence[tuple[int, str]],
    notices: Notices,
) -> Iterator[Row | RefusedLine]:
    """Yield the rows; add a notice at the first one that seems to ask for a drop.

    `unread` are the columns that are not read, each as its position and its name.
    """
    for entry in rows:
        yield entry
        if not isinstance(entry, tuple) or _WORDS.isdisjoint(map(_plain, entry[1])):
            continue
        line, row = entry
        for position, name in unread:
            if _plain(row[position]) in _WORDS:
                told = f"has {row[position].strip()[:60]!a} in the column {name[:60]!a}"
                notices.add(
                    f"{path}: line {line:,} {told}, which is not read: {_WHAT_IS_DONE[kind]}."
                )
                yield from rows


def _plain(cell: str) -> str:
    return cell.strip().casefold()
