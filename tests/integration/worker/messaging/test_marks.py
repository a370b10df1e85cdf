"""The marks of submissions, in a real Valkey."""

import logging
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from redis import Redis
from redis.exceptions import RedisError

from producer.contract.chunks import Tally
from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS, MarkState, SubmissionMark
from producer.schemas import Kind
from support.valkey import free_port
from worker.messaging.marks import SubmissionMarks

KEYS = Keys()
QUEUED = SubmissionMark().model_dump_json()
MOMENT = datetime(2026, 9, 1, 8, tzinfo=UTC)


@pytest.fixture
def marks(broker_url: str) -> SubmissionMarks:
    return SubmissionMarks(broker_url, KEYS)


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def test_an_id_without_a_mark_is_left_out(marks: SubmissionMarks, name: str) -> None:
    assert marks.of_requests([name]) == {}
    assert marks.of_batches([name]) == {}


def test_a_request_and_a_batch_with_the_same_id_have_separate_marks(
    marks: SubmissionMarks, redis: Redis, name: str
) -> None:
    batch = SubmissionMark(kind=Kind.COURSES, tally=Tally(requests=2, rows=3), chunks=1)
    redis.set(KEYS.request(name), QUEUED, ex=MARK_SECONDS)
    redis.set(KEYS.batch(name), batch.model_dump_json(), ex=MARK_SECONDS)
    other = f"{name} other"
    assert {i: aged.mark for i, aged in marks.of_requests([other, name]).items()} == {
        name: SubmissionMark()
    }
    assert {i: aged.mark for i, aged in marks.of_batches([name, other]).items()} == {name: batch}


def set_running(marks: SubmissionMarks, *names: str) -> None:
    moments = dict.fromkeys(names, MOMENT)
    marks.run(lambda pipeline: marks.add_running(pipeline, moments))


def test_the_age_of_a_mark_is_derived_from_its_ttl(
    marks: SubmissionMarks, redis: Redis, name: str
) -> None:
    redis.set(KEYS.request(name), QUEUED, ex=MARK_SECONDS - 100)
    assert marks.of_requests([name])[name].seconds_ago == pytest.approx(100, abs=5)
    redis.set(KEYS.request(name), QUEUED, ex=MARK_SECONDS + 100)
    assert marks.of_requests([name])[name].seconds_ago == 0


def test_a_running_request_has_a_fresh_mark_with_that_state(
    marks: SubmissionMarks, redis: Redis, name: str
) -> None:
    redis.set(KEYS.request(name), QUEUED, ex=100)
    # Other systems leave no mark when they submit.
    unmarked = f"{name} unmarked"
    set_running(marks, name, unmarked)
    found = marks.of_requests([name, unmarked])
    assert [aged.mark.state for aged in found.values()] == [MarkState.RUNNING] * 2
    assert [aged.mark.moment for aged in found.values()] == [MOMENT] * 2
    assert max(aged.seconds_ago for aged in found.values()) < 5


def test_removing_a_mark_leaves_the_others(marks: SubmissionMarks, name: str) -> None:
    names = [f"{name} {n}" for n in range(3)]
    set_running(marks, *names)
    marks.remove([KEYS.request(i) for i in names[:2]])
    assert set(marks.of_requests(names)) == {names[2]}


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"state": "paused"}', b"\xff\xfe"])
def test_an_unreadable_mark_is_ignored_and_the_others_are_returned(
    marks: SubmissionMarks,
    redis: Redis,
    name: str,
    content: str | bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    redis.set(KEYS.request(name), content)
    redis.set(KEYS.request(f"{name} good"), QUEUED)
    assert set(marks.of_requests([name, f"{name} good"])) == {f"{name} good"}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert name in caplog.text


def test_unknown_fields_of_a_newer_submitters_mark_are_ignored(
    marks: SubmissionMarks, redis: Redis, name: str
) -> None:
    redis.set(KEYS.batch(name), '{"state": "queued", "chunks": 3, "urgency": "high"}')
    assert marks.of_batches([name])[name].mark == SubmissionMark(chunks=3)


def test_without_redis_reading_marks_fails_and_work_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    marks = SubmissionMarks(f"redis://127.0.0.1:{free_port()}/0", KEYS)
    with pytest.raises(RedisError):
        marks.of_requests(["r"])
    with pytest.raises(RedisError):
        marks.of_batches(["b"])
    set_running(marks, "r")
    marks.remove([KEYS.request("r")])
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
