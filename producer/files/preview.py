"""Show how a file would be understood, from its first bytes, by the reader that submits it.

Nothing is decided here: the same functions find the encoding, the header, the kind and the
records as in a submission, and what they raise is shown.
"""

import io
import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from producer.contract.chunks import KIND_MODELS
from producer.contract.explain import parse_record
from producer.errors import UnreadableFile
from producer.fields import MAX_COLUMNS
from producer.files.beginning import Beginning, open_lines
from producer.files.check import SourceChecker
from producer.files.columns import columns_read, plain_name
from producer.files.containers import ZIP, ZIPS, Container, Content, unpack
from producer.files.cut_archive import unpack_cut_archive
from producer.files.delimited import MAX_HEADER, find_header
from producer.files.describing import (
    HEAD_BYTES,
    Choices,
    FirstLines,
    check_sheet,
    describe,
    first_bytes,
    read_first_lines,
    read_to_end,
    sent_form,
)
from producer.files.file_preview import ColumnSource, FilePreview, PreviewRow
from producer.files.formats.packages import is_package
from producer.files.layout import FileLayout, Lines
from producer.files.notices import Notices
from producer.files.raw_bytes import MARK, storable
from producer.files.text_form import plain_encoding
from producer.files.workbooks import check_cut_workbook, open_content
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind

MAX_PREVIEW = 1_048_576
"""The most bytes of a file that are read for a preview, and of its content if it is packed."""
MAX_ARCHIVE = 8_388_608
"""The most bytes of a zip archive or workbook that are read for a preview: it is read as a whole,
because the list of its parts stands at its end."""
MAX_LINES = 10_000
"""The most lines that are read for a preview: many short lines take longer than a few long ones."""
SHOWN_ROWS = 20
MAX_SHOWN_ROWS = 100
RAW_LINES = 10
"""How many lines are shown as they are written."""
MAX_SHOWN = 500
"""The most characters of a raw line or cell that are shown."""

_BLANK = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"
"""Bytes of byte order marks and of blank lines, in every encoding that is recognized."""
_LONGEST_CHARACTER = 4
"""The bytes of a character; fewer may be a part of one."""
_NO_TEXT = re.compile(f"{MARK}[\ufdd0-\ufdef]+|[\ud800-\udfff]")


class _Part(NamedTuple):
    """The part of a file that is read: what its first lines are found in, and the lines."""

    content: Content
    data: bytes
    goes_on: bool
    """Whether the file goes on after `data`."""
    is_cut: bool
    """Whether `content` ends where `data` does, though the file goes on."""


class _Source(NamedTuple):
    """The lines of a part in UTF-8, as they are checked."""

    name: str
    layout: FileLayout
    lines: BinaryIO

    def records(self) -> Lines:
        """Yield every record that is whole."""
        return self.layout.read(self.lines)


def bound_of(beginning: bytes | bytearray) -> int:
    """Return the most bytes of a file with this beginning that are read for a preview."""
    return MAX_ARCHIVE if beginning.startswith(ZIPS) else MAX_PREVIEW


def preview_file(
    name: str, beginning: bytes, choices: Choices, *, goes_on: bool, rows: int = SHOWN_ROWS
) -> FilePreview:
    """Return how a file is understood whose first bytes, or all of them, are `beginning`.

    `name` stands for the file in messages. `goes_on` is set if the file does not end there. `rows`
    is how many rows are shown. A file that cannot be read is a result, too, with whatever is known
    of it.
    """
    known: dict[str, Any] = {"truncated": goes_on or len(beginning) > bound_of(beginning)}
    try:
        for facts in _facts(name, beginning, choices, rows, goes_on=goes_on):
            known |= facts
    except UnreadableFile as error:
        options = error.parameters
        known |= {"problem": str(error), "field": next(iter(options), None), "options": options}
        return FilePreview(readable=False, **known)
    return FilePreview(readable=True, **known)


