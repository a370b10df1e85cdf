"""Open the files of a package: those of a zip archive, or of a folder."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from producer.errors import UnreadableFile
from producer.files.archives import Archive
from producer.files.containers import MAX_ENTRIES, ZIP, Content, unpack

_SHOWN = 5
"""How many files are named in the name of a package of loose files."""


class PackageFiles(Protocol):
    """The files of a package, by their names without a folder, folded."""

    name: str
    """The name of the package in messages."""
    sizes: Mapping[str, int]
    """The size of each file in bytes."""

    def open(self, file_name: str) -> AbstractContextManager[Content]:
        """Open a file. Raises UnreadableFile."""

    def close(self) -> None:
        """Close what is open."""


class ArchiveFiles:
    """The files of an archive; `file` is closed with them if they own it."""

    def __init__(self, archive: Archive, file: BinaryIO | None) -> None:
        self.name = archive.name
        self.sizes: Mapping[str, int] = {name: entry.size for name, entry in archive.files.items()}
        self._archive = archive
        self._file = file

    @contextmanager
    def open(self, file_name: str) -> Iterator[Content]:
        """Open a file. Raises UnreadableFile."""
        content = self._archive.open(file_name)
        with content.file:
            yield content

    def close(self) -> None:
        """Close the archive."""
        if self._file is not None:
            self._file.close()


class _PathFiles:
    """Files by their names, folded, that lie on the disk."""

    name: str

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self.sizes: Mapping[str, int] = {name: path.stat().st_size for name, path in paths.items()}

    @contextmanager
    def open(self, file_name: str) -> Iterator[Content]:
        """Open a file. Raises UnreadableFile."""
        path = self._paths[file_name]
        with path.open("rb") as file:
            beginning = file.read(len(ZIP))
            file.seek(0, io.SEEK_SET)
            yield unpack(self._shown(path), file, beginning)

    def _shown(self, path: Path) -> str:
        """Return the name of a file in messages."""
        return f"{path.name} in {self.name}"

    def close(self) -> None:
        """Do nothing: each file is closed after it was read."""


class FolderFiles(_PathFiles):
    """The files of a folder, without those in folders within it and hidden ones."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
        by_name = _by_name(self.name, [path for path in paths if not path.name.startswith(".")])
        if len(by_name) > MAX_ENTRIES:
            raise UnreadableFile(
                f"{folder} has more than {MAX_ENTRIES} files; submit the folder of one export."
            )
        super().__init__(by_name)


class LooseFiles(_PathFiles):
    """Files of one export that are named one by one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        names = [path.name for path in paths[:_SHOWN]]
        names += [f"{len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else []
        self.name = f"The package of {', '.join(names[:-1])} and {names[-1]}"
        super().__init__(_by_name(self.name, paths))

    def _shown(self, path: Path) -> str:
        return str(path)


def _by_name(name: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Return files by their names, folded. Raises UnreadableFile if two have the same name."""
    by_name: dict[str, Path] = {}
    for path in paths:
        other = by_name.setdefault(path.name.casefold(), path)
        if other is not path:
            raise UnreadableFile(
                f"{name} has two files of the same name, {other.name} and {path.name}; remove"
                " the one that does not belong to it."
            )
    return by_name
