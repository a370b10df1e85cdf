"""Measure undo: a batch of fresh rows is undone, compared with dropping them by a file."""

import time
from typing import TYPE_CHECKING

import psutil

from benchmarks import rig
from benchmarks.drops import submit
from producer.client import EnrollmentClient
from worker.database.engine import Database
from worker.undo.run import undo

if TYPE_CHECKING:
    from benchmarks.bench import Bench

MEGABYTE = 2**20


def measure(bench: "Bench") -> None:
    """Undo a million fresh rows, and then drop as many by file, in the same database."""
    pairs = rig.pairs_by_student()
    requests = rig.write_requests(bench.rig.folder / "requests.jsonl", pairs)
    drops = rig.write_requests(bench.rig.folder / "drops.jsonl", pairs, "drop_course_ids")
    with bench.rig.database() as url, bench.deployment(url), bench.client() as client:
        submit(client, requests)
        undone = _undo(bench, client, url, len(pairs))
        submit(client, requests)
        dropped = bench.note("drop_after_undo_rows_per_s", len(pairs) / submit(client, drops))
    bench.ratios["undo_vs_drop"] = bench.note("undo_rows_per_s", undone) / dropped


def _undo(bench: "Bench", client: EnrollmentClient, url: str, rows: int) -> float:
    """Undo the newest batch; return how many rows were undone in a second."""
    (batch,) = client.recent_batches(limit=1)
    database, process = Database(url), psutil.Process()
    sizes: list[int] = []
    started = time.perf_counter()
    report = undo(
        database, batch.batch_id, on_chunk=lambda: sizes.append(process.memory_info().rss)
    )
    seconds = time.perf_counter() - started
    database.close()
    assert report.counts["dropped"] == rows, report.counts
    # The first chunks fill caches of statements and of the allocator.
    middle = len(sizes) // 2
    bench.note("undo_memory_mb", sizes[-1] / MEGABYTE)
    bench.ratios["undo_memory_growth"] = max(sizes) / sizes[middle]
    return rows / seconds
