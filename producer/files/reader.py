"""Open a file as a stream of records: delimited text or JSON Lines.

The head of a file is checked before anything is handed out; a bad line later on becomes a
`RefusedLine` and harms no other.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from producer.errors import UnreadableFile
from producer.files.delimited import delimited_layout
from producer.files.json_lines import json_lines_layout
from producer.files.layout import FileLayout, Lines
from producer.schemas import MAX_CHUNK_BYTES, Kind

HEAD_BYTES = 65_536


class FileSource:
    """A file whose head was checked: its path, its size in bytes, and what its records are.

    `columns` is the header of a CSV file.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        read: Callable[[BinaryIO], Lines],
        columns: tuple[str, ...] | None = None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.columns = columns
        self.size = path.stat().st_size
        self._read = read
        self._file: BinaryIO | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    @property
    def share(self) -> float | None:
        """The share of it that was read so far; None before the beginning."""
        return self.bytes_read / self.size or None

    @property
    def bytes_read(self) -> int:
        """How far the reader has come."""
        return 0 if self._file is None else self.size if self._file.closed else self._file.tell()

    def records(self) -> Lines:
        """Every record from the beginning."""
        with _io_errors_named(self.name), self.path.open("rb") as self._file:
            yield from self._read(self._file)


@contextmanager
def _io_errors_named(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFile(
            f"{name} cannot be read on: {error.strerror}. What was queued of it goes on; submit"
            " it again when it can be read, with --resume or --batch-id."
        ) from error


class StreamSource:
    """What comes through a pipe, its head checked; it is read once, and its size is not known.

    `name` is what messages call it. Raises UnreadableFile, as `open_source`.
    """

    share = None

    def __init__(
        self, name: str, file: BinaryIO, kind: Kind | None, templates: Mapping[str, str]
    ) -> None:
        self.name = name
        with _io_errors_named(name):
            form, self._lines = open_stream(file, kind, templates, name)
        self.kind = form.kind
        self.columns = form.columns

    def records(self) -> Lines:
        """Every record from the beginning."""
        with _io_errors_named(self.name):
            yield from self._lines


class _Replayed(io.RawIOBase):
    """A stream whose beginning was read already, from the beginning."""

    def __init__(self, beginning: bytes, rest: BinaryIO) -> None:
        self._beginning = memoryview(beginning)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._beginning[: len(buffer)] or self._rest.read(len(buffer))
        self._beginning = self._beginning[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def open_stream(
    file: BinaryIO, kind: Kind | None, templates: Mapping[str, str], name: str
) -> tuple[FileLayout, Lines]:
    """Check the head of a stream that can be read once; gives its form and its records.

    `name` is what errors call it; else as `open_source`. Raises UnreadableFile.
    """
    raw = _beginning(file)
    form = _layout(name, kind, templates, _decoded_head(name, raw))
    return form, form.read(io.BufferedReader(_Replayed(raw, file), 1 << 16))


def open_source(path: Path, kind: Kind | None, templates: Mapping[str, str]) -> FileSource:
    """Check a file's head and its mapping.

    `kind` is taken from the header where it is None. `templates` gives for one of our columns
    a text over the file's own columns, as `{code_module}-{code_presentation}`.
    Raises UnreadableFile, which names the file, the place and the remedy.
    """
    try:
        with path.open("rb") as file:
            raw = _beginning(file)
    except IsADirectoryError:
        raise UnreadableFile(f"{path} is a directory; name the files in it.") from None
    except OSError as error:
        raise UnreadableFile(
            f"{path} cannot be read: {error.strerror}; give the path of a file that you may read."
        ) from None
    form = _layout(str(path), kind, templates, _decoded_head(str(path), raw))
    return FileSource(path, *form)


def _layout(path: str, kind: Kind | None, templates: Mapping[str, str], head: str) -> FileLayout:
    if head.lstrip().startswith("{"):
        return json_lines_layout(path, kind, templates, head)
    return delimited_layout(path, kind, templates, head)


def _beginning(file: BinaryIO) -> bytes:
    """It ends where a line ends, so that no character of it is cut in two."""
    return file.read(HEAD_BYTES) + file.readline(MAX_CHUNK_BYTES)


def _decoded_head(path: str, raw: bytes) -> str:
    """The first lines."""
    if b"\x00" in raw:
        raise UnreadableFile(f"{path} is a binary file; export it as CSV or JSON Lines in UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(
            f"{path}, line {line}: not UTF-8; save the file with the encoding UTF-8."
        ) from None
    if not text.strip():
        raise UnreadableFile(f"{path} is empty; a CSV file begins with a header line.")
    return text
