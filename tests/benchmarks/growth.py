"""How cost grows with worker processes, rows and courses: the figures of docs/scaling.md.

python tests/benchmarks/growth.py [MILLION_ROWS] (with PYTHONPATH=tests); 4 by default.
"""

import gc
import random
import sys
import time
from pathlib import Path

import psycopg

from benchmarks import rig
from producer.client import EnrollmentClient
from producer.contract.routing import Queue
from producer.files.reader import open_source
from producer.schemas import Kind
from support.rosters import submit_and_finish
from support.workers import running_worker

ROWS = 1_000_000


def rate(servers: rig.Rig, url: str, path: Path, rows: int, processes: int) -> float:
    """Return the rows per second, from the first byte read to `done`."""
    log = servers.folder / "worker.log"
    own = ("--loglevel=WARNING", f"--concurrency={processes}", "-Q", Queue.BATCHES.value)
    others = ("--loglevel=WARNING", "--concurrency=1", "-Q", "enrollments,lookups")
    with (
        running_worker(servers.broker_url, url, log, *others),
        rig.process(servers.broker_url, url, log, "worker", *own),
        EnrollmentClient(servers.broker_url, timeout=30) as client,
    ):
        submit_and_finish(client, Kind.COURSES, [{"sis_id": "C1"}])  # Both workers are ready.
        source = open_source(path, Kind.ENROLLMENTS, {})
        started = time.perf_counter()
        batch = client.submit_batch(source.kind, source.records(), columns=source.columns)
        while client.batch(batch.batch_id, refusals=False).state != "done":
            time.sleep(0.05)
        return rows / (time.perf_counter() - started)


def sizes(url: str) -> dict[str, int]:
    """Return the bytes of each table with its indexes."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC"
        ).fetchall()
    return dict(found[:4])


def main() -> None:
    """Print a line for each measurement."""
    millions = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # As the command line does.
    with rig.running() as servers:
        for processes, courses in ((1, rig.COURSES), (2, rig.COURSES), (2, 200), (2, 20)):
            pairs = rig.pairs_by_student(courses=courses)
            requests = rig.write_requests(servers.folder / "requests.jsonl", pairs)
            with servers.database() as url:
                speed = rate(servers, url, requests, len(pairs), processes)
                print(
                    f"{processes} processes, {courses:,} courses: {speed:,.0f} rows/s", flush=True
                )
        pairs = rig.pairs_by_student()
        with servers.database() as url:
            chance = random.Random(rig.SEED)
            for number in range(millions):
                # Each million in random order, over a table that grows.
                mixed = [(student, course + number * rig.COURSES_EACH) for student, course in pairs]
                mixed = [(s, (c - 1) % rig.COURSES + 1) for s, c in mixed]
                chance.shuffle(mixed)
                path = rig.write_pairs(servers.folder / "mixed.csv", mixed)
                speed = rate(servers, url, path, len(mixed), 2)
                print(f"million {number + 1}: {speed:,.0f} rows/s, {sizes(url)}", flush=True)


if __name__ == "__main__":
    main()
