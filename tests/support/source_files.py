"""Write a file or fill a pipe, open it, and read what it holds."""

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from producer.contract.chunks import RefusedLine
from producer.files.describing import Choices
from producer.files.reader import FileSource, open_source, open_stream
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind

PAIRS = "student_sis_id,course_sis_id\n"
KEYS = "student_key,course_key\n"
Open = Callable[..., FileSource]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Writes a file and opens it."""

    def write(
        content: str | bytes,
        kind: Kind | None = None,
        encoding: str | None = None,
        **templates: str,
    ) -> FileSource:
        path = tmp_path / "upload.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_source(path, kind, templates, encoding)

    return write


def read(source: FileSource) -> list[Any]:
    """Return entries as (record, lines), and refused lines as (line, message)."""
    return [
        (entry.record, tuple(entry.lines))
        if isinstance(entry, SourceRecord)
        else (entry.line, entry.message)
        for entry in source.records()
    ]


def courses(source: FileSource) -> list[tuple[Any, list[Any], tuple[int, ...]]]:
    """Return the requests as (student, courses, lines); nothing may be refused."""
    return [(r["student_id"], r["course_ids"], lines) for r, lines in read(source)]


def refused(source: FileSource) -> RefusedLine:
    """Return the only refused line."""
    (line,) = (entry for entry in source.records() if isinstance(entry, RefusedLine))
    return line


def zipped(*files: tuple[str | zipfile.ZipInfo, str | bytes], method: int = 8) -> bytes:
    """Return a zip archive with these files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as opened:
        for name, content in files:
            opened.writestr(name, content)
    return archive.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    """Return the entry of a symbolic link for a zip archive."""
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


class Pipe(io.RawIOBase):
    """Yields bytes a few at a time, and only once."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._content[: min(len(buffer), 3 if len(self._content) % 2 else 4000)]
        self._content = self._content[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


def read_pipe(content: bytes, encoding: str | None = None) -> tuple[list[Any], tuple[str, ...]]:
    """Return what a pipe holds, and the notices about it."""
    pipe = io.BufferedReader(Pipe(content))
    layout, lines = open_stream("standard input", pipe, Choices(encoding=encoding))
    entries = [
        (e.record["student_id"], e.record["course_ids"], tuple(e.lines))
        if isinstance(e, SourceRecord)
        else (e.line, e.message)
        for e in lines
    ]
    return entries, tuple(layout.notices)
