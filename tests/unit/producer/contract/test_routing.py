"""Every task has a queue, and every kind of record a task."""

from producer.contract.routing import KIND_TASKS, TASK_QUEUES, TaskName
from producer.schemas import Kind


def test_every_task_has_a_queue_and_every_kind_a_task() -> None:
    assert set(TASK_QUEUES) == set(TaskName)
    assert set(KIND_TASKS) == set(Kind)
