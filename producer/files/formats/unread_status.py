"""Watch for ended enrollments in the files of systems that export only current ones."""

from collections.abc import Iterator, Sequence

from producer.contract.chunks import RefusedLine
from producer.files.cells import Row
from producer.files.drop_notices import noticing_drops
from producer.files.formats.base import Table, folded
from producer.files.notices import Notices
from producer.schemas import Kind

_NAMES = frozenset({
    "action", "enrollment status", "enrollment_status", "enrollmentstatus", "operation", "state",
    "status",
})  # fmt: skip
"""How columns are named, folded, in which a line may say that its enrollment has ended."""

_WHAT_IS_DONE = (
    "the line enrolls its student all the same, because such an export names only current"
    " enrollments. If that is not meant, remove such lines"
)


def status_columns(table: Table, header: Sequence[str]) -> list[tuple[int, str]]:
    """Return the columns of a file without a status that are named like one, by position."""
    if table.rule.status is not None:
        return []
    return [(at, name) for at, name in enumerate(header) if folded(name) in _NAMES]


def noticing_status(
    path: str,
    rows: Iterator[Row | RefusedLine],
    columns: Sequence[tuple[int, str]],
    notices: Notices,
) -> Iterator[Row | RefusedLine]:
    """Yield the rows; add a notice at the first one that is marked as ended in these columns."""
    return noticing_drops(path, Kind.ENROLLMENTS, rows, columns, notices, _WHAT_IS_DONE)
