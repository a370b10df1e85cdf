"""Report what happened, both as a log line and in the metrics."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain, product
from typing import Any

from producer.contract.chunks import count_rows
from producer.contract.routing import KIND_TASKS, TaskName
from producer.schemas import Code, Kind, ResultStatus
from worker.batches.apply import Applied, ChunkOutcome
from worker.database.errors import sqlstate_of
from worker.enrollment.rules import Decisions
from worker.models import LetterReason
from worker.monitoring.metrics import Metrics
from worker.plans.reports.repository import UNFINISHED_STATES, Unfinished

log = logging.getLogger(__name__)

_ROWS = {
    "enrolled": "enrolled",
    "already_enrolled": "already_enrolled",
    "dropped": "dropped",
    "not_enrolled": "not_enrolled",
    "upserted": "changed",
    "unchanged": "unchanged",
    "superseded": "superseded",
    "rejected": "rejected",
}
"""The name that the metric of rows gives to each count of the ledger."""

_ENROLLED = ("enrolled", "already_enrolled", "dropped", "not_enrolled", "superseded")


class Events:
    """Reports the events of one process. Durations are in seconds."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        # Start every series at 0, so that its first event shows as an increase.
        for code in Code:
            metrics.refusals.labels(code.value)
        for reason in LetterReason:
            metrics.dead_letters.labels(reason.value)
        for task in (TaskName.ENROLL, TaskName.UNDO, *KIND_TASKS.values()):
            metrics.redeliveries.labels(task.value)
        for status, how in product(ResultStatus, ("single", "batch")):
            metrics.requests.labels(status.value, how)
        for kind, chunk_outcome in product(Kind, ChunkOutcome):
            metrics.chunks.labels(kind.value, chunk_outcome.value)
        for kind in Kind:
            is_roster = kind is not Kind.ENROLLMENTS
            accepted = ("changed", "unchanged", "superseded")
            for outcome in (*(accepted if is_roster else _ENROLLED), "rejected"):
                metrics.rows.labels(kind.value, outcome)

    def plans_counted(self, unfinished: Sequence[Unfinished], now: datetime) -> None:
        """Report which plans have not ended, as the database says."""
        by_state = {counted.state: counted for counted in unfinished}
        for state in UNFINISHED_STATES:
            counted = by_state.get(state)
            age = 0.0 if counted is None else (now - counted.since).total_seconds()
            self.metrics.plans.labels(state.value).set(0 if counted is None else counted.plans)
            self.metrics.plans_oldest.labels(state.value).set(max(0.0, age))

    def database_refused(self, error: BaseException) -> None:
        """Report that work was requeued because the database refused it, or was unreachable."""
        self.metrics.database_refusals.labels(sqlstate_of(error) or "none").inc()

    def requests_decided(
        self, task_ids: Sequence[str], decisions: Decisions, duration: float
    ) -> None:
        """Report single requests that were decided together."""
        together = len(task_ids)
        for task_id, decision in zip(task_ids, decisions.decided, strict=True):
            result = decision.result
            fields: dict[str, Any] = {
                "request_id": decision.incoming.request_id,
                "task_id": task_id,
                "outcome": result.status.value,
                "duration": round(duration, 6),
            }
            if result.errors:
                fields["codes"] = sorted({error.code.value for error in result.errors})
            if decision.is_repeat:
                fields["repeated"] = True
            if together > 1:
                fields["together"] = together
            log.info("request decided", extra=fields)
            self.metrics.request_duration.observe(duration)
        new = [decision for decision in decisions.decided if not decision.is_repeat]
        for status, count in Counter(decision.result.status for decision in new).items():
            self.metrics.requests.labels(status.value, "single").inc(count)
        rows: Counter[str] = Counter()
        for decision in new:
            request = decision.incoming.request
            request_counts = decision.count_rows(count_rows(request) if request else 1)
            rows.update(request_counts._asdict())
        self._count_rows(Kind.ENROLLMENTS, rows)
        codes = [[error.code.value for error in decision.result.errors] for decision in new]
        self._count_refusals(Counter(chain.from_iterable(codes)))
        for decision, request_codes in zip(new, codes, strict=True):
            if request_codes == [Code.NOT_PROCESSED]:
                request_id = decision.incoming.request_id
                self.dead_letter(LetterReason.NOT_PROCESSED, request_id=request_id)

    def chunk_delivered(
        self, kind: Kind, task_id: str, applied: Applied, duration: float, together: int = 1
    ) -> None:
        """Report a delivery of a chunk: applied, repeated, or in conflict with an earlier one.

        `together` is the number of chunks in its transaction.
        """
        counts = {name: count for name, count in applied.counts.items() if count}
        group = {"together": together} if together > 1 else {}
        log.info(
            "chunk delivered",
            extra={
                "batch_id": applied.batch_id,
                "chunk": applied.number,
                "task_id": task_id,
                "kind": kind.value,
                "outcome": applied.outcome.value,
                **counts,
                **group,
                "duration": round(duration, 6),
            },
        )
        self.metrics.chunks.labels(kind.value, applied.outcome.value).inc()
        if applied.outcome is ChunkOutcome.APPLIED:
            self.metrics.chunk_duration.labels(kind.value).observe(duration)
        self._count_rows(kind, {_ROWS[n]: count for n, count in counts.items() if n in _ROWS})
        self._count_refusals(applied.refused)
        for status, count in applied.requests.items():
            self.metrics.requests.labels(status.value, "batch").inc(count)
        for _ in range(applied.poisoned):
            self.dead_letter(LetterReason.NOT_PROCESSED, batch_id=applied.batch_id)

    def looked_up(self, lookup: str, task_id: str, duration: float) -> None:
        """Report an answered lookup, at debug level only, because clients poll often."""
        fields = {"lookup": lookup, "task_id": task_id, "duration": round(duration, 6)}
        log.debug("lookup answered", extra=fields)
        self.metrics.lookup_duration.labels(lookup.rpartition(".")[2]).observe(duration)

    def dead_letter(self, reason: LetterReason, why: str = "", **fields: Any) -> None:
        """Report a new dead letter."""
        if why:
            fields["why"] = why
        log.error("dead letter", extra={"reason": reason.value, **fields})
        self.metrics.dead_letters.labels(reason.value).inc()

    def requeued(self, task: str, task_id: str) -> None:
        """Report a message that went back to its queue to be tried again."""
        log.warning("task requeued", extra={"task": task, "task_id": task_id})
        self.metrics.redeliveries.labels(task).inc()

    def recovered(self, messages: int) -> None:
        """Report messages of a lost worker or connection that went back to their queues."""
        log.warning("messages recovered", extra={"messages": messages})
        self.metrics.recovered.inc(messages)

    def _count_rows(self, kind: Kind, rows: Mapping[str, int]) -> None:
        for outcome, count in rows.items():
            self.metrics.rows.labels(kind.value, outcome).inc(count)

    def _count_refusals(self, codes: Mapping[str, int]) -> None:
        for code, count in codes.items():
            self.metrics.refusals.labels(code).inc(count)
