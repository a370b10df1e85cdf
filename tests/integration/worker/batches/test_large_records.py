"""A record may be as large and as wrong as a message allows: it costs what its size is worth.

Whatever a record looks like, at most ten of its problems are reported, it is stored once, and the
records beside it are enrolled.
"""

import io
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from producer.contract.explain import MAX_PROBLEMS
from producer.files.json_lines import json_lines_layout
from producer.files.notices import Notices
from producer.publishing.chunking import split_into_chunks
from producer.schemas import Kind
from support.chunks import books
from support.databases import clear_batches, count_rows
from support.large_records import SHAPES, as_roster_record, large_request
from worker.batches.apply import ChunkOutcome, apply_chunk
from worker.database.engine import Database
from worker.enrollment.incoming import read_request
from worker.enrollment.lookups import request_statuses
from worker.models import BatchRefusal, DeadLetter
from worker.refused_lines.lookups import refused_records
from worker.service import add_enrollments
from worker.tasks.answer import to_json

GOOD = [{"student_id": "A", "course_ids": ["M1"]}, {"student_id": "B", "course_ids": ["M1", "M2"]}]
PER_LINE = 700
"""Bytes that a refused line may take beside the record: its message, and what all lines repeat."""

PER_PROBLEM = 2 * 255 + 250
"""Characters of a problem in a result, at most: it may name the longest SIS id twice."""

RESULT_FIELDS = 1_000
"""Characters of a result besides its problems, at most."""

shape_names = st.sampled_from(SHAPES)
seeds = st.integers(0, 2**32)


def stored_bytes(database: Database) -> int:
    """Return the length of everything that the refusals hold."""
    statement = text(
        "SELECT coalesce(sum(length(CAST(record AS TEXT)) + length(message)"
        " + coalesce(length(CAST(cells AS TEXT)), 0)), 0) FROM batch_refusals"
    )
    with database.reading() as connection:
        return int(connection.execute(statement).scalar_one())


