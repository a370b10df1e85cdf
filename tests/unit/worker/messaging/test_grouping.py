"""Requests that wait together form a group: how groups begin, end and fail, on a fake pool."""

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.concurrency.base import BasePool
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.consumer.tasks import Tasks
from celery.worker.request import Request
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.common import QoS
from kombu.message import Message
from kombu.utils.json import dumps

from worker.messaging.grouping import (
    MAX_GROUP,
    MAX_HELD,
    GroupingConsumer,
    QueuedRequest,
    run_group,
)

PREFETCH = 2

app = Celery(set_as_current=False)
app.conf.task_acks_late = True


def _enroll() -> None: ...


enroll: Any = app.task(name="enroll", soft_time_limit=100, time_limit=120, shared=False)(_enroll)


class HeldPool(BasePool):  # type: ignore[misc]
    """A pool of Celery whose jobs are done by the test; with `refuses`, it accepts none."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[tuple[Callable[..., Any], Any, dict[str, Any]]] = []
        self.refuses = False

    def on_apply(self, target: Any, args: Any, kwargs: Any, **options: Any) -> None:
        assert not kwargs
        if self.refuses:
            raise RecursionError
        self.jobs.append((target, args, options))

    @property
    def groups(self) -> list[list[str]]:
        """The ids of the requests of each group that was started."""
        return [[queued.task_id for queued in args[1]] for _, args, _ in self.jobs]

    def end(self, *, failed: bool = False) -> None:
        """End the running group, as its process does."""
        self.jobs[-1][2]["callback"](failed)

    def lose(self) -> None:
        """End the running group, as the loss of its process does."""
        try:
            self._process_is_lost()
        except WorkerLostError:
            self.jobs[-1][2]["error_callback"](ExceptionInfo())

    def _process_is_lost(self) -> None:
        raise WorkerLostError("it was killed")


class CeleryConsumer:
    """What a GroupingConsumer uses of Celery's consumer."""

    def __init__(self) -> None:
        self.pool = HeldPool()
        self.run_singly: list[str] = []
        self.acknowledged: list[str] = []
        self.cannot_take: str | None = None
        self.quarantined: list[tuple[Any, str]] = []
        self.hostname = "here"
        self.connect()

    def connect(self) -> None:
        """Connect to the broker again."""
        self.qos = QoS(lambda **_: None, PREFETCH)

    def on_task_request(self, request: Request) -> None:
        if request.id == self.cannot_take:
            raise RecursionError
        self.run_singly.append(request.id)

    def quarantine(self, message: Any, reason: str) -> None:
        self.quarantined.append((message, reason))


@pytest.fixture
def celery_consumer() -> CeleryConsumer:
    return CeleryConsumer()


@pytest.fixture
def grouping(celery_consumer: CeleryConsumer) -> GroupingConsumer:
    return GroupingConsumer(enroll, celery_consumer)


@pytest.fixture
def stopping() -> Iterator[Callable[[], None]]:
    """Tells the worker to stop, as a signal does: with an exit code, which is 0."""
    yield lambda: setattr(state, "should_stop", 0)
    state.should_stop = None


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


def request(consumer: CeleryConsumer, task_id: str, payload: Any = None, **headers: Any) -> Request:
    """Return Celery's own request for a message; its acknowledgement is noted."""
    empty = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = dumps([[{"student_id": task_id}], {}, empty] if payload is None else payload)
    message = Message(
        body,
        content_type="application/json",
        content_encoding="utf-8",
        headers={"id": task_id, "task": enroll.name, "argsrepr": "(…)", **headers},
        accept={"application/json"},
    )
    # As Celery's strategy does: a message of an older protocol is a dictionary.
    older = {"body": ([], {}, empty), "decoded": True} if isinstance(payload, dict) else {}
    return Request(
        message,
        **older,
        app=app,
        task=enroll,
        on_ack=lambda *_: consumer.acknowledged.append(task_id),
    )


def arrive(grouping: GroupingConsumer, consumer: CeleryConsumer, *task_ids: str) -> None:
    for task_id in task_ids:
        grouping.on_task_request(request(consumer, task_id))


def names(start: int, stop: int) -> list[str]:
    return [f"r{number}" for number in range(start, stop)]


# --- How groups begin -------------------------------------------------------------------------


