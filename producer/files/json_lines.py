"""Read JSON Lines files, with one record per line."""

import io
from collections import deque
from collections.abc import Mapping
from typing import Any, BinaryIO

from pydantic_core import from_json

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files.columns import kind_of
from producer.files.layout import BOM, FileLayout, Lines
from producer.publishing.chunking import SourceRecord
from producer.schemas import MAX_CHUNK_BYTES, MAX_KEY, Kind

MAX_NESTING = 20


def json_lines_layout(
    path: str, kind: Kind | None, templates: Mapping[str, str], head: str
) -> FileLayout:
    """Describe a JSON Lines file by its first line. Raises UnreadableFile."""
    if templates:
        raise UnreadableFile(
            f"{path}: this is JSON Lines, and only the columns of a CSV file can be mapped; leave"
            " the mapping out.",
            "map",
        )
    if kind is None:
        try:
            first = from_json(head.lstrip().split("\n", 1)[0])
        except ValueError:
            raise UnreadableFile(
                f"{path}: the first line is not valid JSON; write one record per line, or choose"
                " the kind of the records to submit the other lines.",
                "kind",
            ) from None
        fields = {"student_id"} if "course_ids" in first else set(first)
        kind = kind_of(path, fields, head.strip().split("\n", 1)[0])
    notices: list[str] = []

    def read(file: BinaryIO) -> Lines:
        return _noticing_keys(path, _json_records(file), notices)

    if kind is not Kind.ENROLLMENTS:
        return FileLayout(kind, _json_records, None, notices)
    # The first lines are read here too, so that the notice comes before anything is submitted.
    deque(read(io.BytesIO(head.encode(errors="replace"))), maxlen=0)
    return FileLayout(kind, read, None, notices)


def _noticing_keys(path: str, lines: Lines, notices: list[str]) -> Lines:
    """Yield the lines; add a notice at the first request that names something by an integer."""
    for entry in lines:
        if not notices and isinstance(entry, SourceRecord) and (key := _a_key(entry.record)):
            notices.append(
                f"{path}: line {entry.lines[0]} has the integer {key} as an id. In JSON, an integer"
                f' is our key; if it is a SIS id, write it as a string: "{key}".'
            )
        yield entry


def _a_key(record: Any) -> int | None:
    """Return the first of our keys that stands for a student or a course in a request, if any."""
    if not isinstance(record, dict):
        return None
    courses = record.get("course_ids")
    ids = [record.get("student_id"), *(courses if isinstance(courses, list) else ())]
    if int not in map(type, ids):  # Almost every request has only SIS ids.
        return None
    return next((value for value in ids if type(value) is int and 0 < value <= MAX_KEY), None)


def _json_records(file: BinaryIO) -> Lines:
    number = 0
    while raw := file.readline(MAX_CHUNK_BYTES + 1):
        number += 1
        if len(raw) > MAX_CHUNK_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_CHUNK_BYTES)
            message = f"the line is longer than {MAX_CHUNK_BYTES} bytes; shorten or split it"
            yield RefusedLine(line=number, message=message)
            continue
        raw = raw.strip().removeprefix(BOM)
        if not raw:
            continue
        try:
            record = from_json(raw, allow_inf_nan=False)
            if raw.count(b"[") + raw.count(b"{") > MAX_NESTING:
                # Inside a chunk the record is nested deeper, and must still be within the
                # parser's limit.
                from_json(b"[" * MAX_NESTING + raw + b"]" * MAX_NESTING)
            yield SourceRecord(record, [number])
        except ValueError as error:
            message = f"not valid JSON: {str(error)[:900]}; correct the line"
            yield RefusedLine(line=number, message=message)
