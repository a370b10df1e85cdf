"""The benchmark: `make bench`. Every figure is a ratio to something measured in the same run.

Prints a table, writes build/bench.json and draws build/bench.svg.
"""

import argparse
import contextlib
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from celery import Celery
from redis import Redis
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from benchmarks import drops, formats, plans, polls, rig, script, snapshots, tiny, undo
from benchmarks.rig import ENROLL, NOOP
from producer.client import EnrollmentClient
from producer.contract.routing import Queue
from producer.files.reader import open_source
from producer.schemas import Kind
from support.paths import ROOT
from support.rosters import submit_and_finish
from support.valkey import forget_database
from support.workers import Deployment, running_worker

GOALS = {
    "batch_requests_vs_copy": (">=", 1.2),
    "batch_pairs_vs_copy": (">=", 0.95),
    "pairs_vs_script": (">=", 1.0),
    "bytes_per_fresh_pair": ("<=", 60),
    "batch_repeat_vs_copy": (">=", 1.5),
    "batch_vs_naive": (">=", 60),
    "tiny_batches_per_s": (">=", 1_500),
    "drop_vs_copy": (">=", 0.7),
    "drop_pairs_vs_copy": (None, None),
    "reenroll_vs_copy": (">=", 0.6),
    "plan_vs_run": (">=", 0.8),
    "snapshot_repeat": (">=", 0.7),
    "import_with_drops": (">=", 0.9),
    "history_vs_results": ("<=", 1.5),
    "undo_vs_drop": (">=", 0.8),
    "undo_memory_growth": ("<=", 1.2),
    "single_vs_noop": (">=", 1.0),
    "single_vs_naive": (">=", 3),
    "latency_vs_noop": ("<=", 2.0),
    "latency_under_batch": ("<=", 10),
    "status_vs_asyncresult": ("<=", 2.0),
    "batch_poll_vs_asyncresult": ("<=", 3.0),
    "lookups_of_eight_threads": (">=", 4),
    "batch_while_polled": (">=", 0.9),
    "producer_memory_growth": ("<=", 1.1),
    "worker_memory_growth": ("<=", 1.2),
    "cost_growth": ("<=", 1.2),
    "formats_vs_csv": (">=", 0.8),
    "sqlite_rows_per_s": (None, None),
}
LARGE, SMALL = 2_000_000, 100_000
SINGLES, NAIVE = 4_000, 1_500
TURNS, A_TURN = 20, 20
SAMPLE = 1_000
BATCHES = ("--concurrency=2", "--loglevel=WARNING", "-Q", Queue.BATCHES)
OTHERS = ("--concurrency=1", "--loglevel=WARNING", "-Q", f"{Queue.ENROLLMENTS},{Queue.LOOKUPS}")
ALL = ("--concurrency=2", "--loglevel=WARNING")
PLAIN_APP = "benchmarks.plain"
PLAIN = "plain"
"""The queue of empty tasks, where our own workers do not listen."""


