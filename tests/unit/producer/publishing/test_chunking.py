"""A stream of entries is cut into chunks: whole, in order, small enough, always the same."""

from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.contract.chunks import Chunk, EnrollmentChunk, RefusedLine, Tally
from producer.fields import MAX_CHUNK_BYTES, MAX_CHUNK_RECORDS
from producer.publishing.chunking import (
    CELL_END,
    CHUNK_ROWS,
    EncodedChunk,
    Line,
    SourceRecord,
    split_into_chunks,
)
from producer.schemas import Kind

ENVELOPE = 1_000
"""What the fields around the records may add to a chunk's JSON."""

UNTIMED = settings(deadline=None)  # Timings are not asserted.

Sizes = list[tuple[str, int, int]]


def build(sizes: Sizes) -> list[Line]:
    """Make an entry for each (kind, courses or repeats, length of its texts); lines from 1."""
    entries: list[Line] = []
    line = 1
    for what, courses, length in sizes:
        for _ in range(courses if what == "repeated" else 1):
            if what == "refused":
                entries.append(RefusedLine(line=line, message="é" * min(length, 1_000)))
            elif what == "request":
                ids = [f"{n}" + "é" * (length // courses) for n in range(courses)]
                lines = list(range(line, line + courses))
                entries.append(SourceRecord({"student_id": line, "course_ids": ids}, lines))
                line += courses - 1
            else:
                entries.append(SourceRecord({"sis_id": f"S{line}", "name": "x" * length}, [line]))
            line += 1
    return entries


streams = st.lists(
    st.one_of(
        st.tuples(st.just("refused"), st.just(1), st.integers(0, 1_000)),
        st.tuples(st.just("request"), st.integers(1, 100), st.integers(0, 150_000)),
        st.tuples(st.just("repeated"), st.integers(1, MAX_CHUNK_RECORDS + 1), st.integers(0, 400)),
    ),
    max_size=8,
).map(build)


def submitted_lines(entries: list[Line]) -> list[tuple[Any, ...]]:
    """Return what must arrive: each record with its lines, each refused line, by line."""
    lines = [("refused", e) if isinstance(e, RefusedLine) else (e.record, e.lines) for e in entries]
    return sorted(lines, key=by_line)


def received_lines(cut_chunk: EncodedChunk) -> list[tuple[Any, ...]]:
    chunk = Chunk.model_validate_json(cut_chunk.text)
    records = zip(chunk.records, chunk.lines_of_records, strict=True)
    accepted = [(record, list(lines)) for record, lines in records]
    return accepted + [("refused", line) for line in chunk.refused]


def by_line(entry: tuple[Any, ...]) -> int:
    return int(entry[1].line if entry[0] == "refused" else entry[1][0])


def parsed(entries: Iterable[Line]) -> list[Chunk]:
    return [Chunk.model_validate_json(one.text) for one in split_into_chunks("b", entries)]


@given(streams)
@UNTIMED
def test_every_entry_arrives_once_and_in_order(entries: list[Line]) -> None:
    arrived = [
        one
        for chunk in split_into_chunks("b", entries)
        for one in sorted(received_lines(chunk), key=by_line)
    ]
    assert arrived == submitted_lines(entries)


@given(streams)
@UNTIMED
def test_chunks_are_numbered_and_only_the_last_is_marked(
    entries: list[Line],
) -> None:
    chunks = parsed(entries)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {chunk.batch_id for chunk in chunks} == {"b"}
    made = [(c.number, c.last, c.tally) for c in split_into_chunks("b", entries)]
    assert made == [(chunk.number, chunk.last, chunk.tally()) for chunk in chunks]


@given(streams)
@UNTIMED
def test_a_chunk_holds_the_sum_of_the_chunks_before_it(entries: list[Line]) -> None:
    requests = rows = 0
    for chunk in parsed(entries):
        assert chunk.before == Tally(requests=requests, rows=rows)
        requests += chunk.tally().requests
        rows += chunk.tally().rows
    assert requests == len(entries)


@given(streams)
@UNTIMED
def test_the_same_entries_make_the_same_chunks(entries: list[Line]) -> None:
    assert list(split_into_chunks("b", entries)) == list(split_into_chunks("b", iter(entries)))


@given(streams)
@UNTIMED
def test_a_chunk_is_bounded_in_rows_and_in_bytes(entries: list[Line]) -> None:
    for chunk in split_into_chunks("b", entries):
        assert chunk.tally.rows <= CHUNK_ROWS
        assert chunk.tally.requests <= MAX_CHUNK_RECORDS
        assert len(chunk.text.encode()) <= MAX_CHUNK_BYTES + ENVELOPE


def test_a_group_that_is_too_large_is_halved() -> None:
    entries = build([("repeated", 8, MAX_CHUNK_BYTES // 4)])
    assert [len(chunk.records) for chunk in parsed(entries)] == [2, 2, 2, 2]


def test_an_oversized_record_is_refused_on_each_of_its_lines() -> None:
    small = SourceRecord({"sis_id": "S1"}, [1])
    giant = SourceRecord({"course_ids": ["A", "B", "é" * (MAX_CHUNK_BYTES // 2)]}, [2, 4, 5])
    chunks = parsed([small, giant, small])
    assert [record for chunk in chunks for record in chunk.records] == [small.record] * 2
    refused = [line for chunk in chunks for line in chunk.refused]
    assert [line.line for line in refused] == [2, 4, 5]
    message = f"the record is larger than {MAX_CHUNK_BYTES} bytes; shorten or split it"
    assert {line.message for line in refused} == {message}


def test_without_entries_there_is_one_empty_last_chunk() -> None:
    assert parsed([]) == [Chunk(batch_id="b", number=0, last=True)]


def test_chunks_are_yielded_before_all_entries_have_been_read() -> None:
    asked = 0

    def endless() -> Iterator[SourceRecord]:
        nonlocal asked
        while True:
            asked += 1
            yield SourceRecord({"sis_id": f"S{asked}"}, [asked])

    assert next(split_into_chunks("b", endless())).tally.rows == MAX_CHUNK_RECORDS
    assert asked <= 2 * MAX_CHUNK_RECORDS + 1


actions = st.sampled_from(["course_ids", "drop_course_ids"])


@given(
    fields=st.lists(st.sets(actions, min_size=1), min_size=1, max_size=5),
    reason=st.booleans(),
    ordered=st.booleans(),
)
def test_requests_that_ask_for_one_action_are_written_as_columns(
    fields: list[set[str]], reason: bool, ordered: bool
) -> None:
    records = [
        {"student_id": f"S{n}", **{field: [field[0]] for field in names}, "atomic": False}
        | ({"reason": "moved"} if reason else {})
        for n, names in enumerate(fields)
    ]
    entries = [SourceRecord(record, [n]) for n, record in enumerate(records, 1)]
    parts = list(split_into_chunks("b", entries, kind=Kind.ENROLLMENTS, ordered=ordered))
    chunk = EnrollmentChunk.model_validate_json(parts[0].text)
    is_compact = not reason and len(fields[0]) == 1 and all(one == fields[0] for one in fields)
    assert (chunk.requests is not None) is is_compact
    assert chunk.ordered is ordered
    assert [
        request.model_dump(mode="json", exclude_defaults=True) for request in chunk.records_in_order
    ] == records
    assert chunk.tally() == parts[0].tally


def test_cells_in_one_text_make_the_same_chunk_as_apart() -> None:
    rows = [["S1", ""], [""], ["a,b", "é", ' "x"']]
    record = {"sis_id": "S1"}
    apart = [SourceRecord(record, [n], [row]) for n, row in enumerate(rows)]
    together = [SourceRecord(record, [n], [CELL_END.join(row)]) for n, row in enumerate(rows)]
    assert [c.text for c in split_into_chunks("b", apart)] == [
        c.text for c in split_into_chunks("b", together)
    ]
