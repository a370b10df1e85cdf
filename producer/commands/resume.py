"""Remember under which batch id each file was submitted, so that `--resume` needs no id."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class ResumeJournal:
    """A small file in the user's state folder; if it cannot be written, only `--resume` suffers."""

    def __init__(self) -> None:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._path = Path(state) / "enroll" / "submissions.json"

    def begin(self, path: Path, batch_id: str) -> None:
        """Record that a file is now being submitted under this batch id."""
        self._write({**self._read(), str(path.resolve()): [batch_id, *_identity(path)]})

    def find(self, path: Path) -> str | None:
        """Return the batch id of an unfinished submit of this file, or None if there is none."""
        batch_id, *identity = self._read().get(str(path.resolve()), [None])
        return batch_id if identity == _identity(path) else None

    def finish(self, paths: Iterable[Path]) -> None:
        """Forget these files, because they were submitted completely."""
        finished = {str(path.resolve()) for path in paths}
        self._write({path: entry for path, entry in self._read().items() if path not in finished})

    def _read(self) -> dict[str, list[Any]]:
        with contextlib.suppress(OSError, ValueError):
            entries = json.loads(self._path.read_text())
            if isinstance(entries, dict):
                return entries
        return {}

    def _write(self, entries: dict[str, list[Any]]) -> None:
        # In some containers the folder is read-only; then only `--resume` does not work.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(entries))
            temporary.replace(self._path)


def _identity(path: Path) -> list[int]:
    """Return the size and the modification time, which change if the file is replaced."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
