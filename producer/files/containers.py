"""Unpack a file that is compressed with gzip, or that is the only one in a zip archive.

The content of a file decides what it is, not its name. Nothing is written to the disk under a name
from an archive, and the size of the content is bounded.
"""

import gzip
import io
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, BinaryIO, NamedTuple, cast

from producer.errors import UnreadableFile
from producer.files.notices import Notices
from producer.files.shorten import shorten

GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
ZIPS = (ZIP, b"PK\x05\x06")
"""The beginnings of zip archives: with files, and without."""

MAX_RATIO = 100
"""How many times as large as its compressed form a file may be."""
FREE_BYTES = 32 * 1024**2
"""Up to this size, the ratio does not count: a spreadsheet's empty rows compress extremely well."""
MAX_SPOOLED = 4 * 1024**3
"""The most bytes of a zip archive on a pipe, which is stored in a temporary file to be read."""
MAX_ENTRIES = 100
"""The most files and folders in a zip archive."""
_MAX_READ = 1024**2
"""The most bytes of a compressed file that are read at once; a zip archive's list is one read."""

_UNPACK = "unpack it, and submit the file in it"
AS_CSV = "save it as CSV (in Excel: CSV UTF-8), and submit that file"
_GET_AGAIN = (
    "Get the file again, and submit it; if a part of it was already submitted, use the same batch"
    " id."
)
_OFFICE = (
    ("xl/workbook.bin", "a binary Excel workbook"),
    ("xl/workbook", "an Excel workbook"),
    ("word/document", "a Word document"),
    ("ppt/presentation", "a PowerPoint presentation"),
    ("[Content_Types].xml", "an Office document"),
    ("META-INF/manifest.xml", "an OpenDocument file, for example from LibreOffice"),
    ("Index/Document.iwa", "an Apple Numbers or Pages document"),
)
"""The beginning of a name in the zip archives in which programs store their documents."""
_ENCRYPTED = 1
"""The flag of an encrypted file in a zip archive."""
_CLUTTER = re.compile(
    r"(^|/)(__MACOSX/|\._[^/]*$|\.DS_Store$|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE
)
_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")


class Container(StrEnum):
    """How a file is packed."""

    GZIP = "gzip"
    """Compressed with gzip."""
    ZIP = "zip"
    """The only file in a zip archive."""
    WORKBOOK = "workbook"
    """A sheet of an Excel workbook."""
    PACKAGE = "package"
    """Several files in a zip archive."""


class Content(NamedTuple):
    """What a file holds once it is unpacked, with its name in messages.

    `container` is how it is packed, if it is; `inner` is the name of a file in a zip archive or of
    a sheet in a workbook, and `sheets` are the names of all its sheets. `notices` are about the
    unpacking, and may grow while the file is read.
    """

    name: str
    file: BinaryIO
    container: Container | None = None
    inner: str | None = None
    notices: Notices | None = None
    sheets: tuple[str, ...] = ()

    @property
    def packed(self) -> bool:
        """Return whether the file must be unpacked."""
        return self.container is not None


def unpack(name: str, file: BinaryIO, beginning: bytes, *, goes_on: bool = False) -> Content:
    """Return the content of a file, whose first bytes are `beginning`; `file` yields them again.

    A zip archive must be seekable. Reading the content raises UnreadableFile if the file is
    damaged, or unpacks to far more than it can hold. If `goes_on`, `file` is only the beginning of
    a file, which must not be a zip archive, and its content ends where the data do.
    """
    if beginning.startswith(GZIP):
        packed = Packed(file)
        content: Any = gzip.GzipFile(fileobj=cast("BinaryIO", packed))
        return Content(name, unpacked(name, content, packed, goes_on=goes_on), Container.GZIP)
    if beginning.startswith(ZIPS):
        return _unpack_zip(name, file)
    return Content(name, file)


def spool_zip(name: str, file: BinaryIO) -> BinaryIO:
    """Store a zip archive that arrives on a pipe in a temporary file. Raises UnreadableFile."""
    try:
        spooled = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            _copy(name, file, spooled)
        except BaseException:
            spooled.close()
            raise
    except OSError as error:
        raise UnreadableFile(
            f"{name} is a zip archive, which could not be stored in a temporary file:"
            f" {error.strerror}. Unpack it, and submit the file in it."
        ) from error
    return cast("BinaryIO", spooled)


def _copy(name: str, file: BinaryIO, spooled: Any) -> None:
    while block := file.read(_MAX_READ):
        spooled.write(block)
        if spooled.tell() > MAX_SPOOLED:
            raise UnreadableFile(
                f"{name} is a zip archive of more than {MAX_SPOOLED:,} bytes, which is too large"
                " for a pipe. Unpack it, and submit the file in it."
            )
    spooled.seek(0)


