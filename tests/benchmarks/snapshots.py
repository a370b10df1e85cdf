"""Measure a snapshot that changes nothing, end to end, against the same batch without a plan."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import rig
from producer.client import EnrollmentClient
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import PlanState
from producer.files.reader import open_source
from support.databases import opened_database
from worker.data_sets.repository import allow_snapshots, data_set_key
from worker.database.clock import database_time

if TYPE_CHECKING:
    from benchmarks.bench import Bench

NAME = "sis:bench"


def measure(bench: "Bench") -> None:
    """Submit a snapshot twice; the second one is measured. `Bench.batches` comes first."""
    pairs = rig.pairs_by_student()
    requests = rig.write_requests(bench.rig.folder / "requests.jsonl", pairs)
    with bench.rig.database() as url, bench.deployment(url), bench.client() as client:
        with opened_database(url) as database, database.writing() as connection:
            now = database_time(connection)
            assert now is not None
            allow_snapshots(connection, data_set_key(connection, NAME, now))
        first = snapshot_seconds(client, requests, "night-1", enrolled=len(pairs))
        bench.note("snapshot_rows_per_s", len(pairs) / first)
        again = snapshot_seconds(client, requests, "night-2", enrolled=0)
        repeat = bench.note("snapshot_repeat_rows_per_s", len(pairs) / again)
    bench.ratios["snapshot_repeat"] = repeat / bench.figures["repeat_rows_per_s"]


def snapshot_seconds(
    client: EnrollmentClient, path: Path, batch_id: str, *, enrolled: int
) -> float:
    """Return the seconds from the first byte read until the snapshot was applied."""
    started = time.perf_counter()
    source = open_source(path, None, {})
    request = PlanRequest(
        id=batch_id,
        members=(PlanMember(batch_id=batch_id, kind=source.kind),),
        purpose=PlanPurpose.APPLY,
        snapshot=True,
    )
    client.submit_batch(
        source.kind, source.records(), batch_id=batch_id, data_set=NAME, plan=request
    )
    while (status := client.plan(batch_id)).state is not PlanState.DONE:
        assert status.state not in (PlanState.HELD, PlanState.DISCARDED), status
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    (batch,) = status.batches
    assert batch.books.enrolled == enrolled, batch
    return seconds
