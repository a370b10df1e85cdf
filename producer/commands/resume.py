"""Remember under which batch id each file was submitted, so that `--resume` needs no id."""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MAX_ENTRIES = 1_000
"""How many unfinished submissions are remembered; of more, the oldest are forgotten."""


class _Entry(NamedTuple):
    """An unfinished submission of a file."""

    batch_id: str
    size: int
    modified: int
    """The size and the modification time, which change if the file is replaced."""
    begun: int
    """When the submission began, in nanoseconds."""


class ResumeJournal:
    """A small file for each unfinished submission, in a folder in the user's state folder.

    Only the process that submits writes its file, so that submissions at the same time do not
    overwrite each other's. If the folder cannot be written, only `--resume` suffers.
    """

    def __init__(self) -> None:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._folder = Path(state) / "enroll" / "submissions"
        self._old = self._folder.with_suffix(".json")
        """Where earlier versions stored all submissions."""
        self._begun: dict[Path, int] = {}

    def begin(self, path: Path, batch_id: str) -> None:
        """Record that a file is now being submitted under this batch id."""
        begun = self._begun[path] = time.time_ns()
        # In some containers the folder is read-only; then only `--resume` does not work.
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_over()
            self._write(path.resolve(), _Entry(batch_id, *_identity(path), begun))
            self._forget_oldest()

    def find(self, path: Path) -> str | None:
        """Return the batch id of the newest unfinished submit of this file, or None."""
        found = [entry for _, entry in self._entries(path)]
        old = self._read_old().get(str(path.resolve()))
        entries = [entry for entry in (*found, old) if entry is not None]
        same_file = [entry for entry in entries if (entry.size, entry.modified) == _identity(path)]
        newest = max(same_file, key=lambda entry: entry.begun, default=None)
        return newest.batch_id if newest else None

    def finish(self, paths: Iterable[Path]) -> None:
        """Forget the submissions of these files, because they were submitted completely.

        Submissions that began after the one that `begin` recorded stay.
        """
        for path in paths:
            begun = self._begun.get(path, time.time_ns())
            for file, entry in self._entries(path):
                if entry.begun <= begun:
                    with contextlib.suppress(OSError):
                        file.unlink(missing_ok=True)

    def _entries(self, path: Path) -> Iterator[tuple[Path, _Entry]]:
        """Yield the submissions of a file, each with the file in which it is stored."""
        for file in self._folder.glob(f"{_digest(str(path.resolve()))}-*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                yield file, _checked(_Entry(**json.loads(file.read_text())))

    def _write(self, path: Path, entry: _Entry) -> None:
        """Write an entry so that a crash leaves either all of it or nothing."""
        name = f"{_digest(str(path))}-{_digest(entry.batch_id)}.json"
        with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as temporary:
            json.dump(entry._asdict(), temporary)
            temporary.flush()
            os.fsync(temporary.fileno())
        Path(temporary.name).replace(self._folder / name)

    def _forget_oldest(self) -> None:
        files = []
        for file in self._folder.iterdir():
            with contextlib.suppress(OSError):  # Another process may have finished meanwhile.
                files.append((file.stat().st_mtime_ns, file))
        for _, file in sorted(files)[:-MAX_ENTRIES]:
            file.unlink(missing_ok=True)

    def _read_old(self) -> dict[str, _Entry]:
        """Return the submissions that an earlier version stored, by path."""
        found: dict[str, _Entry] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for path, values in json.loads(self._old.read_text()).items():
                with contextlib.suppress(ValueError, TypeError):
                    batch_id, size, modified = values
                    found[path] = _checked(_Entry(batch_id, size, modified, begun=0))
        return found

    def _take_over(self) -> None:
        """Store what an earlier version recorded in the form of this version."""
        entries = self._read_old()
        for path, entry in entries.items():
            self._write(Path(path), entry)
        if entries:
            self._old.unlink(missing_ok=True)


def _checked(entry: _Entry) -> _Entry:
    """Return an entry that was read. Raises TypeError if it has values of other types."""
    if not all(map(isinstance, entry, (str, int, int, int))):
        raise TypeError(entry)
    return entry


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
