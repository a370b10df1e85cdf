"""Split a stream of records into chunks, each small enough for one message."""

import json
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate, chain, islice
from typing import Any, NamedTuple, cast

from pydantic_core import to_json, to_jsonable_python

from producer.contract.chunks import COURSE_FIELDS, RefusedLine, Tally, count_rows
from producer.contract.file_forms import FileForm
from producer.contract.plan_requests import PlanRequest
from producer.fields import MAX_CHUNK_BYTES, MAX_CHUNK_RECORDS
from producer.schemas import Kind

CHUNK_ROWS = MAX_CHUNK_RECORDS
"""The largest number of rows in a chunk: enough to make the cost of a message negligible, but few
enough that other messages need not wait long. A record has at least one row, so a chunk never
exceeds MAX_CHUNK_RECORDS."""


CELL_END = "\x00"
"""What separates the cells of a line in one text: no line that is read has this character."""


class SourceRecord(NamedTuple):
    """A record, and the lines of the file that it was made from: one, or one for each row.

    `cells` holds the cells of these lines in a CSV file, if they hold more than the record does;
    those of one line may be one text, with CELL_END between them: many cells that are kept for a
    while as texts of their own slow the reader down.
    """

    record: Any
    lines: list[int]
    cells: list[list[str] | str] | None = None

    def add(self, line: int, row: list[str] | str) -> None:
        """Add one more line to the record."""
        self.lines.append(line)
        if self.cells is not None:
            self.cells.append(row)


Line = SourceRecord | RefusedLine


class Membership(NamedTuple):
    """The data set and the plan that all chunks of a batch name; most batches have neither."""

    data_set: str | None = None
    plan: PlanRequest | None = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of a chunk. What is usual is left out; equal plans are equal texts."""
        plan = self.plan and self.plan.model_dump(mode="json", exclude_defaults=True)
        return {"data_set": self.data_set, "plan": plan}


ALONE = Membership()
"""The membership of a batch without a data set and a plan."""


class RequestColumns(NamedTuple):
    """Requests of a file of pairs as columns: an object for each of them would slow the reader.

    Each asks for one action, is not atomic, and has a line for each of its courses.
    """

    field: str
    """The field of a request that holds the courses."""
    students: Sequence[str]
    courses: Sequence[Sequence[str]]
    lines: Sequence[int]
    """The lines of the first request, then those of the second one, and so on."""

    def divided(self, rows: int) -> tuple["RequestColumns", "RequestColumns"]:
        """Return the first requests, as many as have this many rows at most, and the others."""
        ends = list(accumulate(map(len, self.courses)))
        count = bisect_right(ends, rows)
        end = ends[count - 1] if count else 0
        first = self.students[:count], self.courses[:count], self.lines[:end]
        others = self.students[count:], self.courses[count:], self.lines[end:]
        return RequestColumns(self.field, *first), RequestColumns(self.field, *others)

    def records(self) -> Iterator[SourceRecord]:
        """Yield the requests one by one."""
        lines = iter(self.lines)
        for student, courses in zip(self.students, self.courses, strict=True):
            record = {"student_id": student, self.field: list(courses), "atomic": False}
            yield SourceRecord(record, list(islice(lines, len(courses))))


Block = Line | RequestColumns


class LineStream(Iterator[Line]):
    """The lines of a file, one by one; what submits them takes `blocks` instead."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self.blocks = blocks
        self._lines = _one_by_one(blocks)

    def __next__(self) -> Line:
        return next(self._lines)

    def close(self) -> None:
        """Close the file before all of its lines were read."""
        if isinstance(self.blocks, Generator):
            self.blocks.close()


def blocks_of(lines: Iterator[Line]) -> Iterator[Block]:
    """Return lines as they were read: as columns where possible."""
    return lines.blocks if isinstance(lines, LineStream) else lines


def _one_by_one(blocks: Iterable[Block]) -> Iterator[Line]:
    for block in blocks:
        if isinstance(block, RequestColumns):
            yield from block.records()
        else:
            yield block


