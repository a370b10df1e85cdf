"""A worker that gets to the reply of a real Valkey late believes what clients read meanwhile."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import insert, select

from producer.contract.headers import BatchOrigin
from producer.schemas import Kind
from support.chunks import chunk, pairs
from support.databases import opened_database, store_roster
from support.planning import stored_chunk
from support.staging import chunks_of
from support.staging import request as plan_request
from worker.batches.apply import apply_chunk, read_chunk
from worker.batches.together import ReceivedChunk, apply_together
from worker.database.engine import Database
from worker.enrollment.incoming import read_request
from worker.messaging.clock import RedisClock
from worker.models import Batch, StudentCourse
from worker.moments import Clock, Reading
from worker.monitoring.events import Events
from worker.monitoring.metrics import Metrics
from worker.plan_models import DataSet, PlanRow
from worker.plans.applying import StoredChunk
from worker.plans.staging import Delivered, stage_chunk
from worker.service import add_enrollments
from worker.tasks.delivery import ChunkDelivery

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
SENT = NOON + 2 * SECOND


@pytest.fixture
def database(new_database: Callable[[str], str]) -> Iterator[Database]:
    """One database: that a moment lies ahead is decided without SQL."""
    with opened_database(new_database("sqlite")) as opened:
        yield opened


@pytest.fixture
def lagging(database: Database) -> Reading:
    """The clock of a worker that had the last reply after three seconds, and a roster."""
    store_roster(database, ["A"], ["M1"])
    return Reading(NOON, NOON + 3 * SECOND)


def test_what_a_client_read_before_the_reply_was_processed_does_not_lie_ahead(
    database: Database, broker_url: str
) -> None:
    store_roster(database, ["A"], ["M1"])
    clock = RedisClock(broker_url)
    with Redis.from_url(broker_url) as redis, redis.pipeline() as pipeline:
        clock.add_read(pipeline)
        (reply,) = pipeline.execute()
        # The worker stands still, and a client reads the clock, more than a client's own margin on.
        sent = replied = _time(reply)
        while sent < replied + timedelta(milliseconds=5):
            sent = _time(redis.time())
        clock.take(reply)
    _enroll(database, sent, clock)
    assert _moments(database, StudentCourse.enrolled_at) == [sent]


def _time(reply: Any) -> datetime:
    return datetime.fromtimestamp(reply[0], UTC) + timedelta(microseconds=reply[1])


def _enroll(database: Database, sent: datetime, clock: Clock) -> None:
    record = {"student_id": "A", "course_ids": ["M1"]}
    add_enrollments(database, [read_request("r", [record], {}, sent)], clock=clock)


def _apply(database: Database, sent: datetime, clock: Clock) -> None:
    text = chunk(pairs("A", "M1")).model_dump_json()
    apply_chunk(database, Kind.ENROLLMENTS, text, origin=BatchOrigin(moment=sent), clock=clock)


def _apply_together(database: Database, sent: datetime, clock: Clock) -> None:
    read = read_chunk(Kind.ENROLLMENTS, chunk(pairs("A", "M1")).model_dump_json())
    apply_together(database, [ReceivedChunk(*read, BatchOrigin(moment=sent))], clock=clock)


@pytest.mark.parametrize("decide", [_enroll, _apply, _apply_together])
def test_an_honest_moment_counts_though_the_worker_lags(
    database: Database, lagging: Reading, decide: Callable[[Database, datetime, Clock], None]
) -> None:
    decide(database, SENT, lagging)
    assert _moments(database, StudentCourse.enrolled_at) == [SENT]


@pytest.mark.parametrize("decide", [_enroll, _apply, _apply_together])
def test_a_moment_that_the_clock_cannot_have_shown_counts_when_the_clock_certainly_was(
    database: Database, lagging: Reading, decide: Callable[[Database, datetime, Clock], None]
) -> None:
    decide(database, NOON + 4 * SECOND, lagging)
    assert _moments(database, StudentCourse.enrolled_at) == [NOON]


def test_a_snapshot_is_not_refused_because_the_worker_lags(
    database: Database, lagging: Reading
) -> None:
    row = {"id": 1, "name": "sis", "snapshots": True, "created_at": NOON}
    with database.writing() as connection:
        connection.execute(insert(DataSet).values(**row))
    plan = plan_request(snapshot=True)
    (only,) = chunks_of(plan, [pairs("A", "M1")], data_set="sis")
    text = only.model_dump_json(exclude_unset=True)
    parsed, fingerprint = read_chunk(Kind.ENROLLMENTS, text)
    origin = BatchOrigin("file.csv", "registrar", SENT)
    delivered = Delivered(Kind.ENROLLMENTS, parsed, fingerprint, text, origin)
    assert stage_chunk(database, delivered, clock=lagging).is_complete
    assert _moments(database, PlanRow.moment) == [SENT]


def test_a_stored_chunk_keeps_its_moment_whatever_the_worker_knows_that_applies_it(
    database: Database, lagging: Reading
) -> None:
    slow = Reading(NOON - 2 * HOUR, NOON - 2 * HOUR)
    text = chunk(pairs("A", "M1")).model_dump_json()
    events, origin = Events(Metrics()), BatchOrigin(moment=NOON)
    ChunkDelivery(
        database,
        events,
        Kind.ENROLLMENTS,
        "task",
        (),
        {},
        origin,
        clock=slow,
        from_plan=StoredChunk(Kind.ENROLLMENTS, "b", 0, stored_chunk(text), origin),
    ).apply()
    assert _moments(database, Batch.moment) == [NOON]


@pytest.mark.parametrize(("ahead", "readings"), [(-SECOND, 1), (HOUR, 2)])
def test_the_clock_is_read_again_if_a_moment_seems_to_lie_ahead_of_it(
    valkey: str, ahead: timedelta, readings: int
) -> None:
    clock = RedisClock(valkey)
    clock.read()
    clock.read(clock() + ahead)  # The clock may have been set forward since.
    with Redis.from_url(valkey) as redis:
        assert redis.info("commandstats")["cmdstat_time"]["calls"] == readings


def _moments(database: Database, column: Any) -> list[datetime]:
    with database.reading() as connection:
        return list(connection.scalars(select(column)))
