"""Pairs that are grouped a column at a time make the requests that they make one by one."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.files import grouping, plain_pairs
from producer.files.cells import Pair, Row, pair_reader
from producer.files.columns import column_readers
from producer.files.grouping import group_requests
from producer.files.plain_pairs import group_plain_pairs
from producer.publishing import chunking
from producer.publishing.chunking import (
    LineStream,
    RequestColumns,
    SourceRecord,
    blocks_of,
    split_into_chunks,
)
from producer.publishing.records import source_records
from producer.schemas import Action, Kind
from support.source_files import PAIRS, Open

Rows = list[Row | RefusedLine]

STUDENT_AT = {0: ["student_id", "course_id"], 1: ["course_id", "student_id"]}
"""The header of a file, by the position of the student."""


def reader_of(student_at: int) -> Callable[[list[str]], Pair]:
    return pair_reader(column_readers("a file", STUDENT_AT[student_at], {}))


def refused(line: int) -> RefusedLine:
    return RefusedLine(line=line, message="broken")


plain = st.tuples(st.sampled_from(["S1", "S2", "S3", " S4 ", "Zoë"]), st.sampled_from(["M1", "M2"]))
spread = st.tuples(st.integers(10, 99).map(str), st.sampled_from(["M1", "M2", "M3"]))
unusual = st.sampled_from([("", "M1"), ("S1", " "), ("S" * 256, "M1"), ("S\x07", "M1")])
rows_of_files = st.lists(
    st.one_of(plain, spread, spread, spread, unusual | st.none()) | spread, max_size=40
)


@pytest.fixture
def small() -> Iterator[None]:
    """Windows, parts, requests and chunks of a few rows, so that examples have many of them."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (grouping, plain_pairs):
            patch.setattr(module, "WINDOW", 7)
            patch.setattr(module, "MAX_COURSES", 2)
        patch.setattr(plain_pairs, "PART", 3)
        patch.setattr(chunking, "CHUNK_ROWS", 10)
        yield


@pytest.mark.usefixtures("small")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(
    cells=rows_of_files,
    student_at=st.sampled_from([0, 1]),
    action=st.sampled_from(Action),
    kind=st.sampled_from([Kind.ENROLLMENTS, None]),
)
def test_columns_make_the_same_requests_and_chunks(
    cells: list[tuple[str, str] | None], student_at: int, action: Action, kind: Kind | None
) -> None:
    rows: Rows = [
        refused(line) if pair is None else (line, [pair[student_at], pair[1 - student_at]])
        for line, pair in enumerate(cells, 2)
    ]
    read = reader_of(student_at)
    places = (student_at, 1 - student_at)

    def in_columns() -> Iterator[SourceRecord | RefusedLine]:
        return group_plain_pairs(iter(rows), places, read, action)

    one_by_one = list(group_requests(iter(rows), read, action, keep_cells=False))
    assert list(in_columns()) == one_by_one
    chunks = list(split_into_chunks("b", source_records(in_columns()), kind=kind))
    assert chunks == list(split_into_chunks("b", one_by_one, kind=kind))


def blocks(source_text: str, opened: Open) -> list[type]:
    return [type(block) for block in blocks_of(opened(source_text).records())]


def test_plain_pairs_are_read_as_columns(opened: Open) -> None:
    assert blocks(PAIRS + "S1,M1\nS2,M1\nS1,M2\n", opened) == [RequestColumns]


@pytest.mark.parametrize(
    "text",
    [
        "student_key,course_key\n1,2\n",
        "student_id,course_id,note\nS1,M1,x\n",
        "student_id,course_id,reason\nS1,M1,\n",
        PAIRS + "S1,M1\nS1,M2\nS1,M3\n",
    ],
    ids=["keys", "a column that is not read", "a reason", "many rows of a student"],
)
def test_other_files_are_read_one_by_one(text: str, opened: Open) -> None:
    assert set(blocks(text, opened)) == {SourceRecord}


def test_columns_that_are_too_large_for_a_chunk_are_divided() -> None:
    names = [f"{n}{'é' * 250}" for n in range(3_000)]
    columns = RequestColumns("course_ids", names, [(name,) for name in names], range(2, 3_002))
    blocks = LineStream(iter([columns])).blocks
    chunks = list(split_into_chunks("b", blocks, kind=Kind.ENROLLMENTS))
    assert chunks == list(split_into_chunks("b", columns.records(), kind=Kind.ENROLLMENTS))
    assert len(chunks) > 1
