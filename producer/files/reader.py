"""Open a CSV or JSON Lines file as a stream of records.

The first lines are checked before any record is read. A bad line later in the file becomes a
`RefusedLine` and does not affect the others.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from producer.errors import UnreadableFile
from producer.files.containers import ZIP, ZIPS, Content, spool_zip, unpack
from producer.files.describing import NO_CHOICES, Choices, first_bytes, layout_of
from producer.files.formats.registry import choice_of
from producer.files.layout import FileLayout, Lines, Named
from producer.files.replayed import Replayed
from producer.files.workbooks import open_content
from producer.publishing.chunking import Block, LineStream, blocks_of
from producer.schemas import Kind


class _Alone:
    """A source that is not one of several files of a package, and counts when it is submitted."""

    moment = None

    def counts_at(self, moment: datetime | None) -> None:
        """Do nothing: no other source counts at the moment of this one."""


class FileSource(_Alone):
    """A file whose first lines have been checked.

    `size` is in bytes; `columns` is the header of a CSV file, and `form` how it is written.
    `ordered` is set if each line counts later than the one before it.
    `notices` may grow while the records are read.
    """

    def __init__(self, path: Path, layout: FileLayout, choices: Choices) -> None:
        self.path = path
        self._choices = choices
        self.layout = layout
        self.kind = layout.kind
        self.columns = layout.columns
        self.form = layout.form
        self.ordered = layout.ordered
        self.notices = layout.notices
        self.size = path.stat().st_size
        self._read = layout.read
        self._file: BinaryIO | None = None

    @property
    def name(self) -> str:
        """Return the name of the file in messages."""
        return str(self.path)

    @property
    def file_name(self) -> str:
        """Return the name of the file without its folder."""
        return self.path.name

    @property
    def share(self) -> float | None:
        """Return the fraction of the file that has been read; None if nothing has."""
        return self.bytes_read / self.size or None

    @property
    def bytes_read(self) -> int:
        """Return how many bytes of the file have been read."""
        return 0 if self._file is None else self.size if self._file.closed else self._file.tell()

    def records(self) -> LineStream:
        """Yield every record from the beginning of the file. Raises UnreadableFile."""
        return LineStream(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        with io_errors_named(self.name), self.path.open("rb") as self._file:
            content = _unpack_again(self.name, self._file, self._choices)
            yield from blocks_of(self._read(content.file))

    def named(self) -> Iterator[Named]:
        """Yield which courses and students the file names. Raises UnreadableFile."""
        with io_errors_named(self.name), self.path.open("rb") as file:
            yield from named_in(self.name, file, self.layout, self._choices)


@contextmanager
def io_errors_named(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFile(
            f"Reading {name} failed partway: {error.strerror}. The part that was submitted"
            " will still be processed. Once the file can be read again, submit it again under the"
            " same batch id.",
            "resume",
            "batch-id",
        ) from error


class StreamSource(_Alone):
    """A pipe whose first lines have been checked; it can be read once, and has no known size.

    `name` is its name in messages. The constructor raises UnreadableFile, like `open_source`.
    """

    share = None
    file_name = None

    def __init__(self, name: str, file: BinaryIO, choices: Choices) -> None:
        self.name = name
        with io_errors_named(name):
            layout, self._lines = open_stream(name, file, choices)
        self.layout = layout
        self.kind = layout.kind
        self.columns = layout.columns
        self.form = layout.form
        self.ordered = layout.ordered
        self.notices = layout.notices

    def records(self) -> Lines:
        """Yield every record from the beginning of the stream. Raises UnreadableFile."""
        return LineStream(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        with io_errors_named(self.name):
            yield from blocks_of(self._lines)


def open_stream(
    name: str, file: BinaryIO, choices: Choices = NO_CHOICES
) -> tuple[FileLayout, Lines]:
    """Check the first lines of a stream that can be read once; return its layout and records.

    `name` is its name in error messages. The whole content is checked first only if the stream is
    in fact a file, or if it is a zip archive, which is stored in a temporary file. Raises
    UnreadableFile.
    """
    if file.seekable():
        return _open_seekable(name, file, choices)
    again = seekable_archive(name, file)
    if not again.seekable():
        beginning = again.read(len(ZIP))
        content = unpack(name, io.BufferedReader(Replayed(beginning, again), 1 << 16), beginning)
        raw = first_bytes(content.file)
        layout = layout_of(content, raw, choices, whole=False)
        return layout, layout.read(io.BufferedReader(Replayed(raw, content.file), 1 << 16))
    try:
        layout, lines = _open_seekable(name, again, choices)
    except BaseException:
        again.close()
        raise
    return layout, _closing_afterwards(again, lines)


def seekable_archive(name: str, file: BinaryIO) -> BinaryIO:
    """Return what a pipe holds: of a zip archive, a copy in a temporary file, which can be sought.

    `name` is its name in messages. Raises UnreadableFile if there is no room for the copy.
    """
    if file.seekable():
        return file
    beginning = file.read(len(ZIP))
    replayed = io.BufferedReader(Replayed(beginning, file), 1 << 16)
    return spool_zip(name, replayed) if beginning in ZIPS else replayed


def _open_seekable(name: str, file: BinaryIO, choices: Choices) -> tuple[FileLayout, Lines]:
    start = file.tell()
    layout = _describe_seekable(name, file, choices)
    file.seek(start)
    return layout, layout.read(_unpack_again(name, file, choices).file)


def _describe_seekable(name: str, file: BinaryIO, choices: Choices) -> FileLayout:
    content = _unpack_again(name, file, choices)
    return layout_of(content, first_bytes(content.file), choices, whole=True)


def named_in(name: str, file: BinaryIO, layout: FileLayout, choices: Choices) -> Iterator[Named]:
    """Yield which courses and students a seekable file names, from where it stands.

    `layout` is what `open_stream` found with the same choices. Raises UnreadableFile.
    """
    if layout.named is not None:
        yield from layout.named(_unpack_again(name, file, choices).file)


def _closing_afterwards(file: BinaryIO, lines: Lines) -> Lines:
    with file:
        yield from lines


def open_source(
    path: Path,
    kind: Kind | None,
    templates: Mapping[str, str],
    encoding: str | None = None,
    *,
    drop: bool = False,
    sheet: str | None = None,
    format_name: str | None = None,
) -> FileSource:
    """Check the first lines of a file and the mapping of its columns.

    The arguments after `path` are the fields of `Choices`; `format_name` is the name of the format.
    The file may be compressed with gzip, or the only one in a zip archive; then it is read to its
    end, to see whether it is whole. Raises UnreadableFile, whose message names the file, the
    problem and the remedy.
    """
    choices = Choices(kind, templates, encoding, drop, choice_of(format_name), sheet)
    return open_source_chosen(path, choices)


def open_source_chosen(path: Path, choices: Choices) -> FileSource:
    """Do as `open_source` does, with all that the submitter says in `choices`."""
    try:
        with path.open("rb") as file:
            layout = _describe_seekable(str(path), file, choices)
    except IsADirectoryError:
        raise UnreadableFile(f"{path} is a directory; name the files in it.") from None
    except OSError as error:
        raise UnreadableFile(
            f"{path} cannot be read: {error.strerror}; check the path and the permissions."
        ) from None
    return FileSource(path, layout, choices)


def is_pipe(path: Path) -> bool:
    """Return whether a path is a named pipe; opening the file reports any error."""
    try:
        return path.is_fifo()
    except OSError:
        return False


def _unpack_again(name: str, file: BinaryIO, choices: Choices) -> Content:
    """Return the content of a seekable file from where it stands."""
    beginning = file.read(len(ZIP))
    file.seek(-len(beginning), io.SEEK_CUR)
    return open_content(name, file, beginning, choices.sheet, choices.is_header)
