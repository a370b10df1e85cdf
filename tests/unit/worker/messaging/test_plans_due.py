"""Plans are looked for without delay, and all processes of the pool help, on a fake pool."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from producer.contract.routing import Queue
from support.celery_consumer import HeldPool
from worker.messaging.plans_due import PlansDue, PlanWatch


class Worker:
    """What a PlanWatch uses of Celery's consumer; its timer is moved on by the test."""

    def __init__(self, processes: int = 3, *queues: Queue) -> None:
        self.pool = HeldPool()
        self.pool.limit = processes
        self.app = SimpleNamespace(
            amqp=SimpleNamespace(
                queues=SimpleNamespace(consume_from={queue.value for queue in queues or Queue})
            )
        )
        self.controller = SimpleNamespace()
        self.timer = self
        self.soon: list[Callable[[], None]] = []
        self.repeated: Callable[[], None] = lambda: None

    def call_repeatedly(self, _: float, work: Callable[[], None]) -> None:
        self.repeated = work

    def call_after(self, _: float, work: Callable[[], None]) -> None:
        self.soon.append(work)

    def run_soon(self) -> None:
        soon, self.soon = self.soon, []
        for work in soon:
            work()

    @property
    def started(self) -> list[str]:
        return [target() for target, _, _ in self.pool.jobs]

    def end(self, number: int, result: Any) -> None:
        self.pool.jobs[number][2]["callback"](result)
        self.run_soon()


@pytest.fixture
def due() -> PlansDue:
    return PlansDue()


def watch(worker: Worker, due: PlansDue) -> None:
    made = PlanWatch(worker, due, lambda: "step", lambda: "help")  # type: ignore[arg-type,return-value]
    made.start()


def test_the_next_step_of_a_plan_begins_as_soon_as_one_ends(due: PlansDue) -> None:
    worker = Worker()
    watch(worker, due)
    worker.repeated()
    assert worker.started == ["step"]
    worker.end(0, True)
    assert worker.started == ["step"] * 2
    worker.end(1, False)
    worker.repeated()
    assert worker.started == ["step"] * 2
    due.set()
    worker.repeated()
    assert worker.started == ["step"] * 3


def test_every_other_process_helps_while_one_applies_a_plan(due: PlansDue) -> None:
    worker = Worker(3)
    watch(worker, due)
    worker.repeated()
    worker.repeated()
    assert worker.started == ["step"]
    for _ in range(2):  # The helpers are there already when it calls again.
        due.call_helpers()
        worker.repeated()
        assert worker.started == ["step", "help", "help"]
    worker.end(1, True)
    assert worker.started == ["step", "help", "help", "help"]
    worker.end(2, False)
    worker.end(3, False)
    assert worker.started == ["step", "help", "help", "help"]


def test_helpers_end_with_the_step_that_they_help(due: PlansDue) -> None:
    worker = Worker(2)
    watch(worker, due)
    worker.repeated()
    due.call_helpers()
    worker.repeated()
    assert worker.started == ["step", "help"]
    worker.end(0, False)
    worker.end(1, True)
    assert worker.started == ["step", "help"]


def test_there_are_no_helpers_after_one_was_lost_until_the_next_step(due: PlansDue) -> None:
    """The chunk that it applied may have killed it; the process that holds the plan counts that."""
    worker = Worker(2)
    watch(worker, due)
    worker.repeated()
    due.call_helpers()
    worker.repeated()
    worker.pool.lose()
    due.call_helpers()
    worker.repeated()
    assert worker.started == ["step", "help"]
    worker.end(0, True)
    due.call_helpers()
    worker.repeated()
    assert worker.started == ["step", "help", "step", "help"]


def test_a_single_process_has_no_helper(due: PlansDue) -> None:
    worker = Worker(1)
    watch(worker, due)
    worker.repeated()
    due.call_helpers()
    worker.repeated()
    assert worker.started == ["step"]


def test_a_worker_that_is_there_for_other_queues_leaves_plans_alone(due: PlansDue) -> None:
    worker = Worker(3, Queue.ENROLLMENTS)
    watch(worker, due)
    due.set()
    worker.repeated()
    assert worker.started == []


def test_decided_plans_come_first_every_second_time(due: PlansDue) -> None:
    assert [due.take_turn() for _ in range(4)] == [True, False, True, False]
