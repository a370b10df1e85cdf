"""The worker's numbers: counted in every process, for `worker.exporter` to put together."""

import atexit
import os
import shutil
import tempfile
from typing import Any

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
        mine: dict[str, Any] = {"registry": CollectorRegistry()}
        self.requests = Counter(
            "enrollment_requests",
            "Requests that were decided, by the status of their results and by how they came.",
            ["outcome", "how"],
            **mine,
        )
        self.rows = Counter(
            "enrollment_rows",
            "Rows that were decided: pairs of student and course, or records of a roster.",
            ["kind", "outcome"],
            **mine,
        )
        self.refusals = Counter(
            "enrollment_refusals",
            "Refusals of lines and single requests by code.",
            ["code"],
            **mine,
        )
        self.chunks = Counter(
            "enrollment_chunks",
            "Deliveries of chunks by what became of them.",
            ["kind", "outcome"],
            **mine,
        )
        self.chunk_duration = Histogram(
            "enrollment_chunk_duration_seconds",
            "Time to apply a chunk, committed.",
            ["kind"],
            buckets=CHUNK_SECONDS,
            **mine,
        )
        self.request_duration = Histogram(
            "enrollment_request_duration_seconds",
            "Time to decide a single request, committed; those decided together share it.",
            buckets=CALL_SECONDS,
            **mine,
        )
        self.lookup_duration = Histogram(
            "enrollment_lookup_duration_seconds",
            "Time to answer a lookup.",
            ["lookup"],
            buckets=CALL_SECONDS,
            **mine,
        )
        self.redeliveries = Counter(
            "enrollment_redeliveries",
            "Messages that were given back to their queue, to be tried again.",
            ["task"],
            **mine,
        )
        self.recovered = Counter(
            "enrollment_recovered_messages",
            "Messages of lost workers and connections that this worker gave back.",
            **mine,
        )
        self.dead_letters = Counter(
            "enrollment_dead_letters", "New dead letters by their reason.", ["reason"], **mine
        )
        self.database_wait = Counter(
            "enrollment_database_wait_seconds",
            "Time that processes waited for an absent database; its rate is how many wait.",
            **mine,
        )


def _temporary_folder() -> str:
    """A folder that goes when this process ends; a forked one leaves it alone."""
    folder, owner = tempfile.mkdtemp(prefix="enroll-metrics-"), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
