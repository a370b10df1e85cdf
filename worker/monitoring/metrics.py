"""Count events in every process; `worker.monitoring.exporter` serves the sums."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from worker.messaging import patches
from worker.monitoring.shared_folder import make_shared_folder

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which processes share their numbers."""

CHUNK_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100)
CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 100)


class Metrics:
    """The metrics of a worker, made before the pool forks. Each process has its own numbers.

    With `served`, all processes write their numbers to files in a shared temporary folder.
    """

    def __init__(self, *, served: bool = False) -> None:
        if served:
            os.environ[FOLDER] = make_shared_folder()
            patches.count_in_all_processes()
        # Never read: the exporter reads the files of all processes.
        self._registry = CollectorRegistry()
        self.requests = self._counter(
            "requests",
            "Decided requests, by the status of their results and by whether they were in a batch.",
            "outcome",
            "how",
        )
        self.rows = self._counter(
            "rows",
            "Decided rows: pairs of student and course, or records of a roster.",
            "kind",
            "outcome",
        )
        self.refusals = self._counter(
            "refusals", "Refused lines of batches and problems of single requests, by code.", "code"
        )
        self.chunks = self._counter(
            "chunks", "Deliveries of chunks, by their outcome.", "kind", "outcome"
        )
        self.redeliveries = self._counter(
            "redeliveries", "Messages that were requeued, to be tried again.", "task"
        )
        self.recovered = self._counter(
            "recovered_messages",
            "Messages of lost workers and connections that this worker requeued.",
        )
        self.dead_letters = self._counter("dead_letters", "New dead letters, by reason.", "reason")
        self.database_wait = self._counter(
            "database_wait_seconds",
            "Seconds that processes waited for the database; its rate is how many are waiting.",
        )
        self.database_refusals = self._counter(
            "database_refusals",
            "Attempts that were requeued because of the database, by SQLSTATE.",
            "sqlstate",
        )
        self._time()
        self._plans()

    def _plans(self) -> None:
        self.plans = self._gauge("plans", "Plans that have not ended, by state.", "state")
        self.plans_oldest = self._gauge(
            "plans_oldest_seconds",
            "Seconds since the first of the plans in a state was stored, or since its report was"
            " made.",
            "state",
        )

    def _time(self) -> None:
        self.chunk_duration = self._histogram(
            "chunk", "Seconds to apply a chunk, including the commit.", CHUNK_SECONDS, "kind"
        )
        self.request_duration = self._histogram(
            "request",
            "Seconds to decide a single request, including the commit; a group shares one time.",
            CALL_SECONDS,
        )
        self.lookup_duration = self._histogram(
            "lookup", "Seconds to answer a lookup.", CALL_SECONDS, "lookup"
        )

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"enrollment_{name}", help_text, labels, registry=self._registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        """Return a number about the whole database: what was read last counts."""
        return Gauge(
            f"enrollment_{name}",
            help_text,
            labels,
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )

    def _histogram(
        self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"enrollment_{name}_duration_seconds",
            help_text,
            labels,
            registry=self._registry,
            buckets=buckets,
        )
