"""Write a file, open it, and read what it holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from producer.contract.chunks import RefusedLine
from producer.files.reader import FileSource, open_source
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
