"""Open a CSV or JSON Lines file as a stream of records.

The first lines are checked before any record is read. A bad line later in the file becomes a
`RefusedLine` and does not affect the others.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from producer.errors import UnreadableFile
from producer.files.delimited import delimited_layout
from producer.files.json_lines import json_lines_layout
from producer.files.layout import FileLayout, Lines
from producer.files.text_form import find_form, known_encoding
from producer.schemas import MAX_CHUNK_BYTES, Kind

HEAD_BYTES = 65_536


class FileSource:
    """A file whose first lines have been checked.

    `size` is in bytes; `columns` is the header of a CSV file; `notices` are those of its layout.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        read: Callable[[BinaryIO], Lines],
        columns: tuple[str, ...] | None,
        notices: Sequence[str],
    ) -> None:
        self.path = path
        self.kind = kind
        self.columns = columns
        self.notices = notices
        self.size = path.stat().st_size
        self._read = read
        self._file: BinaryIO | None = None

    @property
    def name(self) -> str:
        """Return the name of the file in messages."""
        return str(self.path)

    @property
    def share(self) -> float | None:
        """Return the fraction of the file that has been read; None if nothing has."""
        return self.bytes_read / self.size or None

    @property
    def bytes_read(self) -> int:
        """Return how many bytes of the file have been read."""
        return 0 if self._file is None else self.size if self._file.closed else self._file.tell()

    def records(self) -> Lines:
        """Yield every record from the beginning of the file. Raises UnreadableFile."""
        with _io_errors_named(self.name), self.path.open("rb") as self._file:
            yield from self._read(self._file)


@contextmanager
def _io_errors_named(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFile(
            f"Reading {name} failed partway: {error.strerror}. The part that was submitted"
            " will still be processed. Once the file can be read again, submit it with --resume or"
            " the same --batch-id."
        ) from error


class StreamSource:
    """A pipe whose first lines have been checked; it can be read once, and has no known size.

    `name` is its name in messages. The constructor raises UnreadableFile, like `open_source`.
    """

    share = None

    def __init__(
        self,
        name: str,
        file: BinaryIO,
        kind: Kind | None,
        templates: Mapping[str, str],
        encoding: str | None = None,
    ) -> None:
        self.name = name
        with _io_errors_named(name):
            layout, self._lines = open_stream(file, kind, templates, name, encoding)
        self.kind = layout.kind
        self.columns = layout.columns
        self.notices = layout.notices

    def records(self) -> Lines:
        """Yield every record from the beginning of the stream. Raises UnreadableFile."""
        with _io_errors_named(self.name):
            yield from self._lines


class _Replayed(io.RawIOBase):
    """A stream whose beginning was already read, and which yields that beginning again first."""

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
    file: BinaryIO,
    kind: Kind | None,
    templates: Mapping[str, str],
    name: str,
    encoding: str | None = None,
) -> tuple[FileLayout, Lines]:
    """Check the first lines of a stream that can be read once; return its layout and records.

    `name` is its name in error messages; the other arguments are those of `open_source`.
    Raises UnreadableFile.
    """
    raw = _beginning(file)
    layout = _layout(name, kind, templates, raw, encoding)
    return layout, layout.read(io.BufferedReader(_Replayed(raw, file), 1 << 16))


def open_source(
    path: Path, kind: Kind | None, templates: Mapping[str, str], encoding: str | None = None
) -> FileSource:
    """Check the first lines of a file and the mapping of its columns.

    If `kind` is None, the header decides. `templates` maps one of our columns to a template over
    the file's own columns, for example `{code_module}-{code_presentation}`. `encoding` is a name
    such as `cp1252`; without it, the text is UTF-16 or UTF-32 if it looks so, and otherwise UTF-8.
    Raises UnreadableFile, whose message names the file, the problem and the remedy.
    """
    try:
        with path.open("rb") as file:
            raw = _beginning(file)
    except IsADirectoryError:
        raise UnreadableFile(f"{path} is a directory; name the files in it.") from None
    except OSError as error:
        raise UnreadableFile(
            f"{path} cannot be read: {error.strerror}; check the path and the permissions."
        ) from None
    return FileSource(path, *_layout(str(path), kind, templates, raw, encoding))


def _layout(
    path: str, kind: Kind | None, templates: Mapping[str, str], raw: bytes, encoding: str | None
) -> FileLayout:
    form, head = find_form(path, raw, None if encoding is None else known_encoding(encoding))
    if not head.strip():
        raise UnreadableFile(
            f"{path} is empty; submit a CSV file with a header line, or JSON Lines."
        )
    describe = json_lines_layout if head.lstrip().startswith("{") else delimited_layout
    layout = describe(path, kind, templates, head)
    return layout._replace(read=lambda file: layout.read(form.as_utf8(file)))


def _beginning(file: BinaryIO) -> bytes:
    """Read the first lines, up to the end of a line if that is near."""
    return file.read(HEAD_BYTES) + file.readline(MAX_CHUNK_BYTES)
