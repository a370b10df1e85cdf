"""A stream of records becomes a stream of chunks, each small enough for one message."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from pydantic_core import to_json, to_jsonable_python

from producer.contract.chunks import RefusedLine, Tally, count_rows
from producer.schemas import MAX_CHUNK_BYTES, MAX_CHUNK_RECORDS, Kind

CHUNK_ROWS = MAX_CHUNK_RECORDS
"""Rows of a chunk: large enough that a message costs little, small enough to be overtaken. Each
record is one at least, so that there are never more records than a chunk may hold."""


class SourceRecord(NamedTuple):
    """A record with the lines of the file that it was made of: one, or one for each row.

    `cells` are those lines of the CSV file, where they hold more than the record does.
    """

    record: Any
    lines: list[int]
    cells: list[list[str]] | None = None

    def add(self, line: int, row: list[str]) -> None:
        """One more line of the same record."""
        self.lines.append(line)
        if self.cells is not None:
            self.cells.append(row)


Line = SourceRecord | RefusedLine


class EncodedChunk(NamedTuple):
    """A chunk as the text that is published, a JSON object in ASCII."""

    number: int
    last: bool
    tally: Tally
    text: str


def split_into_chunks(
    batch_id: str,
    entries: Iterable[Line],
    columns: Iterable[str] | None = None,
    kind: Kind | None = None,
) -> Iterator[EncodedChunk]:
    """Chunks in order, the last one marked; always the same ones for the same entries.

    There is at least one, so that an empty batch is known and done. Of `kind` enrollments those
    travel as columns that may.
    """
    before = Tally()
    names = None if columns is None else list(columns)
    write = partial(_as_text, compact=kind is Kind.ENROLLMENTS)
    groups = chain.from_iterable(_split_to_fit(*group, write) for group in _groups(entries))
    group: _Group | None = next(groups, _Group("", Tally()))
    number = 0
    while group is not None:
        following = next(groups, None)
        head = {
            "batch_id": batch_id,
            "number": number,
            "last": following is None,
            "before": before.model_dump(),
            "columns": names,
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


def _groups(entries: Iterable[Line]) -> Iterator[tuple[list[Line], list[int]]]:
    """What may travel together, with the number of rows of each."""
    group: list[Line] = []
    rows: list[int] = []
    total = 0
    for entry in entries:
        more = 1
        if isinstance(entry, SourceRecord):
            more = len(entry.lines)
            if more == 1:
                more = count_rows(entry.record)
        total += more
        if group and total > CHUNK_ROWS:
            yield group, rows
            group, rows, total = [], [], more
        group.append(entry)
        rows.append(more)
    if group:
        yield group, rows


Write = Callable[[Sequence[Line], Sequence[int]], str]


def _split_to_fit(group: list[Line], rows: list[int], write: Write) -> Iterator[_Group]:
    """The group as text, halved until each part is small enough; a single giant is refused."""
    text = write(group, rows)
    if len(text) <= MAX_CHUNK_BYTES:
        yield _Group(text, Tally(requests=len(group), rows=sum(rows)))
    elif len(group) > 1:
        middle = len(group) // 2
        yield from _split_to_fit(group[:middle], rows[:middle], write)
        yield from _split_to_fit(group[middle:], rows[middle:], write)
    else:
        giant = group[0]
        lines = giant.lines if isinstance(giant, SourceRecord) else [giant.line]
        message = f"the record is larger than {MAX_CHUNK_BYTES} bytes; split it"
        refused = [RefusedLine(line=n, message=message) for n in lines]
        tally = Tally(requests=len(lines), rows=len(lines))
        yield _Group(write(refused, [1] * len(refused)), tally)


def _as_text(group: Sequence[Line], rows: Sequence[int], *, compact: bool) -> str:
    """The fields of a chunk that hold the group, as the rest of a JSON object."""
    entries = [entry for entry in group if isinstance(entry, SourceRecord)]
    records = [entry.record for entry in entries]
    as_columns = _as_columns(records) if compact else None
    fields: dict[str, Any] = {"requests": as_columns} if as_columns else {"records": records}
    lines = list(chain.from_iterable([entry.lines for entry in entries]))
    if len(lines) > len(entries):
        # A line for each row: a record that is one line stands there with all its rows.
        of_each = zip(group, rows, strict=True)
        counted = [(one.lines, count) for one, count in of_each if isinstance(one, SourceRecord)]
        repeated = [of_one if len(of_one) > 1 else of_one * count for of_one, count in counted]
        lines = list(chain.from_iterable(repeated))
    fields["lines"] = lines
    cells = [entry.cells for entry in entries if entry.cells]
    if cells:
        fields["cells"] = list(chain.from_iterable(cells))
    if len(entries) < len(group):
        refused = [line for line in group if not isinstance(line, SourceRecord)]
        fields["refused"] = [line.model_dump(exclude_none=True) for line in refused]
    return "".join([f',"{name}":{_json(value)}' for name, value in fields.items()])


def _as_columns(records: Sequence[Any]) -> dict[str, Any] | None:
    """Requests as columns, if all of them have the same fields and no ids of their own."""
    if set(map(type, records)) != {dict} or len(sizes := set(map(len, records))) != 1:
        return None
    try:
        columns = {name: [r[name] for r in records] for name in ("student_id", "course_ids")}
        atomic = [r["atomic"] for r in records] if sizes == {3} else [True]
    except KeyError:
        return None
    if sizes - {2, 3} or set(map(type, atomic)) != {bool} or len(set(atomic)) != 1:
        return None
    return {
        "student_ids": columns["student_id"],
        "course_ids": columns["course_ids"],
        "atomic": atomic[0],
    }


def _json(value: Any) -> str:
    # Several times as quick; what it cannot write, or not in ASCII, is the other one's.
    with suppress(ValueError):
        text = to_json(value)
        if text.isascii():
            return text.decode()
    return json.dumps(value, separators=(",", ":"), default=_as_json)


def _as_json(value: Any) -> Any:
    """What a caller put into a record and JSON does not know; the worker refuses the rest."""
    return to_jsonable_python(value, fallback=lambda other: {"not JSON": repr(other)})
