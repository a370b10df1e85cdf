"""Define the tasks that apply chunks of batches, one for each kind."""

from typing import Any

from celery import Celery, Task

from producer.contract.headers import BatchOrigin
from producer.contract.routing import KIND_TASKS
from producer.schemas import Kind
from worker.tasks.delivery import ChunkDelivery
from worker.tasks.services import ServicedTask, Services


def register_chunks(app: Celery, services: Services, kind: Kind) -> None:
    """Register the task for chunks of this kind."""

    @app.task(
        shared=False,
        name=KIND_TASKS[kind].value,
        bind=True,
        base=ServicedTask,
        services=services,
        ignore_result=True,
    )
    def apply_chunk(task: Task, /, *args: Any, **kwargs: Any) -> None:
        task_id = task.request.id
        origin = BatchOrigin.from_headers(vars(task.request))  # Celery puts all headers there.
        services.clock.read()
        delivery = ChunkDelivery(
            services.database,
            services.events,
            kind,
            task_id,
            args,
            kwargs,
            origin,
            clock=services.clock.now,
        )
        services.retry_policy.with_fallbacks(
            task_id, delivery.apply, isolate=delivery.isolate, give_up=delivery.give_up
        )
        if kind is Kind.COURSES and delivery.applied and delivery.applied.counts.get("upserted"):
            services.cached.begin_generation()  # Copies of results name the titles of courses.
        if delivery.refused is not None:
            services.store_refusal(task_id, delivery.refused)
