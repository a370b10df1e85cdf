"""Drops in batches: operation lists, swaps, resumed batches and dead letters. Both databases."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import select

from producer.contract.chunks import CheckedColumns, EnrollmentChunk
from producer.contract.headers import BatchOrigin
from producer.contract.routing import TaskName
from producer.schemas import Kind
from support.chunks import chunk
from support.databases import dead_letters
from worker.batches.apply import Applied, apply_chunk
from worker.database.engine import Database
from worker.dead_letters.letters import keep
from worker.enrollment import shortcuts
from worker.history.lookups import student_history
from worker.models import LetterReason, StudentCourse
from worker.recovery.isolate import call_letter
from worker.recovery.retry import retry_letter
from worker.refused_lines.lookups import refused_records

MONDAY = datetime(2026, 8, 31, 8, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1)


def enroll(student: str, *courses: str, **fields: Any) -> dict[str, Any]:
    return {"student_id": student, "course_ids": list(courses), **fields}


def drop(student: str, *courses: str, **fields: Any) -> dict[str, Any]:
    return {"student_id": student, "drop_course_ids": list(courses), **fields}


def deliver(database: Database, *records: Any, moment: datetime = MONDAY, **fields: Any) -> Applied:
    payload = chunk(*records, **fields).model_dump(mode="json", exclude_defaults=True)
    origin = BatchOrigin(moment=moment)
    return apply_chunk(
        database,
        Kind.ENROLLMENTS,
        payload,
        origin=origin,
        clock=lambda: TUESDAY + timedelta(days=9),
    )


def rows(database: Database) -> set[tuple[int, int]]:
    with database.reading() as connection:
        found = connection.execute(select(StudentCourse.student_id, StudentCourse.course_id))
        return {(student, course) for student, course in found}


def counts_of(applied: Applied) -> dict[str, int]:
    return {name: count for name, count in applied.counts.items() if count}


def test_the_last_line_of_an_operation_list_wins(database: Database) -> None:
    added, dropped = enroll("A", "M1"), drop("A", "M1")
    applied = deliver(database, added, dropped, added, ordered=True)
    assert counts_of(applied) == {"enrolled": 2, "dropped": 1}
    assert rows(database) == {(1, 1)}
    applied = deliver(database, dropped, added, dropped, ordered=True, batch_id="c", moment=TUESDAY)
    assert counts_of(applied) == {"enrolled": 1, "dropped": 2}
    assert rows(database) == set()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_last_line_wins_across_chunks_in_any_order(
    database: Database, order: tuple[int, ...]
) -> None:
    records = [enroll("A", "M1"), drop("A", "M1"), enroll("A", "M1")]
    for number in (*order, *order):
        deliver(database, records[number], number=number, last=number == 2, ordered=True)
    assert rows(database) == {(1, 1)}


@pytest.mark.parametrize("in_one_chunk", [True, False])
@pytest.mark.parametrize("drop_first", [True, False])
def test_at_one_moment_enrolled_wins(
    database: Database, in_one_chunk: bool, drop_first: bool
) -> None:
    records = [drop("A", "M1"), enroll("A", "M1")]
    if not drop_first:
        records.reverse()
    if in_one_chunk:
        deliver(database, *records)
    else:
        for number, record in enumerate(records):
            deliver(database, record, number=number, last=number == 1)
    assert rows(database) == {(1, 1)}


@pytest.mark.parametrize("is_large", [False, True])
def test_a_pair_that_two_chunks_drop_is_dropped_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    """All chunks of a batch count at one moment, and so may two batches."""
    if is_large:  # On PostgreSQL, large chunks drop with a statement of their own.
        monkeypatch.setattr(shortcuts, "COPY_ROWS", 1)
    deliver(database, enroll("A", "M1"), batch_id="before", moment=MONDAY - timedelta(days=1))
    columns = CheckedColumns(student_ids=("A", "B"), drop_course_ids=(("M1",), ("M1",)))
    found = []
    for batch_id, number in (("b", 0), ("b", 1), ("c", 0)):
        fields = {"batch_id": batch_id, "number": number, "last": number == 1}
        payload = EnrollmentChunk(requests=columns, **fields).model_dump_json(exclude_unset=True)
        origin = BatchOrigin(moment=MONDAY)
        found.append(counts_of(apply_chunk(database, Kind.ENROLLMENTS, payload, origin=origin)))
    assert found == [{"dropped": 1, "not_enrolled": 1}, *[{"not_enrolled": 2}] * 2]
    entries = student_history(database, "A").entries
    assert [(e.change, e.request_id) for e in entries][:1] == [("dropped", "b:0:0")]


def test_mondays_batch_that_is_resumed_after_tuesdays_drop_brings_nobody_back(
    database: Database,
) -> None:
    deliver(database, enroll("A", "M1"), number=0, last=False, batch_id="monday")
    deliver(database, drop("A", "M1", "M2"), batch_id="tuesday", moment=TUESDAY)
    records = enroll("A", "M2"), enroll("B", "M1")
    applied = deliver(database, *records, number=1, last=True, batch_id="monday")
    assert counts_of(applied) == {"superseded": 1, "enrolled": 1}
    assert rows(database) == {(2, 1)}


def test_a_dead_letter_of_an_old_enrollment_does_not_undo_a_later_drop(database: Database) -> None:
    body = [{**enroll("A", "M1"), "request_id": "old"}]
    origin = BatchOrigin(moment=MONDAY)
    why = (LetterReason.NOT_PROCESSED, "it failed", origin)
    keep(database, call_letter(TaskName.ENROLL, "old", body, {}, *why))
    deliver(database, drop("A", "M1"), moment=TUESDAY)
    (letter,) = dead_letters(database)
    assert retry_letter(database, letter.id) == "superseded"
    assert rows(database) == set()


def test_half_of_a_swap_that_is_impossible_refuses_all_of_it(database: Database) -> None:
    deliver(database, enroll("A", "M1"))
    swap = {**enroll("A", "nothing"), **drop("A", "M1")}
    applied = deliver(database, swap, {**swap, "atomic": False, "student_id": "B"}, batch_id="c")
    assert counts_of(applied) == {"rejected": 3, "not_enrolled": 1, "requests_rejected": 1}
    assert rows(database) == {(1, 1)}


def test_half_of_a_swap_that_is_superseded_counts_as_done(database: Database) -> None:
    deliver(database, enroll("A", "M1"), batch_id="later", moment=TUESDAY)
    swap = {**enroll("A", "M2"), **drop("A", "M1")}
    applied = deliver(database, swap)
    assert counts_of(applied) == {"enrolled": 1, "superseded": 1}
    assert rows(database) == {(1, 1), (1, 2)}
    entries = student_history(database, "A").entries
    assert [entry.change.value for entry in entries] == ["enrolled", "enrolled", "superseded"]
    assert entries[2].superseded_by == TUESDAY


def test_a_refused_drop_is_shown_with_its_line_and_as_a_drop(database: Database) -> None:
    record = drop("A", "M1", "nothing", "M2", atomic=False, reason="moved away")
    deliver(database, record, lines=(4, 6, 9))
    (refusal,) = refused_records(database, "b", (0, 0), 10)
    assert (refusal.line, refusal.code) == (6, "unknown_course")
    assert refusal.record["drop_course_ids"] == ["nothing"]
    assert not refusal.record.get("course_ids")
    assert refusal.record["reason"] == "moved away"
    deliver(database, enroll("A", "M1", "M2"), batch_id="again", moment=TUESDAY)
    deliver(database, record, batch_id="c", lines=(4, 6, 9), moment=TUESDAY + timedelta(1))
    entries = student_history(database, "A").entries
    dropped = [entry for entry in entries if entry.change == "dropped"]
    assert {(entry.course and entry.course.sis_id, entry.line) for entry in dropped} == {
        ("M1", 4),
        ("M2", 9),
    }
    assert {entry.reason for entry in dropped} == {"moved away"}
