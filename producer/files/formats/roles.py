"""Remember which users of a package are students, on the disk, so that memory stays flat."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice

from producer.errors import UnreadableFile
from producer.fields import MAX_TEXT
from producer.files.formats.base import Members

_TOGETHER = 10_000
_ROLE = "no student"
"""What a user is counted as whose role is not known."""


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

    def other_role(self, user: str, members: Members) -> str:
        """Return what a user is counted as who is not a student; "" for a student.

        An id that is too long is not judged.
        """
        if members is Members.ALL or len(user) > MAX_TEXT:
            return ""
        query = "SELECT is_student FROM users WHERE id = ?"
        with closing(self._database.execute(query, (user,))) as rows:
            found = next(rows, None)
        if found is None:
            return _ROLE if members is Members.STUDENTS else ""
        return "" if found[0] else _ROLE

    def close(self) -> None:
        """Remove the file."""
        self._database.close()
