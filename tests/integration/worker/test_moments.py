"""When requests count: by their own time, the header, their batch, or the clock. Both databases."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from producer.contract.headers import BatchOrigin
from producer.contract.routing import TaskName
from producer.schemas import Code, Kind
from support.chunks import chunk, pairs
from support.databases import dead_letters, store_roster
from support.derived import all_results
from worker import moments as moments_module
from worker.batches.apply import apply_chunk
from worker.database.engine import Database
from worker.dead_letters.letters import keep
from worker.enrollment.incoming import IncomingRequest, read_request
from worker.models import (
    Batch,
    BatchChunk,
    DeadLetter,
    LetterReason,
    StudentCourse,
)
from worker.recovery.isolate import call_letter, give_up_request
from worker.recovery.retry import retry_letter
from worker.service import add_enrollments

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
STEP = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    store_roster(database, "AB", ["M1", "M2", "M3"])


def noon() -> datetime:
    return NOON


def request(
    name: str, student: str, *courses: str, sent: datetime | None = None, **fields: Any
) -> IncomingRequest:
    record = {"student_id": student, "course_ids": list(courses), "request_id": name, **fields}
    return read_request(name, [record], {}, sent)


def moments(database: Database) -> dict[str, datetime | None]:
    return {row.request_id: row.moment for row in all_results(database)}


def rows(database: Database) -> dict[tuple[int, int], datetime]:
    with database.reading() as connection:
        found = connection.execute(select(*StudentCourse.__table__.columns)).all()
        return {(row.student_id, row.course_id): row.enrolled_at for row in found}


def test_requests_without_a_header_count_one_after_another_from_now(database: Database) -> None:
    requests = [request(f"r{n}", "A", "M1") for n in range(3)]
    add_enrollments(database, requests, clock=noon)
    assert moments(database) == {f"r{n}": NOON + n * STEP for n in range(3)}
    assert rows(database) == {(1, 1): NOON}


def test_a_header_counts_unless_it_lies_ahead_of_the_clock(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments_module, "_warned_at", float("-inf"))
    past = request("past", "A", "M1", sent=NOON - MINUTE)
    ahead = request("ahead", "A", "M2", sent=NOON + STEP)
    with caplog.at_level(logging.WARNING):
        add_enrollments(database, [past, ahead], clock=noon)
    assert moments(database) == {"past": NOON - MINUTE, "ahead": NOON + STEP}
    assert "lies ahead of the clock" in caplog.text
    hours = request("hours", "A", "M3", sent=NOON + 120 * MINUTE)
    add_enrollments(database, [hours], clock=noon)
    assert moments(database)["hours"] == NOON


@pytest.mark.parametrize(("ahead", "status"), [(0, "enrolled"), (1, "rejected")])
def test_a_request_may_count_at_most_five_minutes_ahead(
    database: Database, ahead: int, status: str
) -> None:
    as_of = (NOON + 5 * MINUTE + ahead * STEP).isoformat()
    sent = request("r", "A", "M1", sent=NOON, as_of=as_of)
    (decided,) = add_enrollments(database, [sent], clock=noon).decided
    assert decided.result.status == status
    if ahead:
        (error,) = decided.result.errors
        assert (error.code, error.field) == (Code.INVALID_REQUEST, "as_of")
        assert rows(database) == {}
    else:
        assert rows(database) == {(1, 1): NOON + 5 * MINUTE}


def test_the_earliest_of_the_requests_decided_together_opens_the_row(database: Database) -> None:
    later = request("later", "A", "M1", sent=NOON - MINUTE)
    earlier = request("earlier", "A", "M1", sent=NOON - 2 * MINUTE)
    decided = add_enrollments(database, [later, earlier], clock=noon).decided
    assert [decision.incoming.request_id for decision in decided] == ["later", "earlier"]
    assert [d.result.already_enrolled_ids for d in decided] == [[1], []]
    assert rows(database) == {(1, 1): NOON - 2 * MINUTE}


def test_the_time_of_a_request_is_part_of_what_it_asks_for(database: Database) -> None:
    as_of = (NOON - MINUTE).isoformat()
    add_enrollments(database, [request("r", "A", "M1", as_of=as_of)], clock=noon)
    same = request("r", "A", "M1", as_of="2026-09-01T13:59:00+02:00")
    (repeat,) = add_enrollments(database, [same], clock=noon).decided
    assert repeat.is_repeat
    (other,) = add_enrollments(database, [request("r", "A", "M1")], clock=noon).decided
    assert [error.code for error in other.result.errors] == [Code.REQUEST_ID_REUSED]


def test_requests_without_a_time_have_the_fingerprint_of_earlier_versions() -> None:
    assert request("r", "A", "M1").fingerprint() == -2988569680846954158


def test_all_chunks_of_a_batch_count_at_the_moment_of_the_first_applied(
    database: Database,
) -> None:
    parts = [
        chunk(pairs("A", "M1"), number=1, last=True),
        chunk(pairs("B", "M1"), number=0, last=False),
    ]
    for part, sent in zip(parts, [NOON - MINUTE, NOON - 2 * MINUTE], strict=True):
        origin = BatchOrigin(moment=sent)
        text = part.model_dump_json()
        apply_chunk(database, Kind.ENROLLMENTS, text, origin=origin, clock=noon)
    assert set(rows(database).values()) == {NOON - MINUTE}
    assert set(moments(database).values()) == {NOON - MINUTE}


def test_a_batch_whose_header_lies_ahead_counts_from_now(database: Database) -> None:
    origin = BatchOrigin(moment=NOON + MINUTE)
    text = chunk(pairs("A", "M1")).model_dump_json()
    apply_chunk(database, Kind.ENROLLMENTS, text, origin=origin, clock=noon)
    assert rows(database) == {(1, 1): NOON}


def test_records_of_an_ordered_chunk_count_one_after_another(database: Database) -> None:
    text = chunk(
        pairs("A", "M1"), pairs("B", "M1"), number=2, last=False, ordered=True
    ).model_dump_json()
    apply_chunk(database, Kind.ENROLLMENTS, text, origin=BatchOrigin(moment=NOON), clock=noon)
    assert sorted(rows(database).values()) == [NOON + 20_000 * STEP, NOON + 20_001 * STEP]


def test_one_request_of_a_batch_may_have_a_time_of_its_own(database: Database) -> None:
    as_of = NOON - 10 * MINUTE
    text = chunk(pairs("A", "M1", as_of=as_of.isoformat()), pairs("B", "M1")).model_dump_json()
    apply_chunk(database, Kind.ENROLLMENTS, text, origin=BatchOrigin(moment=NOON), clock=noon)
    assert rows(database) == {(1, 1): as_of, (2, 1): NOON}


def test_a_batch_that_an_older_version_opened_has_the_moment_of_its_first_chunk(
    database: Database,
) -> None:
    first = chunk(pairs("A", "M1"), number=0, last=False).model_dump_json()
    apply_chunk(database, Kind.ENROLLMENTS, first, clock=noon)
    with database.writing() as connection:
        connection.execute(update(Batch).values(moment=None))
        connection.execute(update(BatchChunk).values(applied_at=NOON - MINUTE))
    second = chunk(pairs("B", "M1"), number=1).model_dump_json()
    apply_chunk(database, Kind.ENROLLMENTS, second, origin=BatchOrigin(moment=NOON), clock=noon)
    assert rows(database)[2, 1] == NOON - MINUTE


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_results_are_completed_by_the_clock_of_the_database(database: Database) -> None:
    add_enrollments(database, [request("r", "A", "M1")], clock=noon)
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("B", "M1")).model_dump_json(), clock=noon)
    times = [row.completed_at for row in all_results(database)]
    with database.reading() as connection:
        times += connection.scalars(select(BatchChunk.applied_at))
    now = datetime.now(UTC)
    assert [abs(now - at) < MINUTE for at in times] == [True] * 3


def test_a_dead_letter_keeps_its_moment_and_counts_at_it_when_it_is_retried(
    database: Database,
) -> None:
    sent = request("r", "A", "M1", sent=NOON - MINUTE)
    give_up_request(database, sent, "it failed", clock=noon)
    (letter,) = dead_letters(database)
    assert letter.moment == NOON - MINUTE
    retry_letter(database, letter.id)
    assert rows(database) == {(1, 1): NOON - MINUTE}
    assert moments(database) == {"r": NOON - MINUTE}


def test_a_chunk_that_became_a_dead_letter_counts_at_its_latest_moment(database: Database) -> None:
    text = chunk({"sis_id": "A", "name": "from the letter"}).model_dump_json()
    for after in (1, 3, 2):
        letter = call_letter(
            TaskName.UPSERT_STUDENTS,
            "task",
            [text],
            {},
            LetterReason.NOT_PROCESSED,
            "it failed",
            BatchOrigin(moment=NOON + after * MINUTE),
        )
        keep(database, letter)
    (letter,) = dead_letters(database)
    assert (letter.deliveries, letter.moment) == (3, NOON + 3 * MINUTE)
    retry_letter(database, letter.id)
    with database.reading() as connection:
        assert connection.scalars(select(Batch.moment)).all() == [NOON + 3 * MINUTE]


def test_a_letter_of_an_older_version_counts_when_it_came_first(database: Database) -> None:
    give_up_request(database, request("r", "A", "M1"), "it failed", clock=noon)
    with database.writing() as connection:
        connection.execute(update(DeadLetter).values(moment=None, first_at=NOON - MINUTE))
    retry_letter(database, dead_letters(database)[0].id)
    assert rows(database) == {(1, 1): NOON - MINUTE}
