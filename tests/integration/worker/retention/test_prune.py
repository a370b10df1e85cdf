"""Exactly the older rows are removed, page by page. On both databases."""

import itertools
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from producer.contract.headers import BatchOrigin
from producer.fields import show_moment
from producer.schemas import Code, Kind
from support.chunks import chunk as chunk_of
from support.chunks import pairs
from support.databases import count_rows, store_roster
from worker.batches.apply import apply_chunk
from worker.batches.repository import add_chunk, open_batch
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter
from worker.enrollment.incoming import read_request
from worker.models import (
    Base,
    Batch,
    BatchChunk,
    BatchRefusal,
    DeadLetter,
    EnrollmentResult,
    LetterForm,
    LetterReason,
    PastEnrollment,
    StudentCourse,
)
from worker.moments import own_clock
from worker.plan_models import PlanRow
from worker.repository import enroll_student_in_courses
from worker.retention.prune import KINDS, Limit, find_limit, prune
from worker.service import add_enrollments
from worker.undo.run import undo

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
NOTHING = dict.fromkeys(KINDS, 0)


def days(count: float) -> datetime:
    return NOW - timedelta(days=count)


def result(request_id: str, age: float) -> dict[str, Any]:
    kept = {"status": "rejected", "enrolled": [], "already": [], "errors": [], "fingerprint": 1}
    return {"request_id": request_id, "completed_at": days(age), **kept}


def chunk(batch_id: str, number: int, age: float) -> dict[str, Any]:
    counts = ("requests_through", "rows_through", "requests", "requests_rejected", "rows")
    more = ("enrolled", "already_enrolled", "upserted", "unchanged", "rejected", "fingerprint")
    place = {"batch_id": batch_id, "number": number, "last": False, "applied_at": days(age)}
    return {**dict.fromkeys((*counts, *more), 0), **place}


def refusal(batch_id: str, line: int) -> dict[str, Any]:
    return {"batch_id": batch_id, "line": line, "code": "x", "message": "m", "record": {}}


def letter(content: bytes, age: float) -> dict[str, Any]:
    made = dead_letter(LetterForm.MESSAGE, content, LetterReason.MALFORMED, "because")
    return {**made, "first_at": days(age + 1000), "last_at": days(age)}


def add(database: Database, model: type[Base], rows: list[dict[str, Any]]) -> None:
    with database.writing() as connection:
        connection.execute(insert(model), rows)


