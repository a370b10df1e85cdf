"""Open a CSV or JSON Lines file as a stream of records.

The first lines are checked before any record is read. A bad line later in the file becomes a
`RefusedLine` and does not affect the others.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from producer.contract.chunks import FileForm
from producer.errors import UnreadableFile
from producer.fields import MAX_CHUNK_BYTES
from producer.files.columns import wanted_columns
from producer.files.containers import ZIP, ZIPS, Container, Content, spool_zip, unpack
from producer.files.delimited import delimited_layout
from producer.files.formats.base import folded
from producer.files.formats.layouts import find_table, table_layout
from producer.files.formats.registry import FormatChoice, recognize
from producer.files.json_lines import json_lines_layout
from producer.files.layout import FileLayout, Lines
from producer.files.notices import Notices
from producer.files.replayed import Replayed
from producer.files.shorten import shorten
from producer.files.text_form import (
    AUTO,
    FALLBACK,
    UTF8,
    TextForm,
    find_form,
    find_not_utf8,
    known_encoding,
    plain_encoding,
)
from producer.files.workbooks import WORKBOOK_ERROR, open_content
from producer.schemas import Kind

HEAD_BYTES = 65_536


class Choices(NamedTuple):
    """What the submitter says about a file: the arguments of `open_source`."""

    kind: Kind | None = None
    templates: Mapping[str, str] = MappingProxyType({})
    encoding: str | None = None
    drop: bool = False
    format: FormatChoice = FormatChoice()
    sheet: str | None = None

    def is_header(self, names: Sequence[str]) -> bool:
        """Return whether these are the names of columns of a table that can be read."""
        plain = set(map(folded, names))
        if self.format.format is not None:
            return self.format.format.table_of(plain) is not None
        return wanted_columns(names, self.templates) > 1 or recognize(plain) is not None


class FirstLines(NamedTuple):
    """The first lines of a file as text, how the file stores text, and what was noticed."""

    text: str
    form: TextForm
    notices: Notices

    @property
    def is_json(self) -> bool:
        """Return whether the file is JSON Lines."""
        return self.text.lstrip().startswith("{")


class FileSource:
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

    def records(self) -> Lines:
        """Yield every record from the beginning of the file. Raises UnreadableFile."""
        with _io_errors_named(self.name), self.path.open("rb") as self._file:
            yield from self._read(_unpack_again(self.name, self._file, self._choices).file)


@contextmanager
def _io_errors_named(name: str) -> Iterator[None]:
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


class StreamSource:
    """A pipe whose first lines have been checked; it can be read once, and has no known size.

    `name` is its name in messages. The constructor raises UnreadableFile, like `open_source`.
    """

    share = None
    file_name = None

    def __init__(
        self,
        name: str,
        file: BinaryIO,
        kind: Kind | None,
        templates: Mapping[str, str],
        encoding: str | None = None,
        *,
        drop: bool = False,
        sheet: str | None = None,
    ) -> None:
        self.name = name
        with _io_errors_named(name):
            layout, self._lines = open_stream(
                file, kind, templates, name, encoding, drop=drop, sheet=sheet
            )
        self.layout = layout
        self.kind = layout.kind
        self.columns = layout.columns
        self.form = layout.form
        self.ordered = layout.ordered
        self.notices = layout.notices

    def records(self) -> Lines:
        """Yield every record from the beginning of the stream. Raises UnreadableFile."""
        with _io_errors_named(self.name):
            yield from self._lines


def open_stream(
    file: BinaryIO,
    kind: Kind | None,
    templates: Mapping[str, str],
    name: str,
    encoding: str | None = None,
    *,
    drop: bool = False,
    sheet: str | None = None,
) -> tuple[FileLayout, Lines]:
    """Check the first lines of a stream that can be read once; return its layout and records.

    `name` is its name in error messages; the other arguments are those of `open_source`. The
    whole content is checked first only if the stream is in fact a file, or if it is a zip archive,
    which is stored in a temporary file. Raises UnreadableFile.
    """
    choices = Choices(kind, templates, encoding, drop, sheet=sheet)
    if file.seekable():
        return _open_seekable(name, file, choices)
    beginning = file.read(len(ZIP))
    replayed = io.BufferedReader(Replayed(beginning, file), 1 << 16)
    if beginning not in ZIPS:
        content = unpack(name, replayed, beginning)
        raw = first_bytes(content.file)
        layout = _layout(content, raw, choices, whole=False)
        return layout, layout.read(io.BufferedReader(Replayed(raw, content.file), 1 << 16))
    spooled = spool_zip(name, replayed)
    try:
        layout, lines = _open_seekable(name, spooled, choices)
    except BaseException:
        spooled.close()
        raise
    return layout, _closing_afterwards(spooled, lines)


def _open_seekable(name: str, file: BinaryIO, choices: Choices) -> tuple[FileLayout, Lines]:
    start = file.tell()
    layout = _describe_seekable(name, file, choices)
    file.seek(start)
    return layout, layout.read(_unpack_again(name, file, choices).file)


def _describe_seekable(name: str, file: BinaryIO, choices: Choices) -> FileLayout:
    content = _unpack_again(name, file, choices)
    return _layout(content, first_bytes(content.file), choices, whole=True)


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
) -> FileSource:
    """Check the first lines of a file and the mapping of its columns.

    The file may be compressed with gzip, or the only one in a zip archive; then it is read to its
    end, to see whether it is whole.

    If `kind` is None, the header decides. `templates` maps one of our columns to a template over
    the file's own columns, for example `{code_module}-{code_presentation}`. `encoding` is a name
    such as `cp1252`; without it, the text is UTF-16 or UTF-32 if it looks like that, and
    otherwise UTF-8. With `auto`, the whole file is read, and it is cp1252 if none of these fits.
    With `drop`, every line of the CSV file, whose pairs must be enrollments, is a drop. Raises
    UnreadableFile, whose message names the file, the problem and the remedy.
    """
    choices = Choices(kind, templates, encoding, drop, sheet=sheet)
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


def open_path(
    path: Path,
    kind: Kind | None,
    templates: Mapping[str, str],
    encoding: str | None = None,
    *,
    drop: bool = False,
    sheet: str | None = None,
) -> FileSource | StreamSource:
    """Do as `open_source` does, also for a path that can be read only once: `<(zcat FILE)`."""
    if is_pipe(path):
        return StreamSource(
            str(path), path.open("rb"), kind, templates, encoding, drop=drop, sheet=sheet
        )
    return open_source(path, kind, templates, encoding, drop=drop, sheet=sheet)


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


def _layout(
    content: Content,
    raw: bytes,
    choices: Choices,
    *,
    whole: bool,
) -> FileLayout:
    """Describe a file whose first bytes are `raw`; if `whole`, read the rest of it as well."""
    first = read_first_lines(content, raw, choices.encoding, whole=whole)
    layout = describe(content.name, first, choices)
    if whole and content.packed:
        read_to_end(content.file)  # Damage is found before anything is published.
    return layout._replace(
        read=lambda file: layout.read(first.form.as_utf8(file)),
        form=sent_form(first.form, raw, layout.form),
    )


def read_first_lines(
    content: Content, raw: bytes, encoding: str | None, *, whole: bool
) -> FirstLines:
    """Return the text of the first bytes of a file, `raw`. Raises UnreadableFile if it is not text.

    `encoding` is that of `open_source`. For `auto`, the rest of the file is read if `whole`.
    """
    name = content.name
    is_auto = encoding is not None and encoding.lower() == AUTO
    told = None if encoding is None or is_auto else known_encoding(encoding)
    notices = content.notices or Notices()
    if content.container is Container.WORKBOOK:
        form, head = find_form(name, raw, None)
        form = form._replace(problem=WORKBOOK_ERROR)
        return FirstLines(head, form, notices)
    form, head = find_form(name, raw, told)
    if is_auto and form.encoding == UTF8 and not form.marked:
        form = form._replace(guessed=not whole)
        bad = find_not_utf8(raw, content.file) if whole else None
        if bad is not None:
            form, head = find_form(name, raw, FALLBACK)
            notices.add(
                f"{name} is not UTF-8 (first seen in line {bad[0]:,}), and is read as {FALLBACK}:"
                f" {shorten(bad[1])}. If that looks wrong, choose another encoding."
            )
    elif told is not None and not told.startswith(form.encoding[:6]):
        mark = form.encoding.removesuffix("-sig")
        notices.add(f"{name} begins with the byte order mark of {mark}, and is read as that.")
    if not head.strip("\ufeff \t\r\n"):
        raise UnreadableFile(
            f"{name} is empty; submit a CSV file with a header line, or JSON Lines."
        )
    return FirstLines(head, form, notices)


def describe(
    name: str, first: FirstLines, choices: Choices, *, goes_on: bool = False
) -> FileLayout:
    """Describe a file, which is then read in UTF-8, by its first lines. Raises UnreadableFile.

    `goes_on` is set if the last of the first lines may not be whole.
    """
    with _naming_encoding(first.form.encoding, chosen=choices.encoding is not None):
        about = (first.text, choices.kind, choices.templates, choices.format)
        found = None if first.is_json else find_table(name, *about)
        options = {"drop": choices.drop, "goes_on": goes_on}
        if found is not None:
            how = (first.notices, first.form.undecodable, choices.format)
            return table_layout(name, found, *how, **options)
        layout = json_lines_layout if first.is_json else delimited_layout
        how_ours = (choices.kind, choices.templates, first.text)
        return layout(name, *how_ours, first.notices, first.form.undecodable, **options)


def sent_form(text_form: TextForm, raw: bytes, form: FileForm | None) -> FileForm | None:
    """Return the form of a CSV file with what was found in its first bytes."""
    if form is None:
        return None
    encoding, bom = plain_encoding(text_form.encoding, raw)
    line_end = "\r" if text_form.old_line_ends else form.line_end
    return form.model_copy(update={"encoding": encoding, "bom": bom, "line_end": line_end})


@contextmanager
def _naming_encoding(encoding: str, *, chosen: bool) -> Iterator[None]:
    """Add the encoding to an error about the first lines, unless it is UTF-8.

    If the submitter has `chosen` it, another choice may help.
    """
    try:
        yield
    except UnreadableFile as error:
        if encoding == UTF8:
            raise
        options = (*error.options, "encoding") if chosen else error.options
        raise UnreadableFile(f"{error} The text was read as {encoding}.", *options) from None


def read_to_end(file: BinaryIO) -> None:
    """Read what is left of a packed file. Raises UnreadableFile if it is damaged or a bomb."""
    while file.read(1 << 20):
        pass


def first_bytes(file: BinaryIO) -> bytes:
    """Read the first lines, up to the end of a line if that is near."""
    return file.read(HEAD_BYTES) + file.readline(MAX_CHUNK_BYTES)
