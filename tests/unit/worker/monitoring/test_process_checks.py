"""Doctor warns about a worker whose only process makes plans and answers single requests."""

import pytest

from producer.contract.routing import Queue
from worker.messaging.celery_settings import celery_settings
from worker.monitoring.process_checks import WorkerProcesses
from worker.settings import Settings


@pytest.mark.parametrize(
    ("count", "queues", "is_warned"),
    [
        (1, list(Queue), True),
        (1, [Queue.BATCHES, Queue.LOOKUPS], True),
        (2, list(Queue), False),
        (1, [Queue.BATCHES], False),
        (1, [Queue.ENROLLMENTS, Queue.LOOKUPS, Queue.DECISIONS], False),
    ],
)
def test_a_worker_is_named_only_if_single_requests_wait_for_its_plans(
    count: int, queues: list[Queue], is_warned: bool
) -> None:
    processes = WorkerProcesses()
    processes.note(count, [queue.value for queue in queues])
    assert bool(list(processes.check())) is is_warned


@pytest.mark.parametrize(("processors", "expected"), [(1, 2), (None, 2), (8, 8)])
def test_a_worker_has_two_processes_also_on_a_machine_with_one_processor(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, expected: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    settings = celery_settings(
        Settings(database_url="sqlite://", broker_url="redis://localhost:1/0")
    )
    assert settings["worker_concurrency"] == expected
