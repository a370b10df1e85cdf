"""List and open the files of a zip archive that holds several, such as an export of a school.

Nothing is unpacked to the disk, and what the archive says of itself is checked before it is read.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

from producer.errors import UnreadableFile
from producer.files.containers import (
    FREE_BYTES,
    MAX_RATIO,
    Container,
    Content,
    Packed,
    shown_name,
    tables,
    unpacked,
    zip_errors_named,
)

_MAX_FOLDERS = 1
"""How many folders deep a file of a package may lie: programs often pack the folder itself."""


def within(name: str) -> str:
    """Return the name of a package as it stands within a sentence: the file, not The file."""
    return f"the {name.removeprefix('The ')}" if name.startswith("The ") else name


class ArchiveFile(NamedTuple):
    """A file in an archive: its path as it is shown in messages, and its size in bytes.

    Reading it never yields more than `size`.
    """

    path: str
    size: int
    info: zipfile.ZipInfo


class Archive:
    """The files of a zip archive, by their names without a folder, in lower case (casefolded)."""

    def __init__(self, name: str, file: BinaryIO, files: Mapping[str, ArchiveFile]) -> None:
        self.name = name
        self.files = files
        self._file = file

    def open(self, file_name: str) -> Content:
        """Return the content of one of `files`. Raises UnreadableFile.

        Several may be open at once. Reading raises UnreadableFile if the file is damaged, or
        unpacks to far more than it can hold.
        """
        entry = self.files[file_name]
        name = f"{entry.path} in {within(self.name)}"
        packed = Packed(self._file)  # One for each file, so that each has its own ratio.
        with zip_errors_named(self.name):
            archive = zipfile.ZipFile(cast("BinaryIO", packed))
            content: Any = archive.open(entry.info)
        return Content(name, unpacked(name, content, packed), Container.ZIP, entry.path)


def open_archive(name: str, file: BinaryIO) -> Archive:
    """Return the files of a zip archive, which must be seekable; folders do not count.

    What systems add, such as `__MACOSX`, is passed over. Raises UnreadableFile if the archive is
    damaged or empty, if two files have the same name, if a file lies too deep in folders, or if
    the archive cannot be read safely (`producer.files.containers.tables`).
    """
    size = file.seek(0, io.SEEK_END)
    with zip_errors_named(name):
        entries = zipfile.ZipFile(cast("BinaryIO", Packed(file))).infolist()
    files = tables(name, entries)
    _check_sizes(name, files, size)
    by_name: dict[str, ArchiveFile] = {}
    for info in files:
        *folders, base = info.filename.replace("\\", "/").split("/")
        found = ArchiveFile(shown_name(info), info.file_size, info)
        other = by_name.setdefault(base.casefold(), found)
        if other is not found:
            raise UnreadableFile(
                f"{name} has two files of the same name, {other.path} and {found.path}; remove the"
                " one that does not belong to it."
            )
        if len(folders) > _MAX_FOLDERS:
            raise UnreadableFile(
                f"{name} has a file in a folder within a folder, {found.path}; pack the files"
                " themselves, without their folders."
            )
    return Archive(name, file, by_name)


def _check_sizes(name: str, files: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Raise UnreadableFile if the files together are far larger than the archive.

    `zipfile` never reads more of a file than the archive says, so the limit holds whatever it says.
    """
    if sum(file.file_size for file in files) > max(FREE_BYTES, MAX_RATIO * size):
        raise UnreadableFile(
            f"{name} becomes more than {MAX_RATIO} times as large when it is unpacked, which tables"
            " do not. Unpack it, and look at what it holds."
        )
