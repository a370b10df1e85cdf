"""The smallest and largest integers that the contract allows, in every field, on both databases."""

import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from typing import Any

import click.testing
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from producer.contract.chunks import Chunk, Tally
from producer.contract.lookups import ResultCursor
from producer.contract.marks import AgedMark, SubmissionMark
from producer.contract.plans import PlanState
from producer.fields import MAX_KEY
from producer.schemas import Kind
from support.chunks import chunk, pairs
from support.databases import clear_batches, url_of
from support.staging import advance, chunks_of, request, stage
from worker.batches.apply import ChunkOutcome, apply_chunk
from worker.batches.places.repository import newest_batches
from worker.batches.repository import sum_chunks
from worker.batches.status import applied_chunks, batch_statuses
from worker.commands.batches import batches
from worker.database.engine import Database
from worker.enrollment.incoming import read_request
from worker.enrollment.lookups import student_results, students
from worker.plans.staging import StagingConflict
from worker.refused_lines.lookups import refused_records
from worker.retention.prune import find_limit
from worker.retention.repository import find_running
from worker.service import add_enrollments

LARGEST = 2**53
NUMBERS = (0, 1, MAX_KEY - 1, MAX_KEY)
COUNTS = (0, 1, LARGEST - 1, LARGEST)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def everything_that_is_shown(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Read the batch `b` in every way in which a worker or an operator can."""
    (status,) = batch_statuses(database, ["b"], {}, refusals=True)
    refusals = refused_records(database, "b", (0, 0), 1000)
    with database.reading() as connection:
        for incomplete_only in (True, False):
            newest_batches(connection, 10, 0, incomplete_only=incomplete_only)
        assert [row.id for row in sum_chunks(connection, ["b"])] == ["b"]
        running = find_running(connection, LATER)
    assert (running is None) == (status.state == "done")
    assert find_limit(database, LATER).moment == LATER  # Nothing has arrived since then.
    monkeypatch.setenv("ENROLL_DATABASE_URL", url_of(database))
    listed = click.testing.CliRunner().invoke(batches, ["--json"])
    assert listed.exit_code == 0, listed.output
    assert json.loads(listed.stdout)["batch"] == "b"
    return [status, refusals]


@pytest.mark.parametrize(("number", "last"), list(product(NUMBERS, (True, False))))
def test_a_chunk_may_have_any_number(
    database: Database, monkeypatch: pytest.MonkeyPatch, number: int, last: bool
) -> None:
    payload = chunk(pairs("A", "M1"), pairs("A", "X"), number=number, last=last)
    outcome = apply_chunk(database, Kind.ENROLLMENTS, payload.model_dump_json()).outcome
    assert outcome is ChunkOutcome.APPLIED
    status, refusals = everything_that_is_shown(database, monkeypatch)
    assert (status.chunks, status.chunks_applied) == (number + 1 if last else None, 1)
    assert status.chunks_missing == number
    assert status.state == ("done" if last and number == 0 else "running")
    assert len(refusals) == 1
    applied = applied_chunks(database, "b", [0, number, MAX_KEY, MAX_KEY + 1, 2**63 - 1])
    assert [fingerprint is not None for fingerprint in applied.fingerprints] == [
        number == 0, True, number == MAX_KEY, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "last"), list(product(NUMBERS, (True, False))))
def test_a_chunk_of_a_plan_may_have_any_number_but_one(
    database: Database, monkeypatch: pytest.MonkeyPatch, number: int, last: bool
) -> None:
    (payload,) = chunks_of(request(hold="always"), [pairs("A", "M1"), pairs("A", "X")])
    payload = payload.model_copy(update={"number": number, "last": last})
    if last and number == MAX_KEY:  # The batch would have more chunks than the database can count.
        with pytest.raises(StagingConflict, match="number the chunks from 0 on"):
            stage(database, payload)
        return
    assert stage(database, payload).is_complete == (last and number == 0)
    monkeypatch.setenv("ENROLL_DATABASE_URL", url_of(database))
    listed = click.testing.CliRunner().invoke(batches, ["--json"])
    assert json.loads(listed.stdout)["batch"] == "b"
    (status,) = batch_statuses(database, ["b"], {}, refusals=False)
    assert (status.chunks, status.chunks_applied) == (number + 1 if last else None, 0)
    assert find_limit(database, LATER).held_back_by == "b"
    expected = PlanState.HELD if last and number == 0 else PlanState.STAGED
    assert advance(database).state is expected


@pytest.mark.parametrize(("requests", "rows", "line"), list(product(COUNTS, COUNTS, COUNTS)))
def test_a_chunk_may_have_any_counts_and_lines(
    database: Database, monkeypatch: pytest.MonkeyPatch, requests: int, rows: int, line: int
) -> None:
    payload = {
        "batch_id": "b",
        "number": 0,
        "before": {"requests": requests, "rows": rows},
        "records": [pairs("A", "M1"), pairs("A", "X")],
        "lines": [line, line],
        "refused": [{"line": max(1, line), "message": "no"}],
    }
    assert apply_chunk(database, Kind.ENROLLMENTS, payload).outcome is ChunkOutcome.APPLIED
    status, refusals = everything_that_is_shown(database, monkeypatch)
    assert (status.books.received, status.requests) == (rows + 3, requests + 3)
    assert [refusal.line for refusal in refusals] == [line, max(1, line)]
    assert refused_records(database, "b", (LARGEST, 2**63 - 1), 1) == []
    assert refused_records(database, "b", (2**63 - 1, 2**63 - 1), 1) == []


def test_without_lines_the_position_in_the_batch_may_be_large(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = chunk(pairs("A", "X"), before=Tally(requests=LARGEST, rows=LARGEST))
    apply_chunk(database, Kind.ENROLLMENTS, payload.model_dump_json())
    _, (refusal,) = everything_that_is_shown(database, monkeypatch)
    assert refusal.line == LARGEST + 1


@pytest.mark.parametrize(
    "fields",
    [
        {"number": -1},
        {"number": MAX_KEY + 1},
        {"before": {"requests": LARGEST + 1}},
        {"before": {"rows": -1}},
        {"records": [1], "lines": [LARGEST + 1]},
        {"records": [1], "lines": [-1]},
        {"refused": [{"line": LARGEST + 1, "message": "x"}]},
        {"refused": [{"line": 0, "message": "x"}]},
        {"refused": [{"line": 10**400, "message": "x"}]},
    ],
    ids=str,
)
def test_a_chunk_with_an_integer_beyond_the_limits_is_refused_by_the_contract(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        Chunk.model_validate({"batch_id": "b", "number": 0} | fields)


@pytest.mark.parametrize("key", [1, MAX_KEY])
def test_a_key_may_be_the_smallest_and_the_largest(database: Database, key: int) -> None:
    request = {"student_id": key, "course_ids": [key, 2]}
    (decision,) = add_enrollments(database, [read_request("r", [request], {})]).decided
    assert decision.result.status == ("enrolled" if key == 1 else "rejected")
    ((result,),) = student_results(database, [key], 10)
    assert result.student_id == key
    assert [found is not None for found in students(database, [key])] == [key == 1]


zones = st.integers(-14 * 60, 14 * 60).map(lambda n: timezone(timedelta(minutes=n)))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.datetimes(timezones=zones), st.text(max_size=152))
@example(datetime.min.replace(tzinfo=UTC), "")
@example(datetime.max.replace(tzinfo=UTC), "x" * 152)
def test_a_page_of_results_may_begin_at_any_moment(
    database: Database, moment: datetime, request_id: str
) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(ResultCursor)
    try:
        cursor = adapter.validate_python([moment.isoformat(), request_id])
    except ValidationError:
        # Only these cannot be understood.
        assert "\0" in request_id or moment.year in (1, 9999)
        return
    assert student_results(database, ["A"], 10, cursor) == [[]]


@pytest.mark.parametrize(
    "text_of_moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
)
def test_a_moment_outside_of_the_calendar_is_refused(text_of_moment: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(ResultCursor)
    with pytest.raises(ValidationError, match="years 1 to 9999"):
        adapter.validate_python([text_of_moment, "r"])


marks = st.builds(
    SubmissionMark,
    kind=st.sampled_from([None, *Kind]),
    tally=st.builds(
        Tally,
        requests=st.sampled_from(COUNTS) | st.integers(0, LARGEST),
        rows=st.integers(0, LARGEST),
    ),
    chunks=st.sampled_from([*NUMBERS, MAX_KEY + 1]) | st.integers(0, 5),
    complete=st.booleans(),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mark=marks, seconds_ago=st.floats(0, 10**6), last=st.sampled_from([0, 1, 2]))
def test_no_mark_changes_a_finished_batch(
    database: Database, mark: SubmissionMark, seconds_ago: float, last: int
) -> None:
    """A batch is finished once its ledger adds up to its last chunk, in whatever order it came."""
    clear_batches(database)
    forged = {"b": AgedMark(mark, seconds_ago)}
    for number in range(last + 1):
        assert batch_statuses(database, ["b"], {}, refusals=True)[0].state != "done"
        part = chunk(
            pairs("A", f"X{number}"),
            number=number,
            last=number == last,
            before=Tally(requests=number, rows=number),
        )
        apply_chunk(database, Kind.ENROLLMENTS, part.model_dump_json())
    (truth,) = batch_statuses(database, ["b"], {}, refusals=True)
    assert truth.state == "done"
    assert batch_statuses(database, ["b"], forged, refusals=True) == [truth]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mark=marks, seconds_ago=st.floats(0, 10**6))
def test_a_mark_never_changes_what_the_ledger_says_was_applied(
    database: Database, mark: SubmissionMark, seconds_ago: float
) -> None:
    payload = chunk(pairs("A", "M1"), pairs("A", "X"), number=1, last=False)
    apply_chunk(database, Kind.ENROLLMENTS, payload.model_dump_json())
    (status,) = batch_statuses(database, ["b"], {"b": AgedMark(mark, seconds_ago)}, refusals=True)
    books = status.books
    assert (books.enrolled + books.already_enrolled, books.rejected) == (1, 1)
    assert (status.chunks_applied, status.requests_applied) == (1, 2)
    assert books.received == books.not_applied + 2
    assert len(status.refusals) == 1
