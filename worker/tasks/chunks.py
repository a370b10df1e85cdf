"""Define the tasks that apply chunks of batches, one for each kind; small ones form groups."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from celery import Celery

from producer.contract.headers import BatchOrigin
from producer.contract.routing import KIND_TASKS
from producer.schemas import Kind
from worker.messaging import plugins
from worker.messaging.grouping import QueuedRequest
from worker.messaging.signals import sending_signals
from worker.messaging.unavailable import DatabaseUnavailable
from worker.tasks.delivery import ChunkDelivery, apply_deliveries, latest_sent
from worker.tasks.services import ServicedTask, Services

log = logging.getLogger(__name__)


class ChunkTask(ServicedTask):
    """A task that applies chunks of one kind."""

    Strategy = plugins.CHUNK_STRATEGY
    kind: ClassVar[Kind]

    def delivery(
        self,
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        headers: Mapping[str, Any],
    ) -> ChunkDelivery:
        """Return the delivery of a message."""
        services = self.services
        origin = BatchOrigin.from_headers(headers)
        return ChunkDelivery(
            services.database,
            services.events,
            self.kind,
            task_id,
            args,
            kwargs,
            origin,
            expiry=services.expiry,
            clock=services.clock,
        )

    def decide_group(self, queued: Sequence[QueuedRequest]) -> bool:
        """Apply small chunks in one transaction; return whether each must run alone instead.

        Each must run alone if the group fails, or if one of the chunks has already failed or killed
        its worker too often. Raises DatabaseUnavailable if all are to be requeued.
        """
        services = self.services
        task_ids = [message.task_id for message in queued]
        deliveries = [self.delivery(m.task_id, m.args, m.kwargs, m.headers) for m in queued]
        done = False
        try:
            if services.attempts.begin(task_ids):
                return True
            services.clock.read(latest_sent(deliveries))
            with sending_signals(self, queued):
                services.retry_policy.or_requeue(
                    lambda: apply_deliveries(services.database, deliveries, clock=services.clock)
                )
            done = True
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - each chunk runs alone and raises its own
            log.warning(
                "A group of %s small chunks failed (%s); each of them now runs alone",
                *(len(queued), type(getattr(error, "orig", error)).__name__),
            )
        finally:
            services.attempts.end(task_ids, done=done)
        if done:
            self.conclude(deliveries)
        return not done

    def conclude(self, deliveries: Sequence[ChunkDelivery]) -> None:
        """Store why messages were refused, for the clients that wait; note complete plans."""
        if any(delivery.completes_plan for delivery in deliveries):
            self.services.plans_due.set()
        for delivery in deliveries:
            if delivery.refused is not None:
                self.services.store_refusal(delivery.task_id, delivery.refused)


def register_chunks(app: Celery, services: Services, kind: Kind) -> None:
    """Register the task for chunks of this kind."""

    @app.task(
        shared=False,
        name=KIND_TASKS[kind].value,
        bind=True,
        base=ChunkTask,
        services=services,
        kind=kind,
        ignore_result=True,
    )
    def apply_chunk(task: ChunkTask, /, *args: Any, **kwargs: Any) -> None:
        # Celery puts all headers there.
        delivery = task.delivery(task.request.id, args, kwargs, vars(task.request))
        services.clock.read(latest_sent([delivery]))
        services.retry_policy.with_fallbacks(
            delivery.task_id, delivery.apply, isolate=delivery.isolate, give_up=delivery.give_up
        )
        if kind is Kind.COURSES and delivery.applied and delivery.applied.counts.get("upserted"):
            services.cached.begin_generation()  # Copies of results name the titles of courses.
        task.conclude([delivery])
