"""Read the time at which a line was last changed as the moment at which it counts."""

import re
from collections.abc import Sequence

from producer.errors import UnreadableFile
from producer.files.columns import AS_OF
from producer.files.formats.base import Table
from producer.files.formats.registry import FormatChoice
from producer.files.formats.table_reader import TableColumns
from producer.files.notices import Notices

_WITH_ZONE = re.compile(
    r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})", re.IGNORECASE
)
"""A whole time; a date alone, or a time without its zone, does not say when a line counts."""


class Moments:
    """Reads the moments of lines from the column at a position, and counts lines without one."""

    def __init__(self, at: int) -> None:
        self.at = at
        self._without = 0

    def begin(self) -> None:
        """Start to count at the beginning of the file."""
        self._without = 0

    def read(self, row: Sequence[str]) -> str:
        """Return the moment of a row; "" if it counts at the moment of its batch."""
        text = row[self.at].strip()
        if _WITH_ZONE.fullmatch(text):
            return text.upper().replace(" ", "T")
        self._without += 1
        return ""

    def notice(self, path: str, notices: Notices) -> None:
        """Add a notice about the lines without a moment."""
        if self._without:
            count = "1 line" if self._without == 1 else f"{self._without:,} lines"
            notices.add(
                f"{path}: {count} without a whole time such as 2026-09-01T08:00:00Z in the column"
                " of the last change; such lines count at the time of submission."
            )


def find_moments(
    path: str, table: Table, names: Sequence[str], choice: FormatChoice
) -> Moments | None:
    """Return what reads the moments of a table, if they are to be read.

    Returns None for a file of a package without such a column. `names` are those of its columns,
    folded. Raises UnreadableFile for a single file without them.
    """
    if not choice.moments_from_file:
        return None
    at = next((names.index(name) for name in table.moments if name in names), None)
    if at is not None:
        return Moments(at)
    if choice.table is not None:
        return None
    raise UnreadableFile(
        f"{path} has no column that says when each line was last changed; leave out the option"
        " that takes moments from the file.",
        "moments-from-file",
    )


def with_moments(
    columns: TableColumns, moments: Moments | None, header: Sequence[str]
) -> TableColumns:
    """Return the columns of a table with that of the moments, if there is one."""
    if moments is None:
        return columns
    name = header[moments.at]
    return columns._replace(
        readers={**columns.readers, AS_OF: moments.read},
        shown={**columns.shown, AS_OF: name},
        sources={**columns.sources, AS_OF: (name,)},
        used=columns.used | {moments.at},
    )
