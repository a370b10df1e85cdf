"""The tasks for chunks of a batch."""

from typing import Any

from celery import Celery, Task

from producer.contract.routing import KIND_TASKS
from producer.schemas import Kind
from worker.database.engine import Database
from worker.monitoring.events import Events
from worker.recovery.retry_policy import RetryPolicy
from worker.tasks.answer import REQUEST
from worker.tasks.delivery import ChunkDelivery


def _register_chunks(
    app: Celery, database: Database, kind: Kind, patience: RetryPolicy, events: Events
) -> None:
    class Apply(Task):
        Request = REQUEST

    @app.task(shared=False, name=KIND_TASKS[kind].value, bind=True, base=Apply, ignore_result=True)
    def apply_chunk(task: Task, /, *args: Any, **kwargs: Any) -> None:
        delivery = ChunkDelivery(database, events, kind, task.request.id, args, kwargs)
        patience.attempt(task.request.id, delivery.apply, delivery.isolate, delivery.give_up)
        if delivery.refused is not None:
            app.backend.refuse(task.request.id, delivery.refused)
