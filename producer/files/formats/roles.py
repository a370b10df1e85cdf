"""Remember which users of a package are students, on the disk, so that memory stays flat."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice

from producer.errors import UnreadableFile
from producer.fields import MAX_TEXT

_TOGETHER = 10_000


class Roles:
    """The users that the files of a package name as students, or as something else.

    They are stored in a temporary file without a name, which is gone when this is closed.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        # Nothing of it outlives the process, so nothing needs to be safe on the disk.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE users (id TEXT PRIMARY KEY, is_student INTEGER) WITHOUT ROWID"
        )

    def add(self, users: Iterable[tuple[str, bool]]) -> None:
        """Add users, each with whether it is a student; once a student, always a student.

        An id that is too long is left out, and refused where it is read. Raises UnreadableFile if
        there is no room.
        """
        try:
            self._add(users)
        except sqlite3.Error as error:
            raise UnreadableFile(
                "The users of the package could not be stored in a temporary file:"
                f" {error}. Make room on the disk, or name another folder in TMPDIR or"
                " SQLITE_TMPDIR, and submit the package again."
            ) from None

    def _add(self, users: Iterable[tuple[str, bool]]) -> None:
        pairs: Iterator[tuple[str, bool]] = (pair for pair in users if len(pair[0]) <= MAX_TEXT)
        while some := list(islice(pairs, _TOGETHER)):
            self._database.execute("BEGIN")
            self._database.executemany(
                "INSERT INTO users VALUES (?, ?) ON CONFLICT (id) DO UPDATE"
                " SET is_student = 1 WHERE excluded.is_student AND NOT users.is_student",
                some,
            )
            self._database.execute("COMMIT")

    def is_student(self, user: str) -> bool:
        """Return whether a file names this user as a student."""
        return self._find(user) is True

    def is_other(self, user: str) -> bool:
        """Return whether files name this user, but never as a student."""
        return self._find(user) is False

    def _find(self, user: str) -> bool | None:
        """Return whether a user is a student; None if no file names it, or its id is too long."""
        if len(user) > MAX_TEXT:
            return None
        query = "SELECT is_student FROM users WHERE id = ?"
        with closing(self._database.execute(query, (user,))) as rows:
            found = next(rows, None)
        return None if found is None else bool(found[0])

    def close(self) -> None:
        """Remove the file."""
        self._database.close()
