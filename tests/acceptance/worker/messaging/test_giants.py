"""Giant messages and marks: a real worker needs no more memory for them than for others."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.routing import Queue
from producer.errors import BrokerUnavailable
from support.commands import REFUSED
from support.databases import dead_letters_at
from support.large_records import giant
from support.memory import family, peak_kib, reset_peak
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment
from worker.messaging.giants import BEGINNING, MAX_WHOLE

pytestmark = pytest.mark.one_database

GIANT = 64 * 1024 * 1024
"""Bytes: several times what is received whole."""

ROOM_KIB = 12 * 1024
"""KiB by which the memory of a process may grow: far less than a giant."""


class Own(NamedTuple):
    """A deployment of one test, with clients and a roster."""

    deployment: Deployment
    client: EnrollmentClient
    redis: Any

    def enrolls(self) -> bool:
        """Return whether a request is enrolled; Redis may be busy for long with copying giants."""
        with suppress(BrokerUnavailable):
            result = self.client.enroll({"student_id": "S1", "course_ids": ["C1"]})
            return result.status == "enrolled"
        return False

    def growth_kib(self) -> int:
        """Return the largest growth of a process since `forget_peaks`."""
        pids = family(self.deployment.process.pid)
        return max(peak_kib(pid) - self.before[pid] for pid in pids if pid in self.before)

    @property
    def before(self) -> dict[int, int]:
        return _BEFORE

    def forget_peaks(self) -> None:
        _BEFORE.clear()
        for pid in family(self.deployment.process.pid):
            reset_peak(pid)
            _BEFORE[pid] = peak_kib(pid)


_BEFORE: dict[int, int] = {}


@pytest.fixture
def own(fresh_deployment: Deployment) -> Iterator[Own]:
    with (
        EnrollmentClient(fresh_deployment.broker_url, timeout=20) as client,
        Redis.from_url(fresh_deployment.broker_url) as redis,
    ):
        enter_roster(client, ["S1"], ["C1"])
        own = Own(fresh_deployment, client, redis)
        for number in range(4):  # Both processes have done some work of each kind.
            client.enroll({"student_id": "S1", "course_ids": ["C1"], "request_id": f"w{number}"})
            client.batches(["none"] * 10)
        own.forget_peaks()
        yield own


def test_a_giant_message_is_never_held_as_a_whole(own: Own) -> None:
    sent = [giant(GIANT - place, seed=place) for place in range(len(Queue))]
    for queue, raw in zip(Queue, sent, strict=True):
        own.redis.lpush(queue.value, raw)
    wait_for(own.enrolls)
    wait_for(lambda: not list(own.redis.scan_iter("enrollment.intake.taken.*")))
    print(f"largest growth of a process: {own.growth_kib() / 1024:.1f} MiB")
    assert own.growth_kib() < ROOM_KIB
    letters = {letter.content: letter for letter in dead_letters_at(own.deployment.database_url)}
    assert letters.keys() == {raw[:BEGINNING] for raw in sent}
    for raw in sent:
        letter = letters[raw[:BEGINNING]]
        assert letter.form == "beginning"
        for fact in (
            f"{len(raw)} bytes",
            f"first {BEGINNING} bytes",
            hashlib.sha256(raw).hexdigest(),
        ):
            assert fact in letter.detail


def test_a_giant_that_is_sent_twice_is_counted_and_another_one_is_not_taken_for_it(
    own: Own,
) -> None:
    first = giant(MAX_WHOLE + 1, seed=1)
    other = first[:-1] + bytes([first[-1] ^ 1])
    for raw in (first, other, first):
        own.redis.lpush(Queue.BATCHES.value, raw)
    wait_for(
        lambda: sorted(x.deliveries for x in dead_letters_at(own.deployment.database_url)) == [1, 2]
    )


def test_the_commands_say_that_only_the_beginning_is_stored(own: Own) -> None:
    raw = giant(MAX_WHOLE + 7, seed=2)
    own.redis.lpush(Queue.LOOKUPS.value, raw)
    wait_for(lambda: len(dead_letters_at(own.deployment.database_url)) == 1)
    listed = own.deployment.enroll("dead-letters", "list").stdout
    assert f"the message has {len(raw)} bytes" in listed
    assert "only the first" in listed
    shown = own.deployment.enroll("dead-letters", "show", "1").stdout
    assert "beginning" in shown
    assert hashlib.sha256(raw).hexdigest() in shown
    data = json.loads(own.deployment.enroll("dead-letters", "show", "1", "--json").stdout)
    assert (data["form"], data["bytes"]) == ("beginning", BEGINNING)
    retried = own.deployment.enroll("dead-letters", "retry", "1", expect=REFUSED).stdout
    assert "only the beginning of the message is stored" in retried
    assert "discarded" in own.deployment.enroll("dead-letters", "discard", "1", "--yes").stdout


def test_a_giant_comes_back_to_the_queue_when_its_worker_is_killed(own: Own) -> None:
    """It is taken like every other message; so it is moved back without being read."""
    raw = giant(GIANT, seed=3)
    own.redis.lpush(Queue.BATCHES.value, raw)
    wait_for(lambda: len(dead_letters_at(own.deployment.database_url)) == 1)
    assert own.redis.llen(Queue.BATCHES.value) == 0
    assert own.deployment.process.poll() is None


@pytest.mark.parametrize("name", ["request", "batch"])
def test_giant_marks_are_not_read(own: Own, name: str) -> None:
    key = {"request": Keys().request, "batch": Keys().batch}[name]
    look_up: Any = {"request": own.client.statuses, "batch": own.client.batches}[name]
    own.redis.set(key("giant"), b'{"state": "queued", "x": "' + b"x" * 2_000_000 + b'"}', ex=60)
    for _ in range(6):  # Whichever process answers.
        found: Any = look_up(["giant"] * 1000)
        assert {status.state for status in found} == {"unknown"}
    print(f"largest growth of a process: {own.growth_kib() / 1024:.1f} MiB")
    assert own.growth_kib() < ROOM_KIB
    many = [f"giant-{number}" for number in range(30)]
    for one in many:
        own.redis.set(key(one), b"x" * 2_000_000, ex=60)
    assert {status.state for status in look_up(many)} == {"unknown"}
    assert own.growth_kib() < ROOM_KIB
