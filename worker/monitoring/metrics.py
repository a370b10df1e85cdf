"""Count in every process; `worker.monitoring.exporter` puts the numbers together."""

import atexit
import os
import shutil
import tempfile

from prometheus_client import CollectorRegistry, Counter, Histogram

from worker.messaging import patches

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that tells prometheus-client where processes put their numbers together."""

CHUNK_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100)
CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 100)


class Metrics:
    """What is counted. Made before the pool is forked; each process has its own numbers then.

    With `served` they are put together in files of a temporary folder.
    """

    def __init__(self, *, served: bool = False) -> None:
        if served:
            os.environ[FOLDER] = _temporary_folder()
            patches.count_in_all_processes()
        # Never asked: what is served is read from the files of all processes.
        self._registry = CollectorRegistry()
        self.requests = self._counter(
            "requests",
            "Requests that were decided, by the status of their results and by how they came.",
            "outcome",
            "how",
        )
        self.rows = self._counter(
            "rows",
            "Rows that were decided: pairs of student and course, or records of a roster.",
            "kind",
            "outcome",
        )
        self.refusals = self._counter(
            "refusals", "Refusals of lines and single requests by code.", "code"
        )
        self.chunks = self._counter(
            "chunks", "Deliveries of chunks by what became of them.", "kind", "outcome"
        )
        self.redeliveries = self._counter(
            "redeliveries", "Messages that were requeued, to be tried again.", "task"
        )
        self.recovered = self._counter(
            "recovered_messages",
            "Messages of lost workers and connections that this worker requeued.",
        )
        self.dead_letters = self._counter(
            "dead_letters", "New dead letters by their reason.", "reason"
        )
        self.database_wait = self._counter(
            "database_wait_seconds",
            "Time that processes waited for an absent database; its rate is how many wait.",
        )
        self._time()

    def _time(self) -> None:
        self.chunk_duration = self._histogram(
            "chunk", "Time to apply a chunk, committed.", CHUNK_SECONDS, "kind"
        )
        self.request_duration = self._histogram(
            "request",
            "Time to decide a single request, committed; those decided together share it.",
            CALL_SECONDS,
        )
        self.lookup_duration = self._histogram(
            "lookup", "Time to answer a lookup.", CALL_SECONDS, "lookup"
        )

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"enrollment_{name}", about, labels, registry=self._registry)

    def _histogram(
        self, name: str, about: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"enrollment_{name}_duration_seconds",
            about,
            labels,
            registry=self._registry,
            buckets=buckets,
        )


def _temporary_folder() -> str:
    """A folder that goes when this process ends; a forked one leaves it alone."""
    folder, owner = tempfile.mkdtemp(prefix="enroll-metrics-"), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