def peak_of(work: Callable[[], Any]) -> int:
    """Return the bytes that work needs at its peak, beside those in use before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def chunk_of(*records: Any, form: str = "records", **fields: Any) -> str:
    requests: dict[str, Any] = {"records": records}
    if form == "columns":
        columns = {"student_ids": "student_id", "course_ids": "course_ids"}
        requests = {
            "requests": {
                name: [record.get(field) for record in records] for name, field in columns.items()
            }
        }
    return json.dumps({"batch_id": "b", "number": 0, "last": True, **requests, **fields})


@pytest.mark.parametrize("form", ["records", "columns"])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shape=shape_names, seed=seeds, size=st.integers(10_000, 120_000))
def test_a_large_request_is_stored_once_and_harms_no_other(
    database: Database, form: str, shape: str, seed: int, size: int
) -> None:
    clear_batches(database)
    large = large_request(shape, size, seed)
    payload = chunk_of(GOOD[0], large, GOOD[1], form=form)
    assert apply_chunk(database, Kind.ENROLLMENTS, payload).outcome is ChunkOutcome.APPLIED
    # As columns, its unknown fields are left out; then it may be a good request.
    assert books(database)["enrolled"] >= 3
    assert count_rows(database, BatchRefusal) <= MAX_PROBLEMS + 100
    assert stored_bytes(database) <= 2 * len(payload) + 100 * PER_LINE
    assert count_rows(database, DeadLetter) == 0


@pytest.mark.parametrize("kind", [Kind.STUDENTS, Kind.COURSES])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shape=shape_names, seed=seeds, size=st.integers(10_000, 120_000))
def test_a_large_roster_record_is_stored_once_and_harms_no_other(
    database: Database, kind: Kind, shape: str, seed: int, size: int
) -> None:
    clear_batches(database)
    large = as_roster_record(large_request(shape, size, seed))
    payload = chunk_of({"sis_id": f"new {seed}"}, large)
    applied = apply_chunk(database, kind, payload)
    assert applied.counts["rejected"] >= 1
    assert applied.counts["upserted"] + applied.counts["unchanged"] == 1
    refusals = count_rows(database, BatchRefusal)
    assert 1 <= refusals <= MAX_PROBLEMS
    assert stored_bytes(database) <= 2 * len(payload) + refusals * PER_LINE


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shape=shape_names, seed=seeds, size=st.integers(10_000, 120_000))
def test_a_large_single_request_is_refused_with_ten_problems(
    database: Database, shape: str, seed: int, size: int
) -> None:
    clear_batches(database)
    large = large_request(shape, size, seed)
    incoming = read_request("single", [large], {})
    (decision,) = add_enrollments(database, [incoming]).decided
    assert 1 <= len(decision.result.errors) <= 100
    if incoming.request is None:
        assert len(decision.result.errors) <= MAX_PROBLEMS
    (status,) = request_statuses(database, ["single"], {})
    around = status.model_copy(update={"result": None}).model_dump_json()
    assert len(status.model_dump_json()) <= 100 * PER_PROBLEM + len(around) + RESULT_FIELDS
    # Sent again, it is the same request.
    (again,) = add_enrollments(database, [read_request("single", [large], {})]).decided
    assert again.is_repeat


def test_the_last_problem_says_how_many_more_there_are(database: Database) -> None:
    large = large_request("unknown fields", 56_000, seed=1)
    apply_chunk(database, Kind.ENROLLMENTS, chunk_of(large))
    refusals = refused_records(database, "b", (0, 0), 100)
    assert len(refusals) == MAX_PROBLEMS
    unknown = len(large) - 3
    assert refusals[-1].message.endswith(f"; and {unknown - MAX_PROBLEMS} more problems")
    assert [refusal.record for refusal in refusals] == [large] + [None] * (MAX_PROBLEMS - 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_memory_grows_with_the_size_and_not_with_its_square(database: Database, shape: str) -> None:
    def apply(size: int) -> int:
        clear_batches(database)
        payload = chunk_of(large_request(shape, size, 4711))
        return peak_of(lambda: apply_chunk(database, Kind.ENROLLMENTS, payload))

    apply(1_000)  # Statements are built once.
    small, large = apply(100_000), apply(800_000)
    assert large < 12 * small + 2_000_000, f"{small:,} bytes for 100 kB, {large:,} for 800 kB"


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.integers(2, 400), shared=st.integers(0, 30_000), fields=st.integers(0, 30))
def test_a_request_of_many_lines_does_not_repeat_long_texts_in_each(
    database: Database, lines: int, shared: int, fields: int
) -> None:
    """Every line is refused, but what they share is stored once if it is long."""
    clear_batches(database)
    unknown = {f"x{n}": "y" * (shared // max(1, fields)) for n in range(fields)}
    request = {"student_id": "z" * shared or "Z", "course_ids": [f"M{n}" for n in range(lines)]}
    payload = chunk_of(request | unknown, lines=list(range(1, lines + 1)))
    assert apply_chunk(database, Kind.ENROLLMENTS, payload).outcome is ChunkOutcome.APPLIED
    refusals = refused_records(database, "b", (0, 0), 1000)
    assert {refusal.line for refusal in refusals} == set(range(1, lines + 1))
    named = [r.record["course_ids"] for r in refusals if r.record is not None]
    assert named == [[f"M{n}"] for n in range(lines)]
    assert stored_bytes(database) <= 2 * len(payload) + lines * 2_500


texts = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | texts,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(texts, values, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", Kind)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(wrong=json_values)
@example(wrong="\ud800")
@example(wrong={"\udfff": ["a\ud83d", "\ud83d\ude00"]})
def test_a_refused_record_with_any_text_can_be_read(
    database: Database, kind: Kind, wrong: Any
) -> None:
    clear_batches(database)
    apply_chunk(database, kind, {"batch_id": "b", "number": 0, "records": [{"no": wrong}, {}]})
    answer = json.dumps(to_json(refused_records(database, "b", (0, 0), 100)), ensure_ascii=False)
    first = json.loads(answer.encode())[0]["record"]
    assert first == json.loads(
        json.dumps({"no": wrong}, ensure_ascii=False)
        .encode("utf-16", "surrogatepass")
        .decode("utf-16", "replace")
    )


@pytest.mark.parametrize("kind", Kind)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(st.integers(1, 3), min_size=2, max_size=60), size=st.integers(0, 30_000))
def test_the_cells_of_a_line_that_many_records_name_are_stored_once(
    database: Database, kind: Kind, lines: list[int], size: int
) -> None:
    clear_batches(database)
    cells = [[f"{line}" * size] for line in lines]
    payload = chunk_of(*[{}] * len(lines), lines=lines, cells=cells)
    assert apply_chunk(database, kind, payload).outcome is ChunkOutcome.APPLIED
    refusals = refused_records(database, "b", (0, 0), 1000)
    given_cells = [(refusal.line, refusal.cells) for refusal in refusals if refusal.cells]
    assert given_cells == [(line, (f"{line}" * size,)) for line in sorted(set(lines))]
    assert stored_bytes(database) <= 3 * size + len(refusals) * PER_LINE


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shape=shape_names, seed=seeds)
def test_a_large_line_of_json_lines_harms_no_other(
    database: Database, shape: str, seed: int
) -> None:
    clear_batches(database)
    large = large_request(shape, 60_000, seed)
    text_of_file = "\n".join(json.dumps(record) for record in (GOOD[0], large, GOOD[1]))
    layout = json_lines_layout("f", Kind.ENROLLMENTS, {}, "", Notices())
    lines = layout.read(io.BytesIO(text_of_file.encode()))
    for part in split_into_chunks("b", lines, kind=Kind.ENROLLMENTS):
        apply_chunk(database, Kind.ENROLLMENTS, part.text)
    assert books(database)["enrolled"] >= 3
    assert stored_bytes(database) <= 2 * len(text_of_file) + 100 * PER_LINE
