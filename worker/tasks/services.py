"""Hold what tasks work with, and hand it to them as one typed object."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from celery import Task

from producer.contract.marks import request_key
from worker.database.engine import Database
from worker.messaging import plugins
from worker.messaging.attempts import Attempts
from worker.messaging.marks import SubmissionMarks
from worker.messaging.quarantine import keep_message
from worker.models import LetterReason
from worker.monitoring.events import Events
from worker.recovery.retry_policy import RetryPolicy


@dataclass(frozen=True)
class Services:
    """What tasks work with. Made before the pool is forked; nothing in it has connected by then."""

    database: Database
    marks: SubmissionMarks
    attempts: Attempts
    retry_policy: RetryPolicy
    events: Events
    store_refusal: Callable[[str, str], None]
    """Tell the client that waits for a task, by its id, why its message was refused."""

    def quarantine(self, raw: bytes, queue: str, reason: str) -> None:
        """Keep a message that cannot be understood as a dead letter, and tell its sender.

        Raises DBAPIError.
        """
        ids = self.retry_policy.through_outage(
            lambda: keep_message(self.database, raw, queue, reason)
        )
        known = {name: value for name, value in ids._asdict().items() if value is not None}
        self.events.dead_letter(LetterReason.MALFORMED, reason, queue=queue, **known)
        if ids.task_id is not None:
            self.store_refusal(ids.task_id, reason)
        if ids.request_id is not None:
            self.marks.remove([request_key(ids.request_id)])


class ServicedTask(Task):
    """A task that changes something: carries the services, and what happens to it is counted."""

    Request = plugins.REQUEST
    services: ClassVar[Services]