class Packed:
    """A compressed file that counts the bytes read from it, and is never read in huge pieces."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= _MAX_READ else _MAX_READ + 1)
        if len(data) > _MAX_READ:
            raise zipfile.BadZipFile("its list of files is too long")
        self.bytes_read += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < 0:
            raise zipfile.BadZipFile("its list of files is damaged")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return self._file.seekable()


class _Unpacked(io.RawIOBase):
    """The content of a compressed file, which stops with UnreadableFile if it is damaged."""

    def __init__(self, name: str, content: Any, packed: Packed, *, goes_on: bool) -> None:
        self._name = name
        # What was unpacked before an error counts only if the file goes on.
        self._read = content.read1 if goes_on else content.read
        self._goes_on = goes_on
        self._packed = packed
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._read(min(len(buffer), _MAX_READ))
        except EOFError:
            if self._goes_on:
                return 0
            raise UnreadableFile(
                f"{self._name} is incomplete: its compressed data ends too early. {_GET_AGAIN}"
            ) from None
        except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, struct.error) as error:
            raise UnreadableFile(
                f"{self._name} is damaged, or something was added to it: {error}. {_GET_AGAIN}"
            ) from None
        self._size += len(data)
        if self._size > max(FREE_BYTES, MAX_RATIO * self._packed.bytes_read):
            raise UnreadableFile(
                f"{self._name} becomes more than {MAX_RATIO} times as large when it is unpacked,"
                " which no ordinary table does. Unpack it, and check what it holds."
            )
        buffer[: len(data)] = data
        return len(data)


def unpacked(name: str, content: Any, packed: Packed, *, goes_on: bool = False) -> BinaryIO:
    """Return the content of a compressed file, which reads its bytes from `packed`.

    Reading raises UnreadableFile if the file is damaged, or unpacks to far more than it can hold;
    `name` is its name in the message.
    """
    return io.BufferedReader(_Unpacked(name, content, packed, goes_on=goes_on), 1 << 16)


def _unpack_zip(name: str, file: BinaryIO) -> Content:
    packed = Packed(file)
    with zip_errors_named(name):
        archive = zipfile.ZipFile(cast("BinaryIO", packed))
        entry = only_file(name, archive.infolist())
        content: Any = archive.open(entry)
    name = f"{name} ({shown_name(entry)})"
    return Content(name, unpacked(name, content, packed), Container.ZIP, shown_name(entry))


@contextmanager
def zip_errors_named(name: str) -> Iterator[None]:
    """Raise UnreadableFile for every error of a zip archive that is damaged, or of a rare kind."""
    try:
        yield
    # A list of files that is damaged can mislead `zipfile` into each of these.
    except (zipfile.BadZipFile, struct.error, ValueError, OverflowError, EOFError):
        raise UnreadableFile(
            f"{name} is a zip archive or an Excel workbook that is damaged or incomplete."
            f" {_GET_AGAIN} A workbook cannot be read: {AS_CSV}."
        ) from None
    except NotImplementedError as error:
        raise UnreadableFile(
            f"{name} is a zip archive of a kind that cannot be read: {error}. Unpack it, and submit"
            " the file in it."
        ) from None


def only_file(name: str, entries: Sequence[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """Return the only file of an archive; folders and files that systems add do not count.

    Raises UnreadableFile if there is none, if there are several, or if it cannot be read.
    """
    files = tables(name, entries)
    if len(files) > 1:
        shown = ", ".join(shown_name(entry) for entry in files[:5])
        more = f" and {len(files) - 5:,} more" if len(files) > 5 else ""  # noqa: PLR2004
        raise UnreadableFile(
            f"{name} is a zip archive with {len(files):,} files: {shown}{more}. Unpack it, and"
            " submit the files that you mean."
        )
    return files[0]


def tables(name: str, entries: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Return the files of an archive; folders and files that systems add do not count.

    Raises UnreadableFile if there is no file, or if one of them cannot be read safely.
    """
    for beginning, what in _OFFICE:
        if any(entry.filename.startswith(beginning) for entry in entries):
            raise UnreadableFile(f"{name} is {what}; {AS_CSV}.")
    files = [entry for entry in entries if is_table(entry)]
    problem = _problem(files, len(entries))
    if problem is not None:
        raise UnreadableFile(f"{name} is a zip archive {problem}.")
    return files


def is_table(entry: zipfile.ZipInfo) -> bool:
    """Return whether an entry of an archive may be the table: not a folder, and not an addition."""
    # The method `is_dir` of Python 3.11 fails if the name is empty.
    return not entry.filename.endswith("/") and not _CLUTTER.search(entry.filename)


def _problem(files: Sequence[zipfile.ZipInfo], entries: int) -> str | None:
    """Return why the files of an archive cannot be read, if they cannot."""
    if not files:
        return "without a file; pack the table into it, or submit the table itself"
    if entries > MAX_ENTRIES:
        return f"with more than {MAX_ENTRIES} entries; {_UNPACK}"
    return next(filter(None, map(problem_of, files)), None)


def problem_of(file: zipfile.ZipInfo) -> str | None:
    """Return why a file of an archive cannot be read, if it cannot."""
    problems = (
        (file.flag_bits & _ENCRYPTED, f"with a password; {_UNPACK}"),
        (
            file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
            f"whose compression method is not supported; {_UNPACK}",
        ),
        (
            stat.S_ISLNK(file.external_attr >> 16),
            f"that holds only a link, {shown_name(file)}; pack the file itself",
        ),
        (
            _OUTSIDE.search(file.filename),
            f"whose file has a path that leads out of it, {shown_name(file)}; pack it again",
        ),
    )
    return next((problem for applies, problem in problems if applies), None)


def shown_name(entry: zipfile.ZipInfo) -> str:
    """Return the name of a file in an archive as it is shown in messages, without quotes."""
    return shorten(entry.filename, 80)[1:-1]
