"""Write the files of the audit: JSON lines about who was shown whose data, one file a day.

Several server processes may share a folder. Nothing else is stored: no name or address, no token.
"""

import errno
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from producer.errors import EnrollmentError

log = logging.getLogger(__name__)

_NAME = re.compile(r"audit-(\d{4}-\d{2}-\d{2})\.jsonl")
_OPEN: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class AuditError(EnrollmentError):
    """Disclosures cannot be recorded; the message names the folder and the remedy."""


class Disclosure(NamedTuple):
    """What a response shows to whom."""

    caller: str | None
    """The name of the token; None without tokens."""
    call_id: str | None
    what: str
    """What is shown, in the words of `docs/access.md`."""
    whose: Sequence[int | str]
    """The ids of students as the caller, or the result, names them; none for a roll or batch."""
    status: int
    more: Mapping[str, Any]
    """Which request, batch or course; of a roll how many students, and their first and last key."""

    def line(self, at: datetime) -> str:
        """Return the line of the file, which is short whatever is shown."""
        fields = {
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "caller": self.caller,
            "call_id": self.call_id,
            "what": self.what,
            "whose": list(self.whose),
            "status": self.status,
            **self.more,
        }
        # ASCII only: control characters and the line ends of Unicode are escaped.
        return json.dumps(fields, separators=(",", ":")) + "\n"


RESUMED: Final = Disclosure(None, None, "resumed", (), 503, {})
"""The line after lines that could not be written, whose calls were refused with this status."""


class AuditFolder:
    """The folder with the files; one thread uses it at a time. Its methods raise OSError."""

    def __init__(
        self, path: Path, days: int, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.path = path.resolve()
        self._days = days
        self._now = now
        self._day: date | None = None
        """The day of the newest write."""
        self._may_be_cut = True
        """Whether the file may end in the middle of a line: after a failed write, or a crash."""
        self._has_failed = False
        """Whether the newest line could not be written."""

    def prepare(self) -> None:
        """Make the folder if it is missing, and check that it can be written.

        Raises AuditError.
        """
        try:
            if not self.path.exists():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.path.chmod(0o700)  # The umask may have taken rights from it.
            self.check()
            if self.path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                warning = "Other users can remove what is recorded in %s; run: chmod go-w %s"
                log.warning(warning, self.path, self.path)
        except OSError as error:
            raise AuditError(
                f"Disclosures cannot be recorded in {self.path}: {error.strerror}. Make it a folder"
                " that belongs to the user of the HTTP front, or name another one with --audit or"
                " ENROLL_HTTP_AUDIT."
            ) from None

    def check(self) -> None:
        """Check that the file of this day can be opened.

        If the newest line could not be written, write one that says that lines are written again.
        """
        self.write([RESUMED] if self._has_failed else ())

    def write(self, disclosures: Sequence[Disclosure]) -> None:
        """Append lines to the file of this day, all in one piece."""
        now = self._now()
        data = "".join(d.line(now) for d in disclosures).encode()
        with self._opened() as folder:
            if now.date() != self._day:
                self._remove_old(folder, now.date())
            file = os.open(f"audit-{now.date()}.jsonl", _OPEN, 0o600, dir_fd=folder)
            try:
                _require_own(file)
                self._append(file, data)
            finally:
                os.close(file)
        self._day = now.date()

    def _append(self, file: int, data: bytes) -> None:
        if not data:
            return
        if self._may_be_cut and _is_cut(file):
            data = b"\n" + data
        self._may_be_cut = self._has_failed = True
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._may_be_cut = self._has_failed = False

    @contextmanager
    def _opened(self) -> Iterator[int]:
        folder = os.open(self.path, _OPEN_FOLDER)
        try:
            yield folder
        finally:
            os.close(folder)

    def _remove_old(self, folder: int, today: date) -> None:
        """Remove the files that are too old; if that fails, it is only logged."""
        if not self._days:
            return
        oldest = today - timedelta(days=self._days)
        for name in os.listdir(folder):
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            try:
                if date.fromisoformat(match[1]) < oldest:
                    os.unlink(name, dir_fd=folder)  # A link is removed, not what it leads to.
            except FileNotFoundError:
                pass  # Another process was faster.
            except (OSError, ValueError) as error:
                log.warning("The old audit file %s cannot be removed: %s", name, error)


def _is_cut(file: int) -> bool:
    """Return whether the file ends in the middle of a line."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _require_own(file: int) -> None:
    """Check that this is a regular file of this user, and let no other user read it."""
    state = os.fstat(file)
    if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
        reason = "the file of this day is not a regular file of this user"
        raise PermissionError(errno.EPERM, reason)
    if stat.S_IMODE(state.st_mode) != 0o600:  # noqa: PLR2004 - a mode
        # The umask may have taken rights from it, or another process may have added some.
        os.fchmod(file, 0o600)
