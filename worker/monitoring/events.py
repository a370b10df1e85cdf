"""What happened, said twice: as a line of the log, and in numbers for Prometheus."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, product
from typing import Any

from producer.contract.routing import KIND_TASKS, TaskName
from producer.schemas import Code, Kind, ResultStatus
from worker.batches.apply import Applied, ChunkOutcome
from worker.enrollment.rules import Decisions
from worker.models import LetterReason
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
        for reason in LetterReason:
            metrics.dead_letters.labels(reason.value)
        for task in (TaskName.ENROLL, *KIND_TASKS.values()):
            metrics.redeliveries.labels(task.value)
        for status, how in product(ResultStatus, ("single", "batch")):
            metrics.requests.labels(status.value, how)
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
        for task_id, decision in zip(task_ids, decisions.decided, strict=True):
            result = decision.result
            about: dict[str, Any] = {
                "request_id": decision.incoming.request_id,
                "task_id": task_id,
                "outcome": result.status.value,
                "duration": round(duration, 6),
            }
            if result.errors:
                about["codes"] = sorted({error.code.value for error in result.errors})
            if decision.is_repeat:
                about["repeated"] = True
            if together > 1:
                about["together"] = together
            log.info("request decided", extra=about)
            self.metrics.request_duration.observe(duration)
        new = [decision for decision in decisions.decided if not decision.is_repeat]
        for status, count in Counter(decision.result.status for decision in new).items():
            self.metrics.requests.labels(status.value, "single").inc(count)
        rows: Counter[str] = Counter()
        for decision in new:
            request = decision.incoming.request
            of_request = decision.count_rows(len(request.course_ids) if request else 1)
            rows.update(of_request._asdict())
        self._count_rows(Kind.ENROLLMENTS, rows)
        codes = [[error.code.value for error in decision.result.errors] for decision in new]
        self._count_refusals(Counter(chain.from_iterable(codes)))
        for decision, of_request_codes in zip(new, codes, strict=True):
            if of_request_codes == [Code.NOT_PROCESSED]:
                request_id = decision.incoming.request_id
                self.dead_letter(LetterReason.NOT_PROCESSED, request_id=request_id)

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
            self.metrics.requests.labels(status.value, "batch").inc(count)
        for _ in range(applied.poisoned):
            self.dead_letter(LetterReason.NOT_PROCESSED, batch_id=applied.batch_id)

    def looked_up(self, lookup: str, task_id: str, duration: float) -> None:
        """A question was answered; whoever polls asks often."""
        about = {"lookup": lookup, "task_id": task_id, "duration": round(duration, 6)}
        log.debug("lookup answered", extra=about)
        self.metrics.lookup_duration.labels(lookup.rpartition(".")[2]).observe(duration)

    def dead_letter(self, reason: LetterReason, why: str = "", **about: Any) -> None:
        """Something was kept as a dead letter."""
        if why:
            about["why"] = why
        log.error("dead letter", extra={"reason": reason.value, **about})
        self.metrics.dead_letters.labels(reason.value).inc()

    def requeued(self, task: str, task_id: str) -> None:
        """A message went back to its queue, to be tried again."""
        log.warning("task requeued", extra={"task": task, "task_id": task_id})
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
