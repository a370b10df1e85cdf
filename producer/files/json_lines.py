"""Read JSON Lines files, with one record per line."""

from collections.abc import Mapping
from functools import partial
from typing import Any, BinaryIO

from pydantic_core import from_json

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files.account import Account
from producer.files.cells import problem_of_new_id
from producer.files.columns import kind_of
from producer.files.layout import BOM, FileLayout, Lines
from producer.files.notices import Notices
from producer.publishing.chunking import SourceRecord
from producer.schemas import MAX_CHUNK_BYTES, Kind

MAX_NESTING = 20


def json_lines_layout(
    path: str, kind: Kind | None, templates: Mapping[str, str], head: str, notices: Notices
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
    account = Account()
    is_roster = kind is not Kind.ENROLLMENTS
    return FileLayout(kind, partial(_json_records, account, is_roster=is_roster), notices, account)


def _json_records(account: Account, file: BinaryIO, *, is_roster: bool) -> Lines:
    account.begin(header=0)
    while raw := file.readline(MAX_CHUNK_BYTES + 1):
        number = account.total + 1
        if len(raw) > MAX_CHUNK_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_CHUNK_BYTES)
            message = f"the line is longer than {MAX_CHUNK_BYTES} bytes; shorten or split it"
            account.refused += 1
            yield RefusedLine(line=number, message=message)
            continue
        raw = raw.strip().removeprefix(BOM)
        if not raw:
            account.blank += 1
            continue
        try:
            record = from_json(raw, allow_inf_nan=False)
            if raw.count(b"[") + raw.count(b"{") > MAX_NESTING:
                # Inside a chunk the record is nested deeper, and must still be within the
                # parser's limit.
                from_json(b"[" * MAX_NESTING + raw + b"]" * MAX_NESTING)
        except ValueError as error:
            message = f"not valid JSON: {str(error)[:900]}; correct the line"
            account.refused += 1
            yield RefusedLine(line=number, message=message)
        else:
            problem = _problem_of_id(record) if is_roster else None
            if problem:
                account.refused += 1
                yield RefusedLine(line=number, field="sis_id", message=f"sis_id: {problem}")
            else:
                account.rows += 1
                yield SourceRecord(record, [number])


def _problem_of_id(record: Any) -> str | None:
    """Return why the id of a roster record is hardly meant; other faults are for the worker."""
    sis_id = record.get("sis_id") if isinstance(record, dict) else None
    return problem_of_new_id(sis_id) if isinstance(sis_id, str) else None
