"""Measure drops: by file, among an import, the way back, and the history of a student."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks import rig
from producer.client import EnrollmentClient
from producer.files.reader import open_source

if TYPE_CHECKING:
    from benchmarks.bench import Bench

PAST = """
CREATE TABLE yardstick_past (
    student_id int NOT NULL,
    course_id int NOT NULL,
    ended_at timestamptz NOT NULL,
    enrolled_at timestamptz,
    reason varchar(255),
    request_id varchar(152) NOT NULL,
    PRIMARY KEY (student_id, course_id, ended_at)
);
CREATE INDEX ON yardstick_past (ended_at);
"""
"""What drops are compared with keeps past enrollments as we do; it must never change either."""

DROP = """
WITH dropped AS (
    DELETE FROM yardstick USING staged
    WHERE yardstick.student_id = staged.student_id AND yardstick.course_id = staged.course_id
    RETURNING yardstick.student_id, yardstick.course_id, yardstick.enrolled_at
)
INSERT INTO yardstick_past
SELECT student_id, course_id, now(), enrolled_at, NULL, 'batch:0:0' FROM dropped
"""

HISTORY = 200
"""The entries of the history that is measured: half of them are drops."""
LOOKUPS = 60


def measure(bench: "Bench") -> None:
    """Measure everything about drops, and note it."""
    pairs = rig.pairs_by_student()
    requests = rig.write_requests(bench.rig.folder / "requests.jsonl", pairs)
    drops = rig.write_requests(bench.rig.folder / "drops.jsonl", pairs, "drop_course_ids")
    yardstick = drop_seconds(bench, pairs)
    with bench.rig.database() as url, bench.deployment(url), bench.client() as client:
        alone = submit(client, requests)
        rate = bench.note("drop_rows_per_s", len(pairs) / submit(client, drops))
        again = bench.note("reenroll_rows_per_s", len(pairs) / submit(client, requests))
    yardstick += drop_seconds(bench, pairs)
    bench.ratios["drop_vs_copy"] = rate * yardstick / (2 * len(pairs))
    bench.ratios["reenroll_vs_copy"] = again / bench.figures["copy_rows_per_s"]
    with bench.rig.database() as url, bench.deployment(url), bench.client() as client:
        with dropping(client, pairs):
            among = submit(client, requests)
        mixed = list(pairs)
        random.Random(rig.SEED).shuffle(mixed)
        drops = rig.write_pairs(bench.rig.folder / "mixed.csv", mixed)
        rate = bench.note("drop_mixed_rows_per_s", len(pairs) / submit(client, drops, drop=True))
    bench.ratios["import_with_drops"] = alone / among
    bench.ratios["drop_pairs_vs_copy"] = rate * drop_seconds(bench, mixed) / len(pairs)
    history(bench)


def submit(client: EnrollmentClient, path: Path, *, drop: bool = False) -> float:
    """Return the seconds from the first byte read until the batch is done."""
    started = time.perf_counter()
    source = open_source(path, None, {}, drop=drop)
    batch = client.submit_batch(source.kind, source.records(), columns=source.columns)
    while (status := client.batch(batch.batch_id, refusals=False)).state != "done":
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    assert status.books.rejected == 0, status.books
    return seconds


def drop_seconds(bench: "Bench", pairs: Sequence[rig.Pair]) -> float:
    """Return how long one connection takes to drop the pairs as a script would, in seconds."""
    with bench.rig.database("yardstick") as url:
        rig.copy_seconds(url, pairs)
        rows = "".join(f"{s}\t{c}\n" for s, c in pairs).encode()
        with psycopg.connect(url) as connection:
            connection.execute(PAST)
            connection.commit()
            started = time.perf_counter()
            connection.execute("CREATE TEMPORARY TABLE staged (student_id int, course_id int)")
            with connection.cursor().copy("COPY staged FROM STDIN") as copy:
                copy.write(rows)
            connection.execute("ANALYZE staged")
            assert connection.execute(DROP).rowcount == len(pairs)
            connection.commit()
            return time.perf_counter() - started


@contextlib.contextmanager
def dropping(client: EnrollmentClient, pairs: Sequence[rig.Pair]) -> Iterator[None]:
    """Drop one pair each second."""
    ended = threading.Event()

    def drop() -> None:
        chance = random.Random(rig.SEED)
        while not ended.wait(1):
            student, course = chance.choice(pairs)
            client.submit({"student_id": f"S{student}", "drop_course_ids": [f"C{course}"]})

    thread = threading.Thread(target=drop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def history(bench: "Bench") -> None:
    """Compare the history of a student who has many entries with as many results."""
    with bench.rig.database() as url, bench.deployment(url), bench.client() as client:
        for n in range(HISTORY):
            field = "drop_course_ids" if n % 2 else "course_ids"
            asked: Any = {"student_id": "S1", field: [f"C{n // 2 + 1}"]}
            client.enroll(asked)
        assert len(client.results("S1", limit=HISTORY)) == HISTORY
        assert len(client.history("S1", limit=HISTORY).entries) == HISTORY
        seconds = {"results": 0.0, "history": 0.0}
        for _ in range(LOOKUPS):
            for name in seconds:
                started = time.perf_counter()
                getattr(client, name)("S1", limit=HISTORY)
                seconds[name] += time.perf_counter() - started
    for name, total in seconds.items():
        bench.note(f"{name}_of_{HISTORY}_ms", 1000 * total / LOOKUPS)
    bench.ratios["history_vs_results"] = seconds["history"] / seconds["results"]
