"""Check whether a worker has a process left for single requests while it makes a plan."""

from collections.abc import Collection, Iterator

from producer.contract.findings import Finding, warning
from producer.contract.routing import Queue
from worker.messaging.plans_due import ENOUGH_PROCESSES


class WorkerProcesses:
    """How many processes a worker has, and which queues it serves; noted before the pool forks."""

    def __init__(self) -> None:
        self._count = ENOUGH_PROCESSES
        self._queues: frozenset[str] = frozenset()

    def note(self, count: int, queues: Collection[str]) -> None:
        """Note what the worker was started with."""
        self._count, self._queues = count, frozenset(queues)

    def check(self) -> Iterator[Finding]:
        """Yield a warning if the only process also serves what must not wait for a plan."""
        others = sorted(self._queues - {Queue.BATCHES})
        if self._count >= ENOUGH_PROCESSES or Queue.BATCHES not in self._queues or not others:
            return
        found = (
            f"the only process of this worker serves the queues {', '.join(others)} and batches."
            " While it makes the plan of a large file, or applies it, single requests and lookups"
            " wait"
        )
        remedy = (
            f"Start the worker with --concurrency {ENOUGH_PROCESSES} or more, or let another worker"
            f" serve batches: -Q {Queue.BATCHES}."
        )
        yield warning("processes", found, remedy)