class Bench:
    """Measures one thing after the other and keeps the figures."""

    def __init__(self, servers: rig.Rig, large: int) -> None:
        self.rig = servers
        self.large = large
        self.figures: dict[str, float] = {}
        self.ratios: dict[str, float] = {}
        self.console = Console(stderr=True)

    def note(self, name: str, value: float) -> float:
        self.figures[name] = round(value, 4)
        self.console.print(f"  {name:38} {value:14,.2f}")
        return value

    @contextlib.contextmanager
    def deployment(self, database_url: str, *arguments: str) -> Iterator[Deployment]:
        """Our worker, with one more process for what must not wait behind batches."""
        log = self.rig.folder / "worker.log"
        with contextlib.ExitStack() as stack:
            options = arguments or OTHERS
            made = running_worker(self.rig.broker_url, database_url, log, *options, fresh=True)
            first = stack.enter_context(made)
            if not arguments:
                batches = rig.process(self.rig.broker_url, database_url, log, "worker", *BATCHES)
                first = Deployment(
                    first.broker_url, first.database_url, stack.enter_context(batches), log
                )
                with self.client() as client:  # A chunk that changes nothing: it is ready, too.
                    submit_and_finish(client, Kind.COURSES, [{"sis_id": "C1"}])
            yield first

    def client(self) -> EnrollmentClient:
        return EnrollmentClient(self.rig.broker_url, timeout=60)

    # --- batches --------------------------------------------------------------------------

    def batches(self) -> None:
        pairs = rig.pairs_by_student()
        requests = rig.write_requests(self.rig.folder / "requests.jsonl", pairs)
        copying = self._copy_seconds(pairs)
        with self.rig.database() as url, self.deployment(url), self.client() as client:
            first = self.note("batch_rows_per_s", len(pairs) / self._submit(client, requests))
            self._check_sample(client, pairs)
            again = self.note("repeat_rows_per_s", len(pairs) / self._submit(client, requests))
        copying += self._copy_seconds(pairs)
        copy = self.note("copy_rows_per_s", 2 * len(pairs) / copying)
        self.ratios["batch_requests_vs_copy"] = first / copy
        self.ratios["batch_repeat_vs_copy"] = again / copy
        self.ratios["batch_vs_naive"] = first / (
            self.figures["naive_requests_per_s"] * rig.COURSES_EACH
        )
        random.Random(rig.SEED).shuffle(pairs)
        mixed = rig.write_pairs(self.rig.folder / "pairs.csv", pairs)
        copying = self._copy_seconds(pairs)
        scripted = script.script_seconds(self.rig, mixed)
        with self.rig.database() as url, self.deployment(url), self.client() as client:
            before = script.sizes(url)
            rate = self.note("pairs_rows_per_s", len(pairs) / self._submit(client, mixed))
            self._check_sample(client, pairs)
            script.check_by_id(client, SAMPLE)
            size = script.bytes_beyond_the_row(self.rig, before, url)
        copying += self._copy_seconds(pairs)
        scripted += script.script_seconds(self.rig, mixed)
        self.ratios["bytes_per_fresh_pair"] = size
        by_script = self.note("script_rows_per_s", 2 * len(pairs) / scripted)
        self.ratios["pairs_vs_script"] = rate / by_script
        copy = self.note("copy_mixed_rows_per_s", 2 * len(pairs) / copying)
        self.ratios["batch_pairs_vs_copy"] = rate / copy

    def _copy_seconds(self, pairs: Sequence[rig.Pair]) -> float:
        """Measure the yardstick before and after a batch, because the machine's speed changes."""
        with self.rig.database("yardstick") as url:
            return rig.copy_seconds(url, pairs)

    def _submit(self, client: EnrollmentClient, path: Path) -> float:
        """Return the seconds from the first byte read until the batch is done."""
        started = time.perf_counter()
        source = open_source(path, None, {})
        batch = client.submit_batch(source.kind, source.records(), columns=source.columns)
        while (status := client.batch(batch.batch_id, refusals=False)).state != "done":
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        books = status.books
        assert books.received == books.enrolled + books.already_enrolled == batch.tally.rows, books
        return seconds

    def _check_sample(self, client: EnrollmentClient, pairs: Sequence[rig.Pair]) -> None:
        """Look up a thousand results, and compare them with the requests."""
        expected: dict[str, set[str]] = {}
        for student, course in pairs:
            expected.setdefault(f"S{student}", set()).add(f"C{course}")
        sample = random.Random(rig.SEED).sample(sorted(expected), SAMPLE)
        for asked, results in zip(sample, client.results_of(sample), strict=True):
            found = {course.sis_id for result in results for course in result.enrolled_courses}
            assert found == expected[asked], asked

    # --- single requests ------------------------------------------------------------------

    def singles(self) -> None:
        requests = [
            {
                "student_id": f"S{n}",
                "course_ids": [f"C{(n + k) % rig.COURSES + 1}" for k in range(5)],
            }
            for n in range(1, SINGLES + 1)
        ]
        with self.rig.database() as url:
            noop = self._drain(url, PLAIN_APP, SINGLES, lambda app, _: self._send(app, NOOP, []))
            self.note("noop_tasks_per_s", noop)
        with self.rig.database() as url:
            naive = self._drain(
                url,
                PLAIN_APP,
                NAIVE,
                lambda app, n: self._send(app, ENROLL, [*requests[n].values()]),
            )
            self.note("naive_requests_per_s", naive)
        with self.rig.database() as url:
            with self.client() as client:
                for request in requests:
                    client.submit(request)
            single = self._drain(url, "worker", SINGLES, None)
            self.note("single_requests_per_s", single)
            with self.deployment(url, *ALL), self.client() as client:
                states = client.results_of([str(request["student_id"]) for request in requests])
                assert all(results[0].status == "enrolled" for results in states)
        self.ratios["single_vs_noop"] = single / noop
        self.ratios["single_vs_naive"] = single / naive

    def _send(self, app: Celery, task: str, args: list[Any]) -> None:
        app.send_task(task, args, queue=Queue.ENROLLMENTS.value, ignore_result=True)

    def _drain(
        self, url: str, name: str, count: int, publish: Callable[[Celery, int], None] | None
    ) -> float:
        """Return the tasks per second of two processes on a backlog, without its first tenth."""
        if publish is not None:
            with Celery(broker=self.rig.broker_url, set_as_current=False) as app:
                for number in range(count):
                    publish(app, number)
        log = self.rig.folder / f"{name}.log"
        with (
            Redis.from_url(self.rig.broker_url) as redis,
            rig.process(self.rig.broker_url, url, log, name, *ALL) as worker,
        ):

            def wait(left: int) -> float:
                while redis.llen(Queue.ENROLLMENTS.value) > left:
                    assert worker.poll() is None, log.read_text()
                    time.sleep(0.002)
                return time.perf_counter()

            started = wait(count * 9 // 10)
            return (count * 9 // 10) / (wait(0) - started)

    def latency(self) -> None:
        log = self.rig.folder / "plain.log"
        with self.rig.database() as url, self.client() as client, self.deployment(url):
            with (
                rig.process(self.rig.broker_url, url, log, PLAIN_APP, *ALL, "-Q", PLAIN),
                Celery(broker=self.rig.broker_url, set_as_current=False) as app,
            ):
                noop, idle = self._latencies(
                    lambda _: client._connection.wait(self._ask_noop(app), 60, ""),  # noqa: SLF001
                    lambda n: self._enroll(client, n),
                )
            rows = rig.pairs_by_student(40_000)
            path = rig.write_requests(self.rig.folder / "busy.jsonl", rows)
            busy = self._busy_latency(client, path)
        self.note("noop_ms", noop * 1000)
        self.note("idle_ms", idle * 1000)
        self.note("under_batch_ms", busy * 1000)
        self.ratios["latency_vs_noop"] = idle / noop
        self.ratios["latency_under_batch"] = busy / idle

    def _ask_noop(self, app: Celery) -> str:
        return str(app.send_task(NOOP, queue=PLAIN).id)

    def _enroll(self, client: EnrollmentClient, number: int) -> None:
        courses = [f"C{(number + k) % rig.COURSES + 1}" for k in range(5)]
        student = rig.STUDENTS - number % 100_000
        outcome = client.enroll({"student_id": f"S{student}", "course_ids": courses})
        assert outcome.status == "enrolled"

    def _latencies(self, *ways: Callable[[int], object]) -> list[float]:
        """Return the median of each, measured in turns, because the machine's speed changes."""
        taken: list[list[float]] = [[] for _ in ways]
        for turn in range(TURNS + 1):  # The first one warms up.
            for way, of_way in zip(ways, taken, strict=True):
                numbers = range(turn * A_TURN, (turn + 1) * A_TURN)
                of_way += [_seconds(way, number) for number in numbers]
        return [statistics.median(of_way[A_TURN:]) for of_way in taken]

    def _busy_latency(self, client: EnrollmentClient, path: Path) -> float:
        submitter = threading.Thread(target=self._submit, args=(client, path))
        submitter.start()
        taken: list[float] = []
        with self.client() as other:
            while submitter.is_alive():
                taken.append(_seconds(lambda n: self._enroll(other, 1000 + n), len(taken)))
        return statistics.median(taken)

    # --- growth ---------------------------------------------------------------------------

    def growth(self) -> None:
        """Compare the memory and the cost of a row at the end of a long run with its beginning."""
        with self.rig.database() as url, self.deployment(url) as deployment:
            small = rig.write_long(self.rig.folder / "small.csv", SMALL)
            few = self.note("producer_mib_small", self._submit_apart(small)[0] / 1024)
            long = rig.write_long(self.rig.folder / "long.csv", self.large)
            memory = _Memory(deployment.process.pid)
            with self.client() as client:
                watcher = threading.Thread(target=memory.watch, args=(client, "long"))
                watcher.start()
                peak, _ = self._submit_apart(long, "--batch-id", "long")
                memory.over.set()
                watcher.join()
            many = self.note("producer_mib_large", peak / 1024)
            self.ratios["producer_memory_growth"] = many / few
            self.note("worker_mib_early", memory.early / 2**20)
            self.note("worker_mib_end", memory.end / 2**20)
            self.ratios["worker_memory_growth"] = memory.end / memory.early
            self.ratios["cost_growth"] = rig.cost_growth(url, "long")

    def _submit_apart(self, path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Return the peak memory in KiB of `enroll submit` in its own process, and its result."""
        command = [sys.executable, "-m", "producer", "submit", str(path), "--json", *arguments]
        environment = os.environ | {
            "ENROLL_BROKER_URL": self.rig.broker_url,
            "XDG_STATE_HOME": str(self.rig.folder),
        }
        peak = 0
        with subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None:
                peak = max(peak, _peak_kib(process.pid))
                time.sleep(0.05)
            assert process.stdout is not None
            answer = json.loads(process.stdout.read())
        assert answer["state"] == "done", answer
        return peak, answer

    def sqlite(self) -> None:
        path = self.rig.folder / "requests.jsonl"
        url = rig.sqlite_database(self.rig.folder / "bench.db")
        forget_database(self.rig.broker_url)
        with self.deployment(url, *ALL), self.client() as client:
            rows = rig.STUDENTS * rig.COURSES_EACH
            self.ratios["sqlite_rows_per_s"] = rows / self._submit(client, path)


class _Memory:
    """The resident memory of a worker's pool processes, after 50 chunks and at the end."""

    def __init__(self, pid: int) -> None:
        self._worker = psutil.Process(pid)
        self.over = threading.Event()
        self.early = 0
        self.end = 0

    def watch(self, client: EnrollmentClient, batch_id: str) -> None:
        while not self.over.wait(0.2):
            self.end = max(child.memory_info().rss for child in self._worker.children())
            if not self.early and client.batch(batch_id, refusals=False).chunks_applied >= 50:
                self.early = self.end


def _peak_kib(pid: int) -> int:
    """Return a process's largest resident memory since its start, as Linux reports it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 0


def _seconds(work: Callable[[int], object], number: int) -> float:
    started = time.perf_counter()
    work(number)
    return time.perf_counter() - started


def _report(bench: Bench) -> bool:
    """Print the table, draw it, write the JSON; return whether every goal was reached."""
    table = Table("figure", "value", "goal", "", title="Benchmark, ratios measured in one run")
    reached = []
    for name, (sign, goal) in GOALS.items():
        value = bench.ratios[name]
        if goal is None:
            table.add_row(name, f"{value:,.2f}", "report", "")
            continue
        good = value >= goal if sign == ">=" else value <= goal
        reached.append(good)
        share = min(2.0, value / goal if sign == ">=" else goal / value)
        bar = Bar(2.0, 0, share, width=40, color="green" if good else "red")
        table.add_row(name, f"{value:,.2f}", f"{sign} {goal:g}", bar)
    table.caption = "Bars: how much of the goal was reached; the middle is the goal."
    console = Console(record=True, width=100)
    console.print(table)
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    console.save_svg(str(build / "bench.svg"), title="enrollment worker")
    document = {name: round(value, 4) for name, value in bench.ratios.items()}
    document["figures"] = bench.figures  # type: ignore[assignment]
    (build / "bench.json").write_text(json.dumps(document, indent=2) + "\n")
    console.print("Written to build/bench.json and build/bench.svg.")
    return all(reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=LARGE, help="rows of the long run")
    arguments = parser.parse_args()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # As the command line does.
    with rig.running() as servers:
        bench = Bench(servers, arguments.large)
        bench.singles()
        bench.latency()
        polls.measure(bench)
        bench.batches()
        tiny.measure(bench)
        drops.measure(bench)
        plans.measure(bench)
        snapshots.measure(bench)
        undo.measure(bench)
        bench.growth()
        bench.sqlite()
        formats.measure(bench)
        _report(bench)


if __name__ == "__main__":
    main()
