"""Write the files of other systems, as packages, and read them as a submission does."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from producer.contract.chunks import RefusedLine
from producer.files.describing import Choices
from producer.files.formats.packages import Package, open_package
from producer.files.formats.registry import choice_of
from producer.files.reader import open_source
from producer.publishing.chunking import Line, SourceRecord

Table = Sequence[str]
"""The lines of a file."""


class ReadFile(NamedTuple):
    """What was read of a file: pairs with their lines, drops with their reasons, and records."""

    enrolled: dict[tuple[str, str], int]
    dropped: dict[tuple[str, str], str]
    roster: list[dict[str, Any]]
    refused: list[tuple[int, str]]
    notices: list[str]
    skipped: int


def encoded(lines: Table, encoding: str = "utf-8", line_end: str = "\n") -> bytes:
    """Return lines as the bytes of a file."""
    return (line_end.join(lines) + line_end).encode(encoding)


def zipped_package(files: Mapping[str, Table | bytes], path: Path, **form: Any) -> Path:
    """Write a zip archive with these files, by their names."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, lines in files.items():
            data = lines if isinstance(lines, bytes) else encoded(lines, **form)
            archive.writestr(name, data)
    path.write_bytes(content.getvalue())
    return path


def opened(path: Path, format_name: str | None = None, encoding: str | None = None) -> Package:
    """Open a package that must be one."""
    package = open_package(path, Choices(encoding=encoding, format=choice_of(format_name)))
    assert package is not None
    return package


def read_package(path: Path, **options: Any) -> dict[str, ReadFile]:
    """Read every file of a package, by the names of the batches."""
    with opened(path, **options) as package:
        return {source.batch_name: read_source(source) for source in package.sources}


def read_file(content: bytes, folder: Path, format_name: str | None = None) -> ReadFile:
    """Read a single file of another system."""
    path = folder / "upload.csv"
    path.write_bytes(content)
    return read_source(open_source(path, None, {}, format_name=format_name))


def read_source(source: Any) -> ReadFile:
    """Read a source to its end."""
    lines: list[Line] = list(source.records())
    enrolled: dict[tuple[str, str], int] = {}
    dropped: dict[tuple[str, str], str] = {}
    roster = []
    for entry in lines:
        if not isinstance(entry, SourceRecord):
            continue
        record = entry.record
        if "student_id" not in record:
            roster.append(record)
            continue
        courses = record.get("course_ids", record.get("drop_course_ids"))
        for course, line in zip(courses, entry.lines, strict=True):
            pair = record["student_id"], course
            if "course_ids" in record:
                enrolled[pair] = line
            else:
                dropped[pair] = record["reason"]
    refused = sorted((e.line, e.message) for e in lines if isinstance(e, RefusedLine))
    return ReadFile(
        enrolled, dropped, roster, refused, list(source.notices), source.layout.account.skipped
    )
