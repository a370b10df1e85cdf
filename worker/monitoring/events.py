"""What happened, said twice: as a line of the log, and in numbers for Prometheus."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from producer.contract.routing import KIND_TASKS, TaskName
from producer.schemas import Code, Kind
from worker.batches.apply import Applied, ChunkOutcome
from worker.dead_letters.letters import Reason
from worker.enrollment.rules import Decided, Decisions
from worker.monitoring.metrics import Metrics

log = logging.getLogger(__name__)

_ROWS = {
    "enrolled": "enrolled",
    "already_enrolled": "already_enrolled",
    "upserted": "changed",
    "unchanged": "unchanged",
    "rejected": "rejected",
}
"""The ledger's counts of rows, as their metric calls them."""


class Events:
    """Every process has one; durations are in seconds."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        # What never happened is 0, so that the first time is seen as a rise.
        for code in Code:
            metrics.refusals.labels(code.value)
        for reason in Reason:
            metrics.dead_letters.labels(reason.value)
        for task in (TaskName.ENROLL, *KIND_TASKS.values()):
            metrics.redeliveries.labels(task.value)
        for status, how in product(("enrolled", "partial", "rejected"), ("single", "batch")):
            metrics.requests.labels(status, how)
        for kind, delivered in product(Kind, ChunkOutcome):
            metrics.chunks.labels(kind.value, delivered.value)
        for kind in Kind:
            good = ("enrolled", "already_enrolled")
            if kind is not Kind.ENROLLMENTS:
                good = ("changed", "unchanged")
            for outcome in (*good, "rejected"):
                metrics.rows.labels(kind.value, outcome)

    def requests_decided(
        self, task_ids: Sequence[str], decisions: Decisions, duration: float
    ) -> None:
        """Single requests were decided together."""
        together = len(task_ids)
        for task_id, one in zip(task_ids, decisions.decided, strict=True):
            about: dict[str, Any] = {
                "request_id": one.asked.request_id,
                "task_id": task_id,
                "outcome": one.result.status,
                "duration": round(duration, 6),
            }
            if one.result.errors:
                about["codes"] = sorted({error["code"] for error in one.result.errors})
            if one.repeated:
                about["repeated"] = True
            if together > 1:
                about["together"] = together
            log.info("request decided", extra=about)
            self.metrics.request_duration.observe(duration)
        new = [one for one in decisions.decided if not one.repeated]
        for status, count in Counter(one.result.status for one in new).items():
            self.metrics.requests.labels(status, "single").inc(count)
        self._count_rows(Kind.ENROLLMENTS, sum(map(_rows, new), Counter()))
        self._count_refusals(Counter(error["code"] for one in new for error in one.result.errors))
        for one in new:
            if [error["code"] for error in one.result.errors] == [Code.NOT_PROCESSED]:
                self.dead_letter(Reason.NOT_PROCESSED, request_id=one.asked.request_id)

    def chunk_delivered(self, kind: Kind, task_id: str, applied: Applied, duration: float) -> None:
        """A chunk was applied, or turned out to be none that can be."""
        about = {name: count for name, count in applied.counts.items() if count}
        log.info(
            "chunk delivered",
            extra={
                "batch_id": applied.batch_id,
                "chunk": applied.number,
                "task_id": task_id,
                "kind": kind.value,
                "outcome": applied.outcome.value,
                **about,
                "duration": round(duration, 6),
            },
        )
        self.metrics.chunks.labels(kind.value, applied.outcome.value).inc()
        if applied.outcome is ChunkOutcome.APPLIED:
            self.metrics.chunk_duration.labels(kind.value).observe(duration)
        self._count_rows(kind, {_ROWS[n]: count for n, count in about.items() if n in _ROWS})
        self._count_refusals(applied.refused)
        for status, count in applied.requests.items():
            self.metrics.requests.labels(status, "batch").inc(count)
        for _ in range(applied.poisoned):
            self.dead_letter(Reason.NOT_PROCESSED, batch_id=applied.batch_id)

    def looked_up(self, lookup: str, task_id: str, duration: float) -> None:
        """A question was answered; whoever polls asks often."""
        about = {"lookup": lookup, "task_id": task_id, "duration": round(duration, 6)}
        log.debug("lookup answered", extra=about)
        self.metrics.lookup_duration.labels(lookup.rpartition(".")[2]).observe(duration)

    def dead_letter(self, reason: Reason, why: str = "", **about: Any) -> None:
        """Something was kept as a dead letter."""
        if why:
            about["why"] = why
        log.error("dead letter", extra={"reason": reason.value, **about})
        self.metrics.dead_letters.labels(reason.value).inc()

    def given_back(self, task: str, task_id: str) -> None:
        """A message went back to its queue, to be tried again."""
        log.warning("task given back", extra={"task": task, "task_id": task_id})
        self.metrics.redeliveries.labels(task).inc()

    def recovered(self, messages: int) -> None:
        """Messages of a lost worker or connection went back to their queues."""
        log.warning("messages recovered", extra={"messages": messages})
        self.metrics.recovered.inc(messages)

    def _count_rows(self, kind: Kind, rows: Mapping[str, int]) -> None:
        for outcome, count in rows.items():
            self.metrics.rows.labels(kind.value, outcome).inc(count)

    def _count_refusals(self, codes: Mapping[str, int]) -> None:
        for code, count in codes.items():
            self.metrics.refusals.labels(code).inc(count)


def _rows(one: Decided) -> Counter[str]:
    """The rows of a single request: a course that it asks for is one."""
    already, errors = len(one.result.already), len(one.result.errors)
    asked = len(one.asked.request.course_ids) if one.asked.request else 1
    return Counter(
        enrolled=len(one.result.enrolled) - already,
        already_enrolled=already,
        rejected=asked if one.result.status == "rejected" else errors,
    )
