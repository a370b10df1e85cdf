"""Read JSON Lines: one record a line."""

from collections.abc import Mapping
from typing import BinaryIO

from pydantic_core import from_json

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files.columns import kind_of
from producer.files.layout import BOM, FileLayout, Lines
from producer.publishing.chunking import SourceRecord
from producer.schemas import MAX_CHUNK_BYTES, Kind

MAX_NESTING = 20


def json_lines_layout(
    path: str, kind: Kind | None, templates: Mapping[str, str], head: str
) -> FileLayout:
    if templates:
        raise UnreadableFile(f"{path}: --map is for CSV; JSON Lines hold whole records.")
    if kind is None:
        try:
            first = from_json(head.lstrip().split("\n", 1)[0])
        except ValueError:
            raise UnreadableFile(
                f"{path}: the first line is no JSON; put one record in each line, or give --kind."
            ) from None
        named = {"student_id"} if "course_ids" in first else set(first)
        kind = kind_of(path, named)
    return FileLayout(kind, _json_records)


def _json_records(file: BinaryIO) -> Lines:
    number = 0
    while raw := file.readline(MAX_CHUNK_BYTES + 1):
        number += 1
        if len(raw) > MAX_CHUNK_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_CHUNK_BYTES)
            message = f"the line is longer than {MAX_CHUNK_BYTES} bytes; split the request"
            yield RefusedLine(line=number, message=message)
            continue
        raw = raw.strip().removeprefix(BOM)
        if not raw:
            continue
        try:
            record = from_json(raw, allow_inf_nan=False)
            if raw.count(b"[") + raw.count(b"{") > MAX_NESTING:
                # The reader's bound on nesting must still hold within the chunk.
                from_json(b"[" * MAX_NESTING + raw + b"]" * MAX_NESTING)
            yield SourceRecord(record, [number])
        except ValueError as error:
            yield RefusedLine(line=number, message=f"no JSON: {error}"[:1000])
