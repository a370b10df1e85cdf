"""Requests are held up to a bound, and each runs once, whatever happens to its group."""

import sys
import threading
import time
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.common import QoS

from support.celery_consumer import (
    PREFETCH,
    CeleryConsumer,
    HeldPool,
    arrive,
    enroll,
    names,
    request,
)
from worker.messaging.grouping import MAX_GROUP, MAX_HELD, MAX_HELD_BYTES, GroupingConsumer


def test_held_messages_raise_the_prefetch_limit_up_to_a_bound() -> None:
    celery_consumer = CeleryConsumer()
    grouping = GroupingConsumer(enroll, celery_consumer)
    limits = []
    for name in names(0, MAX_HELD + 50):
        arrive(grouping, celery_consumer, name)
        limits.append(celery_consumer.qos.value - PREFETCH)
    assert limits == [*range(1, MAX_HELD + 1), *[MAX_HELD] * 50]
    while len(celery_consumer.acknowledged) < MAX_HELD + 50:
        celery_consumer.pool.end()
        held = MAX_HELD + 50 - len(celery_consumer.acknowledged)
        assert celery_consumer.qos.value - PREFETCH == min(held, MAX_HELD)
    assert celery_consumer.qos.value == PREFETCH


def test_large_messages_do_not_raise_the_prefetch_limit_without_end() -> None:
    celery_consumer = CeleryConsumer()
    grouping = GroupingConsumer(enroll, celery_consumer)
    large = 4 * 1024 * 1024
    for number in range(20):
        payload = [[{"student_id": "x" * large}], {}, {}]
        grouping.on_task_request(request(celery_consumer, f"r{number}", payload))
    fitting = MAX_HELD_BYTES // large
    assert fitting - 1 <= celery_consumer.qos.value - PREFETCH <= fitting
    while len(celery_consumer.acknowledged) < 20:
        celery_consumer.pool.end()
    assert celery_consumer.qos.value == PREFETCH
    arrive(grouping, celery_consumer, "small")
    assert celery_consumer.qos.value == PREFETCH + 1


@pytest.mark.parametrize("value", [[], {}, [[]], {"a": []}])
def test_messages_that_grow_when_they_are_decoded_count_as_what_they_take(value: Any) -> None:
    """Their requests are held decoded: an empty list of two characters takes fifty times that."""
    celery_consumer = CeleryConsumer()
    grouping = GroupingConsumer(enroll, celery_consumer)
    values = [value for _ in range(200_000)]
    for number in range(10):
        payload = [[{"student_id": "S", "course_ids": values}], {}, {}]
        grouping.on_task_request(request(celery_consumer, f"r{number}", payload))
    taken = 200_000 * sys.getsizeof(value)
    assert (celery_consumer.qos.value - PREFETCH) * taken <= MAX_HELD_BYTES


arrivals = st.sampled_from([1, 2, MAX_GROUP, MAX_GROUP + 1, MAX_HELD // 2])
endings = st.sampled_from(["good", "good", "failed", "lost", "refused"])


@settings(max_examples=50, deadline=None)
@given(st.lists(arrivals | endings, max_size=10))
def test_each_request_runs_once_and_in_order_whatever_happens(events: list[int | str]) -> None:
    consumer = CeleryConsumer()
    grouping = GroupingConsumer(enroll, consumer)
    pool = consumer.pool
    come = 0
    for event in [*events, *["good"] * (MAX_HELD * len(events) // MAX_GROUP + 1)]:
        settled = len(consumer.acknowledged) + len(consumer.run_singly)
        if isinstance(event, int):
            arrive(grouping, consumer, *names(come, come + event))
            come += event
        elif settled < come:
            pool.refuses = event == "refused"
            if event == "lost":
                pool.lose()
            else:
                pool.end(failed=event == "failed")
            pool.refuses = False
        held = come - len(consumer.acknowledged) - len(consumer.run_singly)
        assert consumer.qos.value - PREFETCH == min(held, MAX_HELD)
    assert max(map(len, pool.groups), default=0) <= MAX_GROUP
    for in_order in (consumer.acknowledged, consumer.run_singly, list(chain(*pool.groups))):
        assert in_order == sorted(in_order, key=lambda name: int(name[1:]))
    assert sorted(consumer.acknowledged + consumer.run_singly) == sorted(names(0, come))


class ThreadPool(HeldPool):
    """A pool whose jobs end at once, each in a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []
        self.together: list[int] = []
        self._running: list[int] = []

    def on_apply(self, target: Any, args: Any, kwargs: Any, **options: Any) -> None:
        super().on_apply(target, args, kwargs, **options)
        self._running.append(1)
        self.together.append(len(self._running))

        def run() -> None:
            self._running.pop()
            options["callback"](False)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()


class InterruptedConsumer(CeleryConsumer):
    """Lets other threads run whenever its limit is read."""

    @property
    def qos(self) -> QoS:
        time.sleep(0.0005)
        return self._qos

    @qos.setter
    def qos(self, qos: QoS) -> None:
        self._qos = qos


def test_callbacks_from_other_threads_lose_and_duplicate_nothing() -> None:
    consumer = InterruptedConsumer()
    consumer.pool = pool = ThreadPool()
    grouping = GroupingConsumer(enroll, consumer)
    for queued in [request(consumer, name) for name in names(0, 500)]:
        grouping.on_task_request(queued)
    # A thread that ends may have begun another.
    for thread in pool.threads:
        thread.join()
    assert sorted(consumer.acknowledged) == sorted(names(0, 500))
    assert set(pool.together) == {1}
    assert consumer.qos.value == PREFETCH
