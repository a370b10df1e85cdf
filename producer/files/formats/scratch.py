"""Store what is known of a package in a temporary file, so that memory stays flat."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

from producer.errors import UnreadableFile

_TOGETHER = 10_000
"""How many rows are written in one transaction."""


class ScratchTables:
    """Tables in a temporary file without a name, which is gone when this is closed.

    `what` says what is stored, for the message of an error. Threads may share it, one at a time.
    """

    def __init__(self, what: str, *tables: str) -> None:
        self._what = what
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        # Nothing of it outlives the process, so nothing needs to be safe on the disk.
        for statement in ("PRAGMA synchronous = OFF", "PRAGMA journal_mode = OFF", *tables):
            self._database.execute(statement)

    def write(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement for each of the rows. Raises UnreadableFile if there is no room."""
        remaining: Iterator[tuple[Any, ...]] = iter(rows)
        while some := list(islice(remaining, _TOGETHER)):
            with self._room():
                self._database.execute("BEGIN")
                self._database.executemany(statement, some)
                self._database.execute("COMMIT")

    def find(self, query: str, *values: Any) -> Any:
        """Return the only value of the first row of a query; None if it has no rows."""
        with closing(self._database.execute(query, values)) as rows:
            row = next(rows, None)
        return None if row is None else row[0]

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnreadableFile(
                f"{self._what} of the package could not be stored in a temporary file: {error}."
                " Make room on the disk, or name another folder in TMPDIR or SQLITE_TMPDIR, and"
                " submit the package again."
            ) from None

    def close(self) -> None:
        """Remove the file."""
        self._database.close()
