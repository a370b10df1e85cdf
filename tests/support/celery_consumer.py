"""Stand in for Celery's consumer and pool, for the tests of grouping; the requests are real."""

from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.concurrency.base import BasePool
from celery.worker.request import Request
from kombu.common import QoS
from kombu.message import Message
from kombu.utils.json import dumps

from worker.messaging.grouping import GroupingConsumer

PREFETCH = 2

app = Celery(set_as_current=False)
app.conf.task_acks_late = True


def _enroll() -> None: ...


enroll: Any = app.task(name="enroll", soft_time_limit=100, time_limit=120, shared=False)(_enroll)


class HeldPool(BasePool):  # type: ignore[misc]
    """A pool of Celery whose jobs are done by the test; with `refuses`, it accepts none."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[tuple[Callable[..., Any], Any, dict[str, Any]]] = []
        self.refuses = False

    def on_apply(self, target: Any, args: Any, kwargs: Any, **options: Any) -> None:
        assert not kwargs
        if self.refuses:
            raise RecursionError
        self.jobs.append((target, args, options))

    @property
    def groups(self) -> list[list[str]]:
        """The ids of the requests of each group that was started."""
        return [[queued.task_id for queued in args[1]] for _, args, _ in self.jobs]

    def end(self, *, failed: bool = False) -> None:
        """End the running group, as its process does."""
        self.jobs[-1][2]["callback"](failed)

    def lose(self) -> None:
        """End the running group, as the loss of its process does."""
        try:
            self._process_is_lost()
        except WorkerLostError:
            self.jobs[-1][2]["error_callback"](ExceptionInfo())

    def _process_is_lost(self) -> None:
        raise WorkerLostError("it was killed")


class CeleryConsumer:
    """What a GroupingConsumer uses of Celery's consumer."""

    def __init__(self) -> None:
        self.pool = HeldPool()
        self.run_singly: list[str] = []
        self.acknowledged: list[str] = []
        self.cannot_take: str | None = None
        self.quarantined: list[tuple[Any, str]] = []
        self.hostname = "here"
        self.connect()

    def connect(self) -> None:
        """Connect to the broker again."""
        self.qos = QoS(lambda **_: None, PREFETCH)

    def on_task_request(self, request: Request) -> None:
        if request.id == self.cannot_take:
            raise RecursionError
        self.run_singly.append(request.id)

    def quarantine(self, message: Any, reason: str) -> None:
        self.quarantined.append((message, reason))


def request(consumer: CeleryConsumer, task_id: str, payload: Any = None, **headers: Any) -> Request:
    """Return Celery's own request for a message; its acknowledgement is noted."""
    empty = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = dumps([[{"student_id": task_id}], {}, empty] if payload is None else payload)
    message = Message(
        body,
        content_type="application/json",
        content_encoding="utf-8",
        headers={"id": task_id, "task": enroll.name, "argsrepr": "(…)", **headers},
        accept={"application/json"},
    )
    # As Celery's strategy does: a message of an older protocol is a dictionary.
    older = {"body": ([], {}, empty), "decoded": True} if isinstance(payload, dict) else {}
    return Request(
        message,
        **older,
        app=app,
        task=enroll,
        on_ack=lambda *_: consumer.acknowledged.append(task_id),
    )


def arrive(grouping: GroupingConsumer, consumer: CeleryConsumer, *task_ids: str) -> None:
    for task_id in task_ids:
        grouping.on_task_request(request(consumer, task_id))


def names(start: int, stop: int) -> list[str]:
    return [f"r{number}" for number in range(start, stop)]
