"""Remember which users of a package are students, on the disk, so that memory stays flat."""

from collections.abc import Iterable

from producer.fields import MAX_TEXT
from producer.files.formats.scratch import ScratchTables


class Roles:
    """The users that the files of a package name as students, or as something else."""

    def __init__(self) -> None:
        self._tables = ScratchTables(
            "The users",
            "CREATE TABLE users (id TEXT PRIMARY KEY, is_student INTEGER) WITHOUT ROWID",
        )

    def add(self, users: Iterable[tuple[str, bool]]) -> None:
        """Add users, each with whether it is a student; once a student, always a student.

        An id that is too long is left out, and refused where it is read. Raises UnreadableFile if
        there is no room.
        """
        self._tables.write(
            "INSERT INTO users VALUES (?, ?) ON CONFLICT (id) DO UPDATE"
            " SET is_student = 1 WHERE excluded.is_student AND NOT users.is_student",
            (pair for pair in users if len(pair[0]) <= MAX_TEXT),
        )

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
        value = self._tables.find("SELECT is_student FROM users WHERE id = ?", user)
        return None if value is None else bool(value)

    def close(self) -> None:
        """Remove the file."""
        self._tables.close()
