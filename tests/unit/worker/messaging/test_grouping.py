"""Requests that wait together form a group: how groups begin, end and fail, on a fake pool."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.consumer.tasks import Tasks
from celery.worker.request import Request

from producer.contract.headers import MOMENT_HEADER
from support.celery_consumer import (
    PREFETCH,
    CeleryConsumer,
    HeldPool,
    arrive,
    enroll,
    names,
    request,
)
from worker.messaging.grouping import MAX_GROUP, GroupingConsumer, QueuedRequest, run_group


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


@pytest.mark.parametrize(
    ("waiting", "groups"),
    [
        ("e0 d1 e2 d3", [["e0", "e2"], ["d1", "d3"]]),
        ("d0 e1 d2", [["d0", "d2"], ["e1"]]),
        ("E0 D1 E2", [["E0"], ["D1"], ["E2"]]),
        ("e0 D1 e2", [["e0"], ["D1"], ["e2"]]),
        ("e0 d1 E2 e3", [["e0"], ["d1"], ["E2", "e3"]]),
        ("E0 E1 d2", [["E0", "E1"], ["d2"]]),
    ],
)
def test_drops_form_groups_of_their_own_unless_that_changes_an_order_that_counts(
    grouping: GroupingConsumer, celery_consumer: CeleryConsumer, waiting: str, groups: list[Any]
) -> None:
    """A capital letter is a request whose message has no moment."""
    arrive(grouping, celery_consumer, "first")
    for name in waiting.split():
        field = "drop_course_ids" if name[0] in "dD" else "course_ids"
        payload = [[{"student_id": "S1", field: ["C1"]}], {}, {}]
        moment = {MOMENT_HEADER: "2026-09-01T08:00:00.000000Z"} if name[0].islower() else {}
        grouping.on_task_request(request(celery_consumer, name, payload, **moment))
    for _ in groups:
        celery_consumer.pool.end()
    assert celery_consumer.pool.groups[1:] == groups


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


# --- What is not grouped ----------------------------------------------------------------------


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


# --- Celery's side ----------------------------------------------------------------------------


def test_celery_has_every_attribute_of_the_stand_ins() -> None:
    assert {"on_task_request", "pool"} <= set(inspect.signature(Consumer).parameters)
    assert "c.qos = QoS(" in inspect.getsource(Tasks.start)
    made = inspect.getsource(Request.execute_using_pool)
    for option in ("callback=self.on_success", "error_callback=", "soft_timeout=", "timeout="):
        assert option in made
