"""A stream of entries is cut into chunks: whole, in order, small enough, always the same."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.chunks import CHUNK_ROWS, Entry, cut
from producer.schemas import MAX_CHUNK_BYTES, MAX_CHUNK_RECORDS, Chunk, RefusedLine, Tally

ENVELOPE = 1_000
"""What the fields around the records may add to a chunk's JSON."""

UNTIMED = settings(deadline=None)  # Timings are not asserted.

Sizes = list[tuple[str, int, int]]


def build(sizes: Sizes) -> list[Entry | RefusedLine]:
    """An entry for each (what, courses or times, length of its texts); lines count from 1."""
    entries: list[Entry | RefusedLine] = []
    line = 1
    for what, courses, length in sizes:
        for _ in range(courses if what == "repeated" else 1):
            if what == "refused":
                entries.append(RefusedLine(line=line, message="é" * min(length, 1_000)))
            elif what == "request":
                ids = [f"{n}" + "é" * (length // courses) for n in range(courses)]
                lines = tuple(range(line, line + courses))
                entries.append(Entry({"student_id": line, "course_ids": ids}, lines))
                line += courses - 1
            else:
                entries.append(Entry({"sis_id": f"S{line}", "name": "x" * length}, (line,)))
            line += 1
    return entries


streams = st.lists(
    st.one_of(
        st.tuples(st.just("refused"), st.just(1), st.integers(0, 1_000)),
        st.tuples(st.just("request"), st.integers(1, 100), st.integers(0, 150_000)),
        st.tuples(st.just("repeated"), st.integers(1, CHUNK_ROWS + 1), st.integers(0, 400)),
    ),
    max_size=8,
).map(build)


def said(entry: Entry | RefusedLine) -> tuple[Any, ...]:
    """What must arrive of an entry."""
    return ("refused", entry) if isinstance(entry, RefusedLine) else (entry.record, entry.lines)


def heard(chunk: Chunk) -> list[tuple[Any, ...]]:
    records = zip(chunk.records, chunk.lines or (), strict=True)
    return [*records, *(("refused", line) for line in chunk.refused)]


def by_line(arrived: tuple[Any, ...]) -> int:
    return int(arrived[1].line if arrived[0] == "refused" else arrived[1][0])


@given(streams)
@UNTIMED
def test_every_entry_arrives_once_and_in_order(entries: list[Entry | RefusedLine]) -> None:
    arrived = [one for chunk in cut("b", entries) for one in sorted(heard(chunk), key=by_line)]
    assert arrived == [said(entry) for entry in entries]


@given(streams)
@UNTIMED
def test_chunks_are_numbered_and_only_the_last_is_marked(
    entries: list[Entry | RefusedLine],
) -> None:
    chunks = list(cut("b", entries))
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {chunk.batch_id for chunk in chunks} == {"b"}


@given(streams)
@UNTIMED
def test_a_chunk_knows_the_sum_of_those_before_it(entries: list[Entry | RefusedLine]) -> None:
    requests = rows = 0
    for chunk in cut("b", entries):
        assert chunk.before == Tally(requests=requests, rows=rows)
        requests += chunk.tally().requests
        rows += chunk.tally().rows
    assert requests == len(entries)


@given(streams)
@UNTIMED
def test_the_same_entries_make_the_same_chunks(entries: list[Entry | RefusedLine]) -> None:
    assert list(cut("b", entries)) == list(cut("b", iter(entries)))


@given(streams)
@UNTIMED
def test_a_chunk_is_bounded_in_rows_and_in_bytes(entries: list[Entry | RefusedLine]) -> None:
    for chunk in cut("b", entries):
        assert chunk.tally().rows <= CHUNK_ROWS <= MAX_CHUNK_RECORDS
        assert len(json.dumps(chunk.model_dump())) <= MAX_CHUNK_BYTES + ENVELOPE


def test_a_group_that_is_too_large_is_halved() -> None:
    entries = build([("repeated", 8, MAX_CHUNK_BYTES // 4)])
    assert [len(chunk.records) for chunk in cut("b", entries)] == [2, 2, 2, 2]


def test_a_giant_is_refused_by_each_of_its_lines_and_harms_no_other() -> None:
    small = Entry({"sis_id": "S1"}, (1,))
    giant = Entry({"course_ids": ["A", "B", "é" * (MAX_CHUNK_BYTES // 2)]}, (2, 4, 5))
    chunks = list(cut("b", [small, giant, small]))
    assert [record for chunk in chunks for record in chunk.records] == [small.record] * 2
    refused = [line for chunk in chunks for line in chunk.refused]
    assert [line.line for line in refused] == [2, 4, 5]
    message = f"the record is larger than {MAX_CHUNK_BYTES} bytes; split it"
    assert {line.message for line in refused} == {message}


def test_no_entries_make_one_empty_chunk_that_is_the_last() -> None:
    assert list(cut("b", [])) == [Chunk(batch_id="b", number=0, last=True)]


def test_chunks_are_handed_out_while_the_entries_still_come() -> None:
    asked = 0

    def endless() -> Iterator[Entry]:
        nonlocal asked
        while True:
            asked += 1
            yield Entry({"sis_id": f"S{asked}"}, (asked,))

    assert next(cut("b", endless())).tally().rows == CHUNK_ROWS
    assert asked <= 2 * CHUNK_ROWS + 1
