"""Measure a plan of a batch against applying it: one process does both."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from benchmarks import rig
from producer.files.reader import open_source
from producer.publishing.chunking import split_into_chunks
from producer.schemas import Kind
from support.databases import opened_database
from support.planning import Member, plan_input, store_plan
from worker.batches.apply import apply_chunk
from worker.database.engine import Database
from worker.plans.temporary.making import PlanInput, make_plan

if TYPE_CHECKING:
    from benchmarks.bench import Bench

ROWS = rig.STUDENTS * rig.COURSES_EACH


def measure(bench: "Bench") -> None:
    """Compare making the plan of a million enrollments with applying them."""
    path = rig.write_requests(bench.rig.folder / "requests.jsonl", rig.pairs_by_student())
    chunks = split_into_chunks("planned", open_source(path, None, {}).records())
    moment = datetime.now(UTC)
    member = Member("planned", Kind.ENROLLMENTS, [chunk.text for chunk in chunks], moment)
    plan = plan_input([member], moment)
    with bench.rig.database() as url, opened_database(url) as database:
        store_plan(database, plan)
        planning = plan_seconds(database, plan)
        applying = apply_seconds(database, member)
    # Once more, because the speed of the machine changes.
    with bench.rig.database() as url, opened_database(url) as database:
        store_plan(database, plan)
        planning += plan_seconds(database, plan)
    bench.note("plan_rows_per_s", 2 * ROWS / planning)
    bench.note("one_process_rows_per_s", ROWS / applying)
    bench.ratios["plan_vs_run"] = 2 * applying / planning


def plan_seconds(database: Database, plan: PlanInput) -> float:
    """Return how long one process takes to make a plan and to store its report, in seconds."""
    started = time.perf_counter()
    made = make_plan(database, plan, lambda *_: None, on_chunk=lambda: None)
    seconds = time.perf_counter() - started
    assert made.batches[0].books.enrolled == ROWS, made.batches
    return seconds


def apply_seconds(database: Database, member: Member) -> float:
    """Return how long one process takes to apply the same chunks, in seconds."""
    started = time.perf_counter()
    counts = [
        apply_chunk(database, Kind.ENROLLMENTS, text, origin=member.origin).counts["enrolled"]
        for text in member.chunks
    ]
    seconds = time.perf_counter() - started
    assert sum(counts) == ROWS, sum(counts)
    return seconds