def test_a_lone_request_starts_at_once(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
    arrive(grouping, celery_consumer, "r0")
    assert celery_consumer.pool.groups == [["r0"]]
    assert celery_consumer.run_singly == []


def test_a_process_gets_the_message_and_the_time_limits_of_its_task(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
    payload = [[1, "two"], {"three": 3}, {}]
    lone = request(celery_consumer, "r0", payload, traceparent="00-1", ignore_result=True)
    grouping.on_task_request(lone)
    ((target, (task, (queued,)), options),) = celery_consumer.pool.jobs
    assert (target, task) == (run_group, enroll.name)
    assert queued[:4] == QueuedRequest("r0", (1, "two"), {"three": 3}, ignore_result=True)[:4]
    assert queued.headers["traceparent"] == "00-1"
    assert queued.headers["id"] == "r0"
    assert not {"args", "kwargs", "argsrepr", "kwargsrepr"} & set(queued.headers)
    assert (options["soft_timeout"], options["timeout"]) == (100, 120)


def test_requests_that_arrive_while_a_group_runs_form_the_next_group(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
    arrive(grouping, celery_consumer, "r0", "r1", "r2", "r3")
    assert celery_consumer.pool.groups == [["r0"]]
    celery_consumer.pool.end()
    assert celery_consumer.pool.groups == [["r0"], ["r1", "r2", "r3"]]
    celery_consumer.pool.end()
    arrive(grouping, celery_consumer, "r4")
    assert celery_consumer.pool.groups[2:] == [["r4"]]


def test_a_group_has_at_most_max_group_requests(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
    arrive(grouping, celery_consumer, *names(0, MAX_GROUP + 2))
    celery_consumer.pool.end()
    celery_consumer.pool.end()
    assert celery_consumer.pool.groups == [
        ["r0"],
        names(1, MAX_GROUP + 1),
        names(MAX_GROUP + 1, MAX_GROUP + 2),
    ]


# --- How groups end ---------------------------------------------------------------------------


def test_requests_of_a_good_group_are_acknowledged_once_after_it(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
    arrive(grouping, celery_consumer, "r0", "r1", "r2")
    assert celery_consumer.acknowledged == []
    celery_consumer.pool.end()
    assert celery_consumer.acknowledged == ["r0"]
    celery_consumer.pool.end()
    assert celery_consumer.acknowledged == ["r0", "r1", "r2"]
    assert celery_consumer.run_singly == []


@pytest.mark.parametrize("end", [lambda pool: pool.end(failed=True), HeldPool.lose])
def test_requests_of_a_failed_group_run_one_by_one_in_order(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer, end: Callable[[HeldPool], None]
) -> None:
    arrive(grouping, celery_consumer, "r0", "r1", "r2")
    celery_consumer.pool.end()
    arrive(grouping, celery_consumer, "r3")
    end(celery_consumer.pool)
    assert celery_consumer.run_singly == ["r1", "r2"]
    assert celery_consumer.acknowledged == ["r0"]
    assert celery_consumer.pool.groups == [["r0"], ["r1", "r2"], ["r3"]]


def test_a_pool_that_refuses_a_group_loses_nothing(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
    arrive(grouping, celery_consumer, "r0", "r1", "r2")
    celery_consumer.pool.refuses = True
    celery_consumer.pool.end()
    assert celery_consumer.run_singly == ["r1", "r2"]
    assert celery_consumer.qos.value == PREFETCH
    celery_consumer.pool.refuses = False
    arrive(grouping, celery_consumer, "r3")
    assert celery_consumer.pool.groups == [["r0"], ["r3"]]


def test_a_request_that_cannot_run_alone_either_harms_no_other(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
    arrive(grouping, celery_consumer, "r0", "r1", "r2", "r3")
    celery_consumer.pool.end()
    celery_consumer.cannot_take = "r2"
    # Nothing above a pool's callback catches an error: it would end the worker.
    celery_consumer.pool.end(failed=True)
    assert celery_consumer.run_singly == ["r1", "r3"]
    ((_, reason),) = celery_consumer.quarantined
    assert "RecursionError" in reason
    arrive(grouping, celery_consumer, "r4")
    assert celery_consumer.pool.groups[-1] == ["r4"]


# --- What is not grouped --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        [[], {}, {"callbacks": [{"task": "next"}]}],
        [[], {}, {"errbacks": [{"task": "next"}]}],
        [[], {}, {"chord": {"task": "next"}}],
        [[], {}, {"chain": [{"task": "next"}]}],
        {"args": [], "kwargs": {}, "callbacks": [{"task": "next"}]},
    ],
)
def test_a_message_with_links_or_chains_is_left_to_celery(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer, payload: Any
) -> None:
    grouping.on_task_request(request(celery_consumer, "linked", payload))
    assert celery_consumer.run_singly == ["linked"]
    assert celery_consumer.pool.jobs == []
    assert celery_consumer.qos.value == PREFETCH


def test_every_other_attribute_is_the_consumers_own(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
    assert grouping.hostname == "here"
    assert grouping.pool is celery_consumer.pool


def test_nothing_starts_while_the_worker_is_stopping(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer, stopping: Callable[[], None]
) -> None:
    arrive(grouping, celery_consumer, "r0", "r1")
    stopping()
    celery_consumer.pool.end()
    arrive(grouping, celery_consumer, "r2")
    assert celery_consumer.pool.groups == [["r0"]]
    # The running group is finished, and the rest stays unacknowledged.
    assert celery_consumer.acknowledged == ["r0"]
    assert celery_consumer.run_singly == []


def test_messages_of_an_earlier_connection_never_start(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
    arrive(grouping, celery_consumer, "r0", "r1")
    celery_consumer.connect()
    celery_consumer.pool.end()
    arrive(grouping, celery_consumer, "r2")
    assert celery_consumer.pool.groups == [["r0"]]
    assert celery_consumer.acknowledged == ["r0"]
    # The new connection has a limit, and a consumer, of its own.
    assert celery_consumer.qos.value == PREFETCH
    arrive(GroupingConsumer(enroll, celery_consumer), celery_consumer, "r1")
    assert celery_consumer.pool.groups == [["r0"], ["r1"]]


# --- How many are held ------------------------------------------------------------------------


def test_held_messages_raise_the_prefetch_limit_up_to_a_bound(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer
) -> None:
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
    made = [request(consumer, name) for name in names(0, 500)]
    for one_after_another in made:
        grouping.on_task_request(one_after_another)
    # A thread that ends may have begun another.
    for thread in pool.threads:
        thread.join()
    assert sorted(consumer.acknowledged) == sorted(names(0, 500))
    assert set(pool.together) == {1}
    assert consumer.qos.value == PREFETCH


# --- Celery's side ----------------------------------------------------------------------------


def test_celery_has_every_attribute_of_the_stand_ins() -> None:
    assert {"on_task_request", "pool"} <= set(inspect.signature(Consumer).parameters)
    assert "c.qos = QoS(" in inspect.getsource(Tasks.start)
    made = inspect.getsource(Request.execute_using_pool)
    for option in ("callback=self.on_success", "error_callback=", "soft_timeout=", "timeout="):
        assert option in made