def add_batch(database: Database, batch_id: str, ages: list[float], refusals: int = 0) -> None:
    add(database, Batch, [{"id": batch_id, "kind": "enrollments", "columns": None}])
    add(database, BatchChunk, [chunk(batch_id, n, age) for n, age in enumerate(ages)])
    if refusals:
        lines = [refusal(batch_id, n // 2) for n in range(refusals)]
        add(database, BatchRefusal, lines)


def ids(database: Database, of: Any) -> list[Any]:
    with database.reading() as connection:
        return list(connection.scalars(select(of).order_by(of)))


def counts(database: Database) -> dict[str, int]:
    tables = (
        EnrollmentResult,
        PastEnrollment,
        Batch,
        BatchChunk,
        BatchRefusal,
        DeadLetter,
        PlanRow,
    )
    found = [count_rows(database, table) for table in tables]
    return dict(zip(NOTHING, found, strict=True))


def test_exactly_the_older_rows_are_removed_for_any_page_size(database: Database) -> None:
    ages = [(n * 37) % 101 for n in range(101)]  # Each age once, shuffled.
    for page in (1, 7, 1000):
        add(
            database, EnrollmentResult, [result(f"r-{page}-{n}", age) for n, age in enumerate(ages)]
        )
        add(database, DeadLetter, [letter(b"%d-%d" % (page, n), n) for n in ages])
        kept = {f"r-{page}-{n}" for n, age in enumerate(ages) if age <= 60}
        expected = {**NOTHING, "results": 40, "dead_letters": 40}
        before = days(60)
        assert prune(database, before, dry_run=True, page=page) == expected
        assert len(ids(database, EnrollmentResult.request_id)) >= 101  # Counted, not removed.
        assert prune(database, before, page=page) == expected
        assert prune(database, before, page=page) == NOTHING
        assert kept <= set(ids(database, EnrollmentResult.request_id))
    assert counts(database) == {**NOTHING, "results": 3 * 61, "dead_letters": 3 * 61}


def test_a_whole_batch_is_removed_if_its_newest_chunk_is_older(database: Database) -> None:
    add_batch(database, "all old", [500, 450, 401], refusals=25)
    add_batch(database, "old and refused nothing", [401])
    add_batch(database, "gone on with", [500, 450, 399], refusals=9)
    add_batch(database, "young", [1], refusals=3)
    for n in range(12):
        add_batch(database, f"one of many {n}", [402] * 3, refusals=n % 3)
    expected = {**NOTHING, "batches": 14, "batch_chunks": 40, "batch_refusals": 25 + 12}
    before = counts(database)
    assert prune(database, days(400), dry_run=True, page=10) == expected
    assert counts(database) == before
    assert prune(database, days(400), page=10) == expected
    assert ids(database, Batch.id) == ["gone on with", "young"]
    after = counts(database)
    assert {kind: before[kind] - after[kind] for kind in NOTHING} == expected


@pytest.mark.parametrize("refusals", [0, 30])
def test_a_batch_that_is_continued_meanwhile_stays_known(database: Database, refusals: int) -> None:
    add_batch(database, "b", [500], refusals=refusals)
    removed: list[dict[str, int]] = []
    pruning = threading.Thread(target=lambda: removed.append(prune(database, days(400), page=10)))
    with database.writing() as connection:
        # This is what a worker does with one more chunk of the batch.
        open_batch(connection, "b", "enrollments", None, None, BatchOrigin(moment=NOW))
        add_chunk(connection, **chunk("b", 1, 0))
        pruning.start()
        time.sleep(0.5)
    pruning.join(60)
    assert removed == [NOTHING]
    assert counts(database) == {**NOTHING, "batches": 1, "batch_chunks": 2} | {
        "batch_refusals": refusals
    }


def test_enrollments_and_rosters_are_never_removed(database: Database) -> None:
    store_roster(database, ["S"], ["C"])
    with database.writing() as connection:
        enroll_student_in_courses(connection, 1, [1], days(5000))
    prune(database, NOW)
    assert ids(database, StudentCourse.student_id) == [1]


def test_a_repeated_id_is_a_new_request_after_its_result_was_removed(database: Database) -> None:
    first = {"student_id": "S", "course_ids": ["C"], "request_id": "mine"}
    other = {**first, "course_ids": ["D"]}

    def decide(record: dict[str, Any]) -> list[str]:
        (decision,) = add_enrollments(database, [read_request("task", [record], {})]).decided
        return [error.code for error in decision.result.errors]

    assert decide(first) == ["unknown_student"]
    assert decide(other) == ["request_id_reused"]
    assert prune(database, datetime.now(UTC))["results"] == 1
    assert decide(other) == ["unknown_student"]


# --- The limit --------------------------------------------------------------------------------


def asked(name: str, age: float, **fields: Any) -> Any:
    record = {"student_id": "A", "request_id": name, **fields}
    return read_request(name, [record], {}, days(age))


def decide(database: Database, *requests: Any) -> list[str]:
    decided = add_enrollments(database, requests, clock=lambda: NOW).decided
    return [decision.result.status.value for decision in decided]


def test_past_enrollments_are_removed_and_older_requests_are_refused(database: Database) -> None:
    store_roster(database, ["A"], ["M1", "M2"])
    decide(
        database, asked("old", 40, course_ids=["M1"]), asked("dropped", 35, drop_course_ids=["M1"])
    )
    decide(database, asked("absent", 20, drop_course_ids=["M2"]))
    assert decide(database, asked("late", 36, course_ids=["M1"])) == ["superseded"]
    counted = prune(database, days(30), dry_run=True)
    assert counted["past_enrollments"] == 1
    assert prune(database, days(30))["past_enrollments"] == 1
    assert count_rows(database, PastEnrollment) == 1
    assert decide(database, asked("too-late", 36, course_ids=["M1"])) == ["rejected"]
    assert decide(database, asked("in-time", 30, course_ids=["M1"])) == ["enrolled"]
    assert decide(database, asked("superseded", 29, course_ids=["M2"])) == ["superseded"]


def test_the_refusal_of_a_request_before_the_limit_names_both_times(database: Database) -> None:
    store_roster(database, ["A"], ["M1"])
    prune(database, days(30))
    as_of = days(31).isoformat()
    own, sent = (
        asked("own", 1, course_ids=["M1"], as_of=as_of),
        asked("sent", 31, course_ids=["M1"]),
    )
    decided = add_enrollments(database, [own, sent], clock=lambda: NOW).decided
    problems = [error for decision in decided for error in decision.result.errors]
    assert [(problem.code, problem.field) for problem in problems] == [
        (Code.INVALID_REQUEST, "as_of"),
        (Code.INVALID_REQUEST, None),
    ]
    for problem in problems:
        assert show_moment(days(31)) in problem.message
        assert show_moment(days(30)) in problem.message


def test_the_limit_never_goes_back(database: Database) -> None:
    store_roster(database, ["A"], ["M1"])
    prune(database, days(30))
    prune(database, days(60))
    assert decide(database, asked("between", 40, course_ids=["M1"])) == ["rejected"]


def test_a_chunk_before_the_limit_is_refused_line_by_line(database: Database) -> None:
    store_roster(database, ["A", "B"], ["M1"])
    prune(database, days(30))
    origin = BatchOrigin(moment=days(40))
    payload = chunk_of(pairs("A", "M1"), pairs("B", "M1")).model_dump(mode="json")
    counts = apply_chunk(database, Kind.ENROLLMENTS, payload, origin=origin).counts
    assert (counts["rejected"], counts["enrolled"]) == (2, 0)


def test_a_batch_that_is_not_done_holds_the_limit_back(database: Database) -> None:
    store_roster(database, ["A"], ["M1"])
    decide(
        database, asked("old", 60, course_ids=["M1"]), asked("dropped", 45, drop_course_ids=["M1"])
    )
    with database.writing() as connection:
        open_batch(connection, "slow", "enrollments", None, None, BatchOrigin(moment=days(50)))
        add_chunk(connection, **chunk("slow", 0, 49))
        add_chunk(connection, **chunk("slow", 1, 10))
    assert find_limit(database, days(30)) == Limit(days(50), "slow")
    assert prune(database, days(30))["past_enrollments"] == 0
    assert decide(database, asked("its line", 50, course_ids=["M1"])) == ["superseded"]
    with database.writing() as connection:
        add_chunk(connection, **{**chunk("slow", 2, 9), "last": True})
    assert find_limit(database, days(30)) == Limit(days(30))


def test_a_batch_that_was_undone_holds_nothing_back(database: Database) -> None:
    """What is missing of it would be refused. If its undo was interrupted, that is named."""
    with database.writing() as connection:
        open_batch(connection, "slow", "enrollments", None, None, BatchOrigin(moment=days(50)))
        add_chunk(connection, **chunk("slow", 0, 10))
    calls = itertools.count()

    def interrupt() -> None:
        if next(calls):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        undo(database, "slow", on_chunk=interrupt, clock=own_clock)
    assert find_limit(database, days(30)) == Limit(days(50), "slow")
    undo(database, "slow", clock=own_clock)
    assert find_limit(database, days(30)) == Limit(days(30))


def test_a_batch_for_which_nothing_arrives_holds_nothing_back(database: Database) -> None:
    with database.writing() as connection:
        open_batch(connection, "gone", "enrollments", None, None, BatchOrigin(moment=days(50)))
        add_chunk(connection, **chunk("gone", 0, 49))
    assert find_limit(database, days(30)) == Limit(days(30))
    assert prune(database, days(30))["batches"] == 1
