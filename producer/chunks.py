"""A stream of records becomes a stream of chunks, each small enough for one message."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from producer.schemas import MAX_CHUNK_BYTES, Chunk, RefusedLine, Tally, count_rows

CHUNK_ROWS = 5_000
"""Rows of a chunk: large enough that a message costs little, small enough to be overtaken."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with the lines of the file that it was made of: one, or one for each course."""

    record: Any
    lines: tuple[int, ...]


Entries = list[Entry | RefusedLine]


def cut(batch_id: str, entries: Iterable[Entry | RefusedLine]) -> Iterator[Chunk]:
    """Chunks in order, the last one marked; always the same ones for the same entries.

    There is at least one, so that an empty batch is known and done.
    """
    before = Tally()
    held: Chunk | None = None
    for number, group in enumerate(chain.from_iterable(map(_fitting, _groups(entries)))):
        if held is not None:
            yield held
        held = _chunk(batch_id, number, before, group)
        added = held.tally()
        before = Tally(requests=before.requests + added.requests, rows=before.rows + added.rows)
    held = held or Chunk(batch_id=batch_id, number=0)
    yield held.model_copy(update={"last": True})


def _groups(entries: Iterable[Entry | RefusedLine]) -> Iterator[Entries]:
    group: Entries = []
    rows = 0
    for entry in entries:
        more = count_rows(entry.record) if isinstance(entry, Entry) else 1
        if group and rows + more > CHUNK_ROWS:
            yield group
            group, rows = [], 0
        group.append(entry)
        rows += more
    if group:
        yield group


def _fitting(group: Entries) -> Iterator[Entries]:
    """The group, halved until each part is small enough; a single giant is refused."""
    if len(json.dumps([_plain(entry) for entry in group], default=str)) <= MAX_CHUNK_BYTES:
        yield group
    elif len(group) > 1:
        middle = len(group) // 2
        yield from _fitting(group[:middle])
        yield from _fitting(group[middle:])
    else:
        giant = group[0]
        lines = giant.lines if isinstance(giant, Entry) else (giant.line,)
        message = f"the record is larger than {MAX_CHUNK_BYTES} bytes; split it"
        yield [RefusedLine(line=line, message=message) for line in lines]


def _plain(entry: Entry | RefusedLine) -> Any:
    return (entry.record, entry.lines) if isinstance(entry, Entry) else entry.model_dump()


def _chunk(batch_id: str, number: int, before: Tally, group: Entries) -> Chunk:
    records = [entry for entry in group if isinstance(entry, Entry)]
    return Chunk(
        batch_id=batch_id,
        number=number,
        before=before,
        records=tuple(entry.record for entry in records),
        lines=tuple(entry.lines for entry in records),
        refused=tuple(entry for entry in group if isinstance(entry, RefusedLine)),
    )
