"""Remember under which batch id each file was submitted, so that `--resume` needs no id."""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MAX_ENTRIES = 1_000
"""How many unfinished submissions are remembered; of more, the oldest are forgotten."""


Files = Path | tuple[Path, ...]
"""What is submitted under one id: a file, a folder, or several files in any order."""


class PlanPart(NamedTuple):
    """Which part of a planned submission files are."""

    submission: str
    """The same for all parts of one submission, and for no other."""
    options: str
    """The options of the plan, as a text: with others, it is another submission."""
    place: int
    """How many parts come before this one."""
    parts: int
    """How many parts the submission has."""


class _Entry(NamedTuple):
    """An unfinished submission of a file, or of several together."""

    batch_id: str
    size: int
    modified: int
    """The size and the modification time, which change if the file is replaced; of several files,
    the size of all of them, and a number that depends on the times."""
    begun: int
    """When the submission began, in nanoseconds."""
    plan: PlanPart | None = None


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
        self._begun: dict[Files, tuple[int, PlanPart | None]] = {}

    def begin(self, files: Files, batch_id: str, plan: PlanPart | None = None) -> None:
        """Record that files are now being submitted under this batch id, as a part of a plan."""
        begun, _ = self._begun[files] = time.time_ns(), plan
        # In some containers the folder is read-only; then only `--resume` does not work.
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_over()
            self._write(_name(files), _Entry(batch_id, *_identity(files), begun, plan))
            self._forget_oldest()

    def find(self, files: Files) -> str | None:
        """Return the batch id of the newest unfinished submit of these files, or None.

        Files of which one was changed since then are another submission.
        """
        old = self._read_old().get(_name(files))
        entries = [*self._same(files), *([old] if old and _is_same(old, files) else [])]
        unplanned = [entry for entry in entries if entry.plan is None]
        newest = max(unplanned, key=lambda entry: entry.begun, default=None)
        return newest.batch_id if newest else None

    def find_plan(self, inputs: Collection[Files], options: str) -> dict[Files, str]:
        """Return the batch ids of the newest unfinished plan of exactly these files, or nothing.

        They are in the order of the first submission. A plan with other options, or with a file
        that was changed since then, is another submission.
        """
        parts: dict[PlanPart, tuple[_Entry, Files]] = {}
        for files in inputs:
            for entry in self._same(files):
                if entry.plan and entry.plan[1:] == (options, entry.plan.place, len(inputs)):
                    parts[entry.plan] = entry, files
        submissions = defaultdict(list)
        for part in sorted(parts, key=lambda part: part.place):
            submissions[part.submission].append(parts[part])
        complete = [found for found in submissions.values() if len(found) == len(inputs)]
        newest = max(complete, key=lambda found: found[0][0].begun, default=[])
        return {files: entry.batch_id for entry, files in newest}

    def finish(self, submitted: Iterable[Files]) -> None:
        """Forget the submissions of these files, because they were submitted completely.

        Submissions that began after the one that `begin` recorded stay, and so do those that were
        planned in another way.
        """
        for files in submitted:
            begun, plan = self._begun.get(files, (time.time_ns(), None))
            for file, entry in self._entries(files):
                if entry.begun <= begun and _is_planned_alike(entry.plan, plan):
                    with contextlib.suppress(OSError):
                        file.unlink(missing_ok=True)

    def _same(self, files: Files) -> list[_Entry]:
        """Return the submissions of these files, as they are now."""
        return [entry for _, entry in self._entries(files) if _is_same(entry, files)]

    def _entries(self, files: Files) -> Iterator[tuple[Path, _Entry]]:
        """Yield the submissions of these files, each with the file in which it is stored."""
        for file in self._folder.glob(f"{_digest(_name(files))}-*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                entry = _Entry(**json.loads(file.read_text()))
                plan = None if entry.plan is None else PlanPart(*entry.plan)
                yield file, _checked(entry._replace(plan=plan))

    def _write(self, submitted: str, entry: _Entry) -> None:
        """Write an entry so that a crash leaves either all of it or nothing."""
        name = f"{_digest(submitted)}-{_digest(entry.batch_id)}.json"
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
            self._write(path, entry)
        if entries:
            self._old.unlink(missing_ok=True)


def _checked(entry: _Entry) -> _Entry:
    """Return an entry that was read. Raises TypeError if it has values of other types."""
    plan = entry.plan or PlanPart("", "", 0, 0)
    if not all(map(isinstance, (*entry[:4], *plan), (str, int, int, int, str, str, int, int))):
        raise TypeError(entry)
    return entry


def _is_same(entry: _Entry, files: Files) -> bool:
    return (entry.size, entry.modified) == _identity(files)


def _is_planned_alike(part: PlanPart | None, other: PlanPart | None) -> bool:
    if part is None or other is None:
        return part is other
    return (part.options, part.parts) == (other.options, other.parts)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _listed(files: Files) -> list[Path]:
    """Return the full paths of files, in an order that does not depend on how they were named."""
    return sorted({path.resolve() for path in (files if isinstance(files, tuple) else (files,))})


def _name(files: Files) -> str:
    """Return what stands for files in the journal: a path, or the paths of several."""
    return "\0".join(map(str, _listed(files)))


def _identity(files: Files) -> tuple[int, int]:
    """Return a size and a number that change if one of the files is replaced."""
    paths = _listed(files)
    if len(paths) == 1 and not paths[0].is_dir():
        stat = paths[0].stat()
        return stat.st_size, stat.st_mtime_ns
    # The time of a folder does not change if a file in it does.
    within = [inner for path in paths for inner in _files_in(path)]
    stats = [(str(path), path.stat()) for path in within]
    times = "\0".join(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}" for path, stat in stats)
    return sum(stat.st_size for _, stat in stats), int(_digest(times)[:15], 16)


def _files_in(path: Path) -> list[Path]:
    """Return the files that are read of a folder, or a file itself."""
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
