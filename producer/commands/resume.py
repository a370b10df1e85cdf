"""Which batch this user's files were last submitted as, so that `--resume` needs no id."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class ResumeJournal:
    """A small file in the user's state folder; a submit works all the same without it."""

    def __init__(self) -> None:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._path = Path(state) / "enroll" / "submissions.json"

    def begin(self, path: Path, batch_id: str) -> None:
        """A file is submitted under this batch id from now on."""
        self._write({**self._read(), str(path.resolve()): [batch_id, *_identity(path)]})

    def find(self, path: Path) -> str | None:
        """The batch id of an unfinished submit of this very file."""
        batch_id, *identity = self._read().get(str(path.resolve()), [None])
        return batch_id if identity == _identity(path) else None

    def finish(self, paths: Iterable[Path]) -> None:
        """Nothing is left to resume of these."""
        done = {str(path.resolve()) for path in paths}
        self._write({path: entry for path, entry in self._read().items() if path not in done})

    def _read(self) -> dict[str, list[Any]]:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self._path.read_text())
            if isinstance(found, dict):
                return found
        return {}

    def _write(self, entries: dict[str, list[Any]]) -> None:
        # A folder that cannot be written, as in some containers, costs only `--resume`.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps(entries))
            new.replace(self._path)


def _identity(path: Path) -> list[int]:
    """Size and time of change: another file under the same name is another submission."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