class EncodedChunk(NamedTuple):
    """A chunk as the text that is published: a JSON object in ASCII."""

    number: int
    last: bool
    tally: Tally
    text: str


def split_into_chunks(
    batch_id: str,
    entries: Iterable[Block],
    columns: Iterable[str] | None = None,
    kind: Kind | None = None,
    form: FileForm | None = None,
    *,
    ordered: bool = False,
    membership: Membership = ALONE,
) -> Iterator[EncodedChunk]:
    """Yield the chunks in order, the last one marked as such.

    The same entries always make the same chunks. There is always at least one, so that an empty
    batch is known and `done`. If `kind` is enrollments, requests are written as columns where
    possible. With `ordered`, each request counts later than the one before it, as roster records
    always do.
    """
    before = Tally()
    names = None if columns is None else list(columns)
    plain_form = None if form is None else form.model_dump(exclude_defaults=True) or None
    belongs_to = membership.fields()
    write = partial(_written, compact=kind is Kind.ENROLLMENTS)
    groups = chain.from_iterable(write(*group) for group in _groups(entries))
    group: _Group | None = next(groups, _Group("", Tally()))
    number = 0
    while group is not None:
        following = next(groups, None)
        head = {
            "batch_id": batch_id,
            "number": number,
            "last": following is None,
            "before": before.model_dump(),
            # What is usual is left out, so that chunks stay the same as before it had a name.
            "ordered": True if ordered else None,
            "columns": names,
            "form": plain_form,
            **belongs_to,
        }
        text = _json({k: v for k, v in head.items() if v is not None})[:-1] + group.text + "}"
        yield EncodedChunk(number, following is None, group.tally, text)
        before = Tally(
            requests=before.requests + group.tally.requests, rows=before.rows + group.tally.rows
        )
        group, number = following, number + 1


class _Group(NamedTuple):
    text: str
    tally: Tally


def _groups(entries: Iterable[Block]) -> Iterator[tuple[list[Block], list[int]]]:
    """Yield groups of entries with at most CHUNK_ROWS rows, and the row count of each entry."""
    group: list[Block] = []
    rows: list[int] = []
    total = 0
    for entry in entries:
        for part in _cut(entry, CHUNK_ROWS - total):
            row_count = _count_rows(part)
            total += row_count
            if group and total > CHUNK_ROWS:
                yield group, rows
                group, rows, total = [], [], row_count
            group.append(part)
            rows.append(row_count)
    if group:
        yield group, rows


def _cut(entry: Block, room: int) -> Iterable[Block]:
    """Cut columns where the chunk ends that has room for this many more rows."""
    if not isinstance(entry, RequestColumns) or len(entry.lines) <= room:
        return (entry,)
    first, others = entry.divided(room)
    rest = _cut(others, CHUNK_ROWS)
    return (first, *rest) if first.lines else rest


def _count_rows(entry: Block) -> int:
    if isinstance(entry, RefusedLine):
        return 1
    line_count = len(entry.lines)
    if line_count > 1 or isinstance(entry, RequestColumns):
        return line_count
    return count_rows(entry.record)


def _written(group: Sequence[Block], rows: Sequence[int], *, compact: bool) -> Iterator[_Group]:
    """Yield the group as text, in parts if it is too large."""
    columns = [entry for entry in group if isinstance(entry, RequestColumns)]
    if columns and compact and len(columns) == len(group):
        text = _columns_as_text(columns)
        if len(text) <= MAX_CHUNK_BYTES:
            requests = sum(len(part.students) for part in columns)
            yield _Group(text, Tally(requests=requests, rows=sum(rows)))
            return
    lines = list(_one_by_one(group)) if columns else cast("Sequence[Line]", group)
    counts = list(map(_count_rows, lines)) if columns else rows
    yield from _split_to_fit(lines, counts, partial(_as_text, compact=compact))


def _columns_as_text(parts: Sequence[RequestColumns]) -> str:
    """Return what `_as_text` returns for the same requests; all parts have the same field."""
    requests = {
        "student_ids": list(chain.from_iterable([part.students for part in parts])),
        parts[0].field: list(chain.from_iterable([part.courses for part in parts])),
        "atomic": False,
    }
    lines = list(chain.from_iterable([part.lines for part in parts]))
    return f',"requests":{_json(requests)},"lines":{_json(lines)}'