def _facts(
    name: str, beginning: bytes, choices: Choices, rows: int, *, goes_on: bool
) -> Iterator[dict[str, Any]]:
    """Yield what is known of a file, step by step. Raises UnreadableFile."""
    if not goes_on and len(beginning) <= MAX_ARCHIVE and is_package(io.BytesIO(beginning)):
        yield {"container": Container.PACKAGE}
        raise UnreadableFile(
            f"{name} is a package of several files, which cannot be previewed; check it instead,"
            " which reads each of its files."
        )
    part = _read_part(name, beginning, choices, goes_on=goes_on)
    content = part.content
    name, is_zip = content.name, content.container is Container.ZIP
    yield {"truncated": part.goes_on, "container": content.container, "inner": content.inner}
    yield {"sheets": storable(content.sheets)}
    check_sheet(content, choices)
    raw = first_bytes(content.file)
    first = read_first_lines(content, raw, choices.encoding, whole=is_zip)
    encoding, bom = plain_encoding(first.form.encoding, raw)
    yield {"encoding": encoding, "bom": bom, "raw_lines": _raw_lines(first.text)}
    lines = _lines(part, first)
    yield {"truncated": isinstance(lines, Beginning)}
    head_is_cut = part.is_cut and len(raw) == len(part.data)
    if head_is_cut and "\n" in first.text:
        first = first._replace(text=first.text[: first.text.rindex("\n") + 1])
    header = _header_facts(name, first, choices, lines)
    yield header
    if head_is_cut and len(raw) < HEAD_BYTES and not _has_first_line(first, header):
        raise _cut_off(name)
    try:
        layout = describe(name, first, choices, goes_on=head_is_cut)
    except UnreadableFile as error:
        if "kind" in error.options:
            yield {"other_kinds": _other_kinds(name, first, choices, goes_on=head_is_cut)}
        raise
    kinds = _other_kinds(name, first, choices._replace(kind=layout.kind), goes_on=head_is_cut)
    yield {"other_kinds": kinds, **_layout_facts(layout, choices)}
    layout = layout._replace(form=sent_form(first.form, raw, layout.form))
    lines.seek(0)
    yield _row_facts(_Source(name, layout, lines), rows)
    yield {"notices": tuple(layout.notices), "passed_over": dict(layout.passed_over)}


def _read_part(name: str, beginning: bytes, choices: Choices, *, goes_on: bool) -> _Part:
    """Return the first bytes of the content of a file. Raises UnreadableFile."""
    if len(beginning) > bound_of(beginning):
        beginning, goes_on = beginning[: bound_of(beginning)], True

    def content() -> Content:
        if not goes_on:
            mark = beginning[: len(ZIP)]
            return open_content(name, io.BytesIO(beginning), mark, choices.sheet, choices.is_header)
        if beginning.startswith(ZIPS):
            check_cut_workbook(name, beginning, MAX_ARCHIVE)
            return unpack_cut_archive(name, beginning, MAX_PREVIEW + 1)
        return unpack(name, io.BytesIO(beginning), beginning[: len(ZIP)], goes_on=True)

    unpacked = content()
    data = unpacked.file.read(MAX_PREVIEW + 1)
    if unpacked.packed and not goes_on:
        read_to_end(unpacked.file)  # A damaged file is refused as a whole.
    is_longer = len(data) > MAX_PREVIEW
    if goes_on or is_longer:
        # Half of a line end must not be taken for a whole one.
        end = data.rfind(b"\n", 0, MAX_PREVIEW) + 1
        while end and data[end : end + 1] == b"\0":  # The rest of a line end in UTF-16 or UTF-32.
            end += 1
        data = data[:end] or data[:MAX_PREVIEW].rstrip(b"\r\0")
        text = data.strip(_BLANK)
        if not text or (len(text) < _LONGEST_CHARACTER and b"\n" not in data):
            raise _cut_off(name)
    whole = unpacked._replace(file=io.BytesIO(data)) if goes_on else content()
    return _Part(whole, data, goes_on or is_longer, is_cut=goes_on)


def _lines(part: _Part, first: FirstLines) -> BinaryIO:
    """Return the lines of a part in UTF-8, up to `MAX_LINES`."""
    utf8 = first.form.as_utf8(io.BytesIO(part.data)).read()
    end = 0
    for _ in range(MAX_LINES):
        end = utf8.find(b"\n", end) + 1
        if not end:
            return open_lines(utf8, goes_on=part.goes_on)
    return open_lines(utf8[:end], goes_on=part.goes_on or end < len(utf8))


