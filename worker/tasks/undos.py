"""Define the tasks that undo a batch: the dry run, and the undo itself."""

import logging
import time
from functools import partial
from typing import Any, Final

from celery import Celery, states
from celery.exceptions import Reject

from producer.contract.lookup_arguments import TEXT
from producer.contract.routing import TaskName
from producer.contract.undos import BatchUndo, UndoState
from worker.tasks.answer import to_json
from worker.tasks.asking import Unanswerable, answered, checked, is_too_old, registering
from worker.tasks.services import ServicedTask, Services
from worker.undo.reports import done, done_before, preview, refuse_waiting, refused, running
from worker.undo.run import undo as undo_batch
from worker.undo.start import has_begun, undo_id_of
from worker.undo.values import AlreadyUndone, CannotUndo, UndoneElsewhere

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 2.0
"""Seconds after which the client of an undo gets an answer, although a part is still to be done."""

TURN_SECONDS: Final = 20.0
"""Seconds after which a long undo goes back to its queue, so that other work has its turn."""

BUSY_SECONDS: Final = 2.0
"""Seconds for which a task is kept waiting by the locks of others. Then an undo is requeued, and a
dry run fails, so that the process is free for lookups."""


class UndoTask(ServicedTask):
    """The task `enrollment.undo`: its message is acknowledged once the batch is undone.

    A message that comes again continues with the next part. The client of a long undo does not wait
    for its end: it is answered after the part during which `ANSWER_SECONDS` have passed.
    """

    def undo(self, batch_id: str) -> BatchUndo:
        """Undo a batch, and return its state. Raises Reject if the rest is to be done later."""
        services = self.services
        services.clock.read()
        started, has_answered = time.monotonic(), False

        def on_applied() -> None:
            nonlocal has_answered
            seconds = time.monotonic() - started
            if seconds > ANSWER_SECONDS and not has_answered:
                has_answered = True
                self.answer_early(running(services.database, batch_id))
            if seconds > TURN_SECONDS:
                raise Reject("A long undo lets other work have its turn", requeue=True)

        try:
            if (refusal := refuse_waiting(services.database, batch_id)) is not None:
                return refusal
            services.cached.begin_generation()  # Copies say that chunks may still be applied.
            run = partial(undo_batch, services.database, batch_id, clock=services.clock)
            report = run(on_applied=on_applied, busy_seconds=BUSY_SECONDS)
        except AlreadyUndone as error:
            return done_before(services.database, batch_id, error)
        except UndoneElsewhere:
            return running(services.database, batch_id)
        except CannotUndo as error:
            return refused(batch_id, error)
        services.cached.begin_generation()
        log.info("batch undone", extra={"batch_id": batch_id, "undo_id": report.undo_id})
        return done(report)

    def answer_early(self, status: BatchUndo) -> None:
        """Store an answer for the client while the task goes on."""
        request = self.request
        try:
            answer = to_json(status)
            self.backend.store_result(request.id, answer, states.SUCCESS, request=request)
        except Exception as error:  # noqa: BLE001 - a backend may raise anything
            log.warning("The client of an undo could not be answered early: %s", error)


def register_undos(app: Celery, services: Services) -> None:
    """Register the tasks that undo batches.

    They only get here from the queue of decisions (`worker.messaging.envelope.check_queue`).
    """
    lookup = registering(app, services)

    @lookup(name=TaskName.REHEARSE_UNDO.value)
    def rehearse_undo(batch_id: Any) -> Any:
        checked_id = checked(TEXT, batch_id, "batch_id")
        look = partial(preview, services.database, checked_id, clock=services.clock)
        return answered(services, partial(look, busy_seconds=BUSY_SECONDS))

    @app.task(
        shared=False,
        name=TaskName.UNDO.value,
        bind=True,
        base=UndoTask,
        services=services,
        throws=(Unanswerable,),
    )
    def undo(task: UndoTask, /, *args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or kwargs:
            raise Unanswerable("the arguments do not fit this task: it takes the id of a batch")
        batch_id = checked(TEXT, args[0], "batch_id")
        if is_too_old(task.request.properties) and not _has_begun(services, batch_id):
            raise Unanswerable("the message waited in the queue for too long; undo the batch again")

        def give_up() -> BatchUndo:
            advice = (
                "The undo failed several times. Ask the operator for the reason, which is in the"
                " worker's log; then undo the batch again to do the rest."
            )
            refusal = {"undo_id": undo_id_of(batch_id), "advice": advice}
            return BatchUndo(batch_id=batch_id, state=UndoState.REFUSED, **refusal)

        with_fallbacks = services.retry_policy.with_fallbacks
        work = partial(task.undo, batch_id)
        return to_json(with_fallbacks(task.request.id, work, isolate=give_up, give_up=give_up))


def _has_begun(services: Services, batch_id: str) -> bool:
    """Return whether the undo of a batch is stored, so that it is to be finished."""
    return services.retry_policy.through_outage(partial(has_begun, services.database, batch_id))
