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

_AS_WRITTEN = frozenset(
    space + written
    for word in _WORDS
    for written in (word, word.upper(), word.capitalize(), word.replace("tobed", "toBeD"))
    for space in ("", " ")
)
"""The words as programs write them: looking for these is quick enough for every row."""

_WHAT_IS_DONE = {
    Kind.ENROLLMENTS: "the line enrolls its student all the same. If that is not meant, name this"
    " column action, and write enroll or drop into it; from a snapshot, remove such lines instead",
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
    what_is_done: str | None = None,
) -> Iterator[Row | RefusedLine]:
    """Yield the rows; add a notice at the first one that seems to ask for a drop.

    `unread` are the columns that are not read, each as its position and its name. The notice ends
    with what is done with the line, and what to do if that is not meant.
    """
    what_is_done = what_is_done or _WHAT_IS_DONE[kind]
    for entry in rows:
        yield entry
        if not isinstance(entry, tuple) or _AS_WRITTEN.isdisjoint(entry[1]):
            continue
        line, row = entry
        marked = next(((at, name) for at, name in unread if row[at] in _AS_WRITTEN), None)
        if marked is None:
            continue  # A column that is read may have such a word: it is an id or a name.
        finding = f"has {row[marked[0]].strip()!a} in the column {marked[1][:60]!a}"
        notices.add(f"{path}: line {line:,} {finding}, which is not read: {what_is_done}.")
        yield from rows
