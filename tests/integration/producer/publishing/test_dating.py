"""The moments that a client gives, in a real Valkey."""

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from producer.contract.keys import Keys
from producer.contract.marks import SubmissionMark
from producer.publishing import dating
from producer.publishing.dating import Marks

KEYS = Keys()


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def marks(redis: Redis) -> Marks:
    return Marks(redis, KEYS)


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def now_of(redis: Redis) -> datetime:
    reply: Any = redis.time()
    seconds, microseconds = reply
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)


def mark_of(redis: Redis, request_id: str) -> SubmissionMark:
    text: Any = redis.get(KEYS.request(request_id))
    return SubmissionMark.model_validate_json(text)


def test_moments_come_from_the_clock_of_redis_and_stand_in_the_marks(
    marks: Marks, redis: Redis, name: str
) -> None:
    before = now_of(redis)
    ids = [f"{name} {n}" for n in range(5)]
    moments = marks.leave_on_requests(ids, ids[2:])
    assert all(before < moment < now_of(redis) for moment in moments.values())
    # Only ids of the submitter's own can be submitted again; those are read before.
    expected = [None, None, *(moments[i] for i in ids[2:])]
    assert [mark_of(redis, i).moment for i in ids] == expected


def test_no_moment_is_given_twice_even_by_many_threads(marks: Marks, name: str) -> None:
    given: list[datetime] = []

    def submit(thread: int) -> None:
        for number in range(20):
            mine = marks.leave_on_requests([f"{name} {thread} {number} {n}" for n in "abc"], [])
            assert list(mine.values()) == sorted(mine.values())
            given.extend(mine.values())

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given)) == len(given) == 240


def test_moments_go_on_although_the_clock_was_set_back(
    marks: Marks, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = marks.leave_on_requests(["a"], []).values()
    monkeypatch.setattr(dating, "_EPOCH", dating._EPOCH - timedelta(minutes=6))  # noqa: SLF001
    first, second = marks.leave_on_requests(["b", "c"], []).values()
    assert before < first < second < before + timedelta(microseconds=3)


def test_what_is_submitted_again_under_its_id_keeps_its_moment(
    marks: Marks, redis: Redis, name: str
) -> None:
    first = marks.leave_on_requests([name], [name])
    assert Marks(redis, KEYS).leave_on_requests([name], [name]) == first
    assert mark_of(redis, name).moment == first[name]
    batch = marks.new_moment()
    assert batch not in first.values()
    marks.leave_on_batch(name, SubmissionMark(moment=batch, first_chunk=7))
    assert Marks(redis, KEYS).moment_of_batch(name, 7) == batch
    # Another submission has left the mark, or forged it.
    assert Marks(redis, KEYS).moment_of_batch(name, 8) is None


@pytest.mark.parametrize(
    "mark",
    [
        "no JSON",
        '{"state": "queued"}',
        '{"state": "queued", "moment": "2020-01-01T00:00:00"}',
        '{"state": "queued", "moment": 0}',
        '{"state": "queued", "moment": "1900-01-01T00:00:00Z"}',
        '{"state": "queued", "moment": "2020-01-01T00:00:00Z", "x": "' + 5000 * "y" + '"}',
    ],
)
def test_a_mark_without_a_credible_moment_gives_none(
    marks: Marks, redis: Redis, name: str, mark: str
) -> None:
    redis.set(KEYS.request(name), mark)
    before = now_of(redis)
    assert before < marks.leave_on_requests([name], [name])[name] < now_of(redis)


def test_without_the_right_to_the_clock_there_are_no_moments(redis: Redis, name: str) -> None:
    redis.acl_setuser(
        name, enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-time"]
    )
    url = redis.connection_pool.connection_kwargs
    with Redis(host=url["host"], port=url["port"], username=name, password="secret") as limited:  # noqa: S106
        marks = Marks(limited, KEYS)
        for _ in range(2):
            assert marks.leave_on_requests([name], [name]) == {}
        assert marks.new_moment() is None
    assert mark_of(redis, name) == SubmissionMark()
    redis.acl_deluser(name)