Write = Callable[[Sequence[Line], Sequence[int]], str]


def _split_to_fit(group: Sequence[Line], rows: Sequence[int], write: Write) -> Iterator[_Group]:
    """Yield the group as text, halved until each part fits; refuse a record that never fits."""
    text = write(group, rows)
    if len(text) <= MAX_CHUNK_BYTES:
        yield _Group(text, Tally(requests=len(group), rows=sum(rows)))
    elif len(group) > 1:
        middle = len(group) // 2
        yield from _split_to_fit(group[:middle], rows[:middle], write)
        yield from _split_to_fit(group[middle:], rows[middle:], write)
    else:
        entry = group[0]
        if isinstance(entry, RefusedLine) and entry.cells is not None:
            yield from _split_to_fit([entry.model_copy(update={"cells": None})], rows, write)
            return
        lines = entry.lines if isinstance(entry, SourceRecord) else [entry.line]
        message = f"the record is larger than {MAX_CHUNK_BYTES} bytes; shorten or split it"
        refused = [RefusedLine(line=line, message=message) for line in lines]
        tally = Tally(requests=len(lines), rows=len(lines))
        yield _Group(write(refused, [1] * len(refused)), tally)


def _as_text(group: Sequence[Line], rows: Sequence[int], *, compact: bool) -> str:
    """Return the fields of a chunk that hold the group, as the remainder of a JSON object."""
    entries = [entry for entry in group if isinstance(entry, SourceRecord)]
    records = [entry.record for entry in entries]
    as_columns = _as_columns(records) if compact else None
    fields: dict[str, Any] = {"requests": as_columns} if as_columns else {"records": records}
    lines = list(chain.from_iterable([entry.lines for entry in entries]))
    if len(lines) > len(entries):
        # Some record has several lines, so `lines` must have one for each row: the line of a
        # record that has only one is repeated for each of its rows.
        lines = [
            line
            for entry, row_count in zip(group, rows, strict=True)
            if isinstance(entry, SourceRecord)
            for line in (entry.lines if len(entry.lines) > 1 else entry.lines * row_count)
        ]
    fields["lines"] = lines
    cells = [entry.cells for entry in entries if entry.cells]
    if cells:
        fields["cells"] = [
            row.split(CELL_END) if isinstance(row, str) else row
            for row in chain.from_iterable(cells)
        ]
    if len(entries) < len(group):
        refused = [line for line in group if not isinstance(line, SourceRecord)]
        fields["refused"] = [line.model_dump(exclude_none=True) for line in refused]
    return "".join([f',"{name}":{_json(value)}' for name, value in fields.items()])


def _as_columns(records: Sequence[Any]) -> dict[str, Any] | None:
    """Return the requests as columns if all have the same plain fields, else None.

    These are the student, the courses of one action, and `atomic`.
    """
    if set(map(type, records)) != {dict} or len(sizes := set(map(len, records))) != 1:
        return None
    field = next((field for field in COURSE_FIELDS.values() if field in records[0]), None)
    if field is None:
        return None
    try:
        student_ids = [record["student_id"] for record in records]
        courses = [record[field] for record in records]
        atomic = [record["atomic"] for record in records] if sizes == {3} else [True]
    except KeyError:
        return None
    if sizes - {2, 3} or set(map(type, atomic)) != {bool} or len(set(atomic)) != 1:
        return None
    return {"student_ids": student_ids, field: courses, "atomic": atomic[0]}


def _json(value: Any) -> str:
    # Pydantic's writer is several times faster; json.dumps handles what it cannot write as ASCII.
    with suppress(ValueError):
        text = to_json(value)
        if text.isascii():
            return text.decode()
    return json.dumps(value, separators=(",", ":"), default=_as_json)


def _as_json(value: Any) -> Any:
    """Convert a value that is not JSON; the worker refuses what cannot be converted."""
    return to_jsonable_python(value, fallback=lambda other: {"not JSON": repr(other)})
