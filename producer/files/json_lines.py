"""Read JSON Lines files, with one record per line."""

import re
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from typing import Any, BinaryIO

from pydantic_core import from_json

from producer.contract.chunks import COURSE_FIELDS, RefusedLine
from producer.errors import UnreadableFile
from producer.fields import MAX_CHUNK_BYTES, MAX_KEY
from producer.files.account import Account
from producer.files.beginning import FileGoesOn, open_lines
from producer.files.cells import problem_of_new_id
from producer.files.columns import kind_of
from producer.files.layout import NOT_ALL_DROPS, NOT_UTF8, FileLayout, Lines
from producer.files.notices import Notices
from producer.files.raw_bytes import storable
from producer.files.roster_notices import noticing_values
from producer.files.shorten import shorten
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind

MAX_NESTING = 20


def json_lines_layout(
    path: str,
    kind: Kind | None,
    templates: Mapping[str, str],
    head: str,
    notices: Notices,
    undecodable: str = NOT_UTF8,
    *,
    drop: bool = False,
    goes_on: bool = False,
) -> FileLayout:
    """Describe a JSON Lines file by its first line. Raises UnreadableFile.

    `undecodable` says what is wrong with a line whose bytes could not be decoded. `drop` is refused
    here, because each request says itself what it asks for. `goes_on` is set if the last line of
    `head` may not be whole.
    """
    first = head.strip().partition("\n")[0]
    if drop:
        raise UnreadableFile(
            f"{path}: this is JSON Lines, in which each request names the courses to drop in"
            f" drop_course_ids; {NOT_ALL_DROPS}. The first line is {shorten(first)}.",
            "drop",
        )
    if templates:
        raise UnreadableFile(
            f"{path}: this is JSON Lines, and only the columns of a CSV file can be mapped; leave"
            f" the mapping out. The first line is {shorten(first)}.",
            "map",
        )
    kind = kind or _kind_of_line(path, first)
    account = Account()
    is_roster = kind is not Kind.ENROLLMENTS

    def read(file: BinaryIO, account: Account = account) -> Lines:
        records = _json_records(account, file, undecodable, is_roster=is_roster)
        notice = noticing_values if is_roster else _noticing_keys
        return notice(path, records, notices)

    # The first lines are read here too, so that the notice comes before anything is submitted.
    deque(read(open_lines(head.encode(errors="replace"), goes_on=goes_on), Account()), maxlen=0)
    return FileLayout(kind, read, notices, account)


def _kind_of_line(path: str, first: str) -> Kind:
    """Return the kind of the record in a first line. Raises UnreadableFile if it does not show."""
    try:
        record = from_json(first.encode(errors="replace"))
    except ValueError:
        raise UnreadableFile(
            f"{path}: the first line is not valid JSON: {shorten(first)}.{_looks_like(first)} Write"
            " one record per line, or choose the kind of the records to submit the other lines.",
            "kind",
        ) from None
    is_request = any(field in record for field in COURSE_FIELDS.values())
    fields = {"student_id"} if is_request else set(record)
    looks = ""
    if any(isinstance(value, list) for value in record.values()):
        looks = "It looks like one document that holds a list of records; write one on each line."
    return kind_of(path, fields, first, looks)


def _noticing_keys(path: str, lines: Lines, notices: Notices) -> Lines:
    """Yield the lines; add a notice at the first request that names something by an integer."""
    for entry in lines:
        yield entry
        if isinstance(entry, SourceRecord) and (key := _a_key(entry.record)):
            notices.add(
                f"{path}: line {entry.lines[0]} has the integer {key} as an id. In JSON, an integer"
                f' is our key; if it is a SIS id, write it as a string: "{key}".'
            )
            yield from lines


def _a_key(record: Any) -> int | None:
    """Return the first of our keys that stands for a student or a course in a request, if any."""
    if not isinstance(record, dict):
        return None
    lists = [record.get(field) for field in COURSE_FIELDS.values()]
    courses = chain.from_iterable(courses for courses in lists if isinstance(courses, list))
    ids = [record.get("student_id"), *courses]
    if int not in map(type, ids):  # Almost every request has only SIS ids.
        return None
    return next((value for value in ids if type(value) is int and 0 < value <= MAX_KEY), None)


def _looks_like(first: str) -> str:
    """Return a sentence about a first line that is not valid JSON."""
    if first.strip() in ("{", "{}") or first.rstrip().endswith((",", "{", "[")):
        return " It looks like a JSON document on several lines."
    if first.startswith("{'"):
        return " Its strings are in single quotes; JSON needs double quotes."
    return ""


def _json_records(account: Account, file: BinaryIO, undecodable: str, *, is_roster: bool) -> Lines:
    with suppress(FileGoesOn):
        yield from _whole_records(account, file, undecodable, is_roster=is_roster)


def _whole_records(account: Account, file: BinaryIO, undecodable: str, *, is_roster: bool) -> Lines:
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
        raw = raw.strip().removeprefix(BOM_UTF8)
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
            message = f"the line {undecodable}" if _is_bad(raw) else _not_json(error)
            account.refused += 1
            yield RefusedLine(line=number, message=message, cells=_whole(raw))
        else:
            problem = _problem_of_id(record) if is_roster else None
            if problem:
                account.refused += 1
                message = f"sis_id: {problem}"
                yield RefusedLine(line=number, field="sis_id", message=message, cells=_whole(raw))
            else:
                account.rows += 1
                yield SourceRecord(record, [number])


def _not_json(error: ValueError) -> str:
    """Return what is wrong with a line; the parser counts lines within it."""
    reason = re.sub(r" at line 1 column (\d+)$", r" at column \1", str(error)[:900])
    return f"not valid JSON: {reason}; correct the line"


def _whole(raw: bytes) -> tuple[str, ...]:
    """Return a line as the only cell of a refused line, so that it comes back as it was."""
    return storable([raw.decode("utf-8", "surrogateescape")])


def _problem_of_id(record: Any) -> str | None:
    """Return why the id of a roster record is probably not meant; the worker checks the rest."""
    sis_id = record.get("sis_id") if isinstance(record, dict) else None
    return problem_of_new_id(sis_id) if isinstance(sis_id, str) else None


def _is_bad(raw: bytes) -> bool:
    """Return whether a line is not UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return False