def _has_first_line(first: FirstLines, header: dict[str, Any]) -> bool:
    """Return whether the first lines show the whole header, or the first record of JSON Lines."""
    return "\n" in first.text.lstrip() and (first.is_json or "columns" in header)


def _cut_off(name: str) -> UnreadableFile:
    return UnreadableFile(
        f"{name} is cut off before the end of its first line; send more of it for a preview."
    )


def _header_facts(
    name: str, first: FirstLines, choices: Choices, lines: BinaryIO
) -> dict[str, Any]:
    """Return what is known of the header, even if it is not understood."""
    if first.is_json:
        return {"format": "jsonl"}
    try:
        header = find_header(name, first.text, choices.templates)
    except UnreadableFile:  # It is raised again when the file is described.
        return {"format": "csv"}
    names = header.names[:MAX_COLUMNS]
    if sum(map(len, names)) > MAX_HEADER:
        names = [name[:MAX_SHOWN] for name in names]
    reader = header.row_reader(name, first.form.undecodable)
    rows = (entry[1] for entry in reader.read(lines) if isinstance(entry, tuple))
    return {
        "format": "csv",
        "delimiter": header.delimiter,
        "columns": storable(names),
        "header_line": header.first,
        "raw_rows": tuple(
            tuple(_shown(cell) for cell in row[:MAX_COLUMNS]) for row in islice(rows, RAW_LINES)
        ),
    }


def _other_kinds(
    name: str, first: FirstLines, choices: Choices, *, goes_on: bool
) -> tuple[Kind, ...]:
    """Return the kinds that a file can be read as, besides the chosen one."""
    others = (kind for kind in Kind if kind is not choices.kind)
    return tuple(
        kind for kind in others if _fits(name, first, choices._replace(kind=kind), goes_on=goes_on)
    )


def _fits(name: str, first: FirstLines, choices: Choices, *, goes_on: bool) -> bool:
    """Return whether a file can be read as the chosen kind."""
    first = first._replace(notices=Notices())
    try:
        layout = describe(name, first, choices, goes_on=goes_on)
    except UnreadableFile:
        return False
    if not first.is_json:
        return True
    line = first.text.strip().partition("\n")[0].encode(errors="replace")
    records = [
        entry.record for entry in layout.read(io.BytesIO(line)) if isinstance(entry, SourceRecord)
    ]
    return any(not parse_record(KIND_MODELS[layout.kind], record)[1] for record in records)


def _layout_facts(layout: FileLayout, choices: Choices) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kind": layout.kind,
        "content": layout.content,
        "system": layout.system,
        "ordered": layout.ordered,
        "columns": layout.columns,
        "header_line": layout.header_line,
    }
    if layout.mapping is not None:
        used = columns_read(layout.mapping, choices.templates) | set(map(plain_name, layout.used))
        facts["mapping"] = tuple(
            ColumnSource(
                column=column,
                header=None if column in choices.templates else source,
                template=source if column in choices.templates else None,
            )
            for column, source in layout.mapping.items()
        )
        facts["ignored"] = tuple(
            column for column in layout.columns or () if plain_name(column) not in used
        )
    return facts


def _row_facts(source: _Source, rows: int) -> dict[str, Any]:
    checker = SourceChecker(source, rows)
    deque(checker.refusals(), maxlen=0)
    check = checker.result()
    return {
        "rows": tuple(PreviewRow(line=row.line, fields=row.fields) for row in checker.rows()),
        "refused": check.refused,
        "lines": check.lines,
        "row_count": check.rows,
    }


def _raw_lines(text: str) -> tuple[str, ...]:
    lines = text.removeprefix("\ufeff").split("\n", RAW_LINES)[:RAW_LINES]
    return tuple(_shown(line.rstrip("\r")) for line in lines)


def _shown(text: str) -> str:
    """Return the beginning of a text, with a sign in place of bytes that are not text."""
    return _NO_TEXT.sub("\ufffd", text[:MAX_SHOWN])
