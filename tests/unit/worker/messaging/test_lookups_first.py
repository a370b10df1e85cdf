"""A lookup gets the next process that is free; the private parts of Celery are unchanged."""

import inspect
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.asynpool import AsynPool
from celery.worker.worker import WorkController
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from worker.messaging.lookups_first import LookupsFirst


class Job:
    """A job that waits for a process; like Celery's, it can be referred to weakly."""

    def __init__(self, name: str) -> None:
        self.name = name


class Consumer(SimpleNamespace):
    """What Celery's consumer has, with its own semaphore, and a pool whose processes are busy."""

    def __init__(self, processes: int = 2, free: int = 0, *waiting: str) -> None:
        self.jobs: deque[Job] = deque(Job(name) for name in waiting)
        pool = AsynPool.__new__(AsynPool)
        inqueues = set(range(processes))
        vars(pool).update(outbound_buffer=self.jobs, _all_inqueues=inqueues)
        vars(pool).update(_active_writes=set(), _busy_workers=inqueues)
        semaphore = LaxBoundedSemaphore(processes)
        semaphore.value = free

        def process_task(name: str) -> None:
            semaphore.acquire(self.add, name)

        self.controller = SimpleNamespace(semaphore=semaphore, _process_task=self.add)
        super().__init__(pool=SimpleNamespace(_pool=pool), shared={}, on_task_request=process_task)

    def add(self, name: str) -> None:
        self.jobs.append(Job(name))

    @property
    def waiting(self) -> list[str]:
        return [job.name for job in self.jobs]


def test_a_lookup_comes_before_all_work_that_waits_for_a_process() -> None:
    consumer = Consumer(2, 0, "group", "chunk")
    consumer.on_task_request("chunk that waits for its turn")
    LookupsFirst(consumer).on_task_request("lookup")
    assert consumer.waiting == ["lookup", "group", "chunk"]


def test_lookups_keep_their_order_whichever_tasks_they_are() -> None:
    consumer = Consumer(2, 0, "group")
    LookupsFirst(consumer).on_task_request("first")
    LookupsFirst(consumer).on_task_request("second")
    assert consumer.waiting == ["first", "second", "group"]


def test_no_more_lookups_than_processes_come_before_work() -> None:
    consumer = Consumer(2, 0, "group")
    first = LookupsFirst(consumer)
    for number in range(4):
        first.on_task_request(f"lookup {number}")
    assert consumer.waiting == ["lookup 0", "lookup 1", "group", "lookup 2", "lookup 3"]
    # Once these have run, the work has its turn before any other lookup.
    consumer.jobs.popleft()
    consumer.jobs.popleft()
    assert consumer.jobs[0].name == "group"


@pytest.mark.parametrize("free", [0, 1, 2])
def test_a_lookup_counts_among_the_tasks_that_run_as_far_as_possible(free: int) -> None:
    consumer = Consumer(2, free)
    LookupsFirst(consumer).on_task_request("lookup")
    assert consumer.waiting == ["lookup"]
    assert consumer.controller.semaphore.value == max(0, free - 1)


def test_a_lookup_that_has_expired_moves_nothing() -> None:
    consumer = Consumer(2, 0, "group", "chunk")
    consumer.controller._process_task = lambda _: None  # noqa: SLF001 - Celery's name
    LookupsFirst(consumer).on_task_request("expired")
    assert consumer.waiting == ["group", "chunk"]


def test_other_pools_get_lookups_from_celery_itself() -> None:
    requests: list[Any] = []
    consumer = SimpleNamespace(
        pool=SimpleNamespace(_pool=None), shared={}, on_task_request=requests.append
    )
    LookupsFirst(consumer).on_task_request("lookup")
    assert requests == ["lookup"]


def test_the_private_code_it_relies_on_is_unchanged() -> None:
    source = inspect.getsource(AsynPool._create_write_handlers)  # noqa: SLF001 - see above
    for needle in (
        "outbound = self.outbound_buffer",
        "pop_message = outbound.popleft",
        "put_message = outbound.append",
    ):
        assert needle in source
    assert "self._quick_acquire(self._process_task, req)" in inspect.getsource(WorkController)
