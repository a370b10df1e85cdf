"""Give tasks the services that they use, as one typed object."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from celery import Task

from worker.database.engine import Database
from worker.messaging import plugins
from worker.messaging.attempts import Attempts
from worker.messaging.backlog import Backlog
from worker.messaging.cached import CachedAnswers
from worker.messaging.clock import RedisClock
from worker.messaging.marks import SubmissionMarks
from worker.messaging.plans_due import PlansDue
from worker.messaging.quarantine import keep_message
from worker.messaging.registration import DatabaseRegister
from worker.models import LetterReason
from worker.monitoring.events import Events
from worker.monitoring.process_checks import WorkerProcesses
from worker.plans.holder import Turns
from worker.plans.times import Expiry
from worker.recovery.retry_policy import RetryPolicy
from worker.tasks.advancing import advance, help_to_apply


@dataclass(frozen=True)
class Services:
    """The services that tasks use. Made before the pool forks; none connects before that."""

    database: Database
    marks: SubmissionMarks
    cached: CachedAnswers
    clock: RedisClock
    backlog: Backlog
    attempts: Attempts
    retry_policy: RetryPolicy
    events: Events
    register: DatabaseRegister
    plans_due: PlansDue
    processes: WorkerProcesses
    expiry: Expiry
    one_redis: bool
    """Whether the attempts and the marks and results are in the same Redis."""
    store_refusal: Callable[[str, str], None]
    """Store the reason why a message was refused, by task id, for the client that waits."""
    plan_turns: Turns = field(default_factory=Turns)

    def quarantine(self, raw: bytes, queue: str, reason: str) -> None:
        """Store a malformed message as a dead letter, and report the reason to its client.

        Raises DBAPIError.
        """
        ids = self.retry_policy.through_outage(
            lambda: keep_message(self.database, raw, queue, reason)
        )
        known_ids = {name: value for name, value in ids._asdict().items() if value is not None}
        self.events.dead_letter(LetterReason.MALFORMED, reason, queue=queue, **known_ids)
        if ids.task_id is not None:
            self.store_refusal(ids.task_id, reason)
        if ids.request_id is not None:
            self.marks.remove([self.marks.keys.request(ids.request_id)])

    def advance_plans(self) -> bool:
        """Do a step of a plan that is due; return whether another one may be due."""
        return advance(self)

    def help_with_plans(self) -> bool:
        """Apply a chunk of a plan that another process applies; return whether to go on."""
        return help_to_apply(self)


class ServicedTask(Task):
    """A task that changes data. It carries the services, and its failures are counted."""

    Request = plugins.REQUEST
    services: ClassVar[Services]
