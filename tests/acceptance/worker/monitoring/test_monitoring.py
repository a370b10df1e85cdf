"""What an operator sees of a running worker: its log, its metrics, its traces."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from producer.client import EnrollmentClient
from producer.schemas import Kind
from support.paths import ROOT
from support.rosters import enter_roster, submit_and_finish
from support.valkey import free_port
from support.waiting import wait_for
from support.workers import running_worker, worker_environment

KIND = Kind.ENROLLMENTS.value
PRIVATE = ("Ada Example", "ada@example.edu", "Logic for all")
STUDENTS = [{"sis_id": "S1", "name": PRIVATE[0], "email": PRIVATE[1]}]
COURSES = [{"sis_id": "C1", "title": PRIVATE[2]}]
GOOD = {"student_id": "S1", "course_ids": ["C1"]}
BAD = {"student_id": "S1", "course_ids": ["C9"]}


@pytest.fixture
def start(valkey: str, new_database: Callable[[str], str], tmp_path: Path) -> Callable[..., Any]:
    """Starts a worker with settings of its own."""
    url = new_database("sqlite")

    def start_worker(*arguments: str, app: str = "worker", **settings: str) -> Any:
        log = tmp_path / "worker.log"
        options = ("--loglevel=INFO", "--concurrency=2", *arguments)
        return running_worker(valkey, url, log, *options, app=app, settings=settings)

    return start_worker


def scrape(port: str) -> dict[tuple[str, ...], float]:
    """Return the samples by their names and the values of their labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# --- Logs -------------------------------------------------------------------------------------


def test_every_line_from_start_to_stop_is_an_object_and_holds_no_personal_data(
    start: Callable[..., Any], valkey: str
) -> None:
    with start(ENROLL_LOG_FORMAT="json") as made, EnrollmentClient(valkey, timeout=20) as client:
        enter_roster(client, STUDENTS, COURSES)
        batch = submit_and_finish(client, Kind.ENROLLMENTS, [GOOD, BAD])
        decided = client.enroll({**GOOD, "request_id": "r1"})
        refused = client.enroll(BAD)
        with Redis.from_url(valkey) as redis:
            redis.lpush("enrollments", "no message\n at all")
        wait_for(lambda: "dead letter" in made.log.read_text())
    text = made.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"timestamp", "level", "logger", "event"} <= set.intersection(*map(set, lines))
    assert not [word for word in PRIVATE if word in text]

    def logged(**about: Any) -> dict[str, Any]:
        (line,) = [one for one in lines if about.items() <= one.items()]
        assert isinstance(line, dict)
        return line

    chunk = logged(event="chunk delivered", batch_id=batch.batch_id)
    assert (chunk["enrolled"], chunk["rejected"], chunk["outcome"]) == (1, 1, "applied")
    assert 0 < chunk["duration"] < 60
    assert logged(request_id="r1")["outcome"] == decided.status
    assert logged(request_id=refused.request_id)["codes"] == ["unknown_course"]
    assert logged(event="dead letter")["reason"] == "malformed"
    assert logged(event="worker: Warm shutdown (MainProcess)")["level"] == "info"


# --- Metrics ----------------------------------------------------------------------------------


def test_the_metrics_of_all_processes_are_served_together(
    start: Callable[..., Any], valkey: str
) -> None:
    port = str(free_port())
    with start(ENROLL_METRICS_PORT=port), EnrollmentClient(valkey, timeout=20) as client:
        enter_roster(client, STUDENTS, COURSES)
        for number in range(4):
            records = [{**GOOD, "request_id": f"{number}"}, BAD]
            submit_and_finish(client, Kind.ENROLLMENTS, records)
        client.submit_all([GOOD] * 30)
        last = client.enroll(BAD)
        wait_for(lambda: scrape(port)["enrollment_request_duration_seconds_count",] == 31)
        found = scrape(port)
    assert last.status == "rejected"
    assert found["enrollment_requests_total", "single", "enrolled"] == 30
    assert found["enrollment_requests_total", "single", "rejected"] == 1
    assert found["enrollment_requests_total", "batch", "enrolled"] == 4
    assert found["enrollment_requests_total", "batch", "rejected"] == 4
    rows = {key[2]: n for key, n in found.items() if key[:2] == ("enrollment_rows_total", KIND)}
    happened = {outcome: count for outcome, count in rows.items() if count}
    assert happened == {"enrolled": 1, "already_enrolled": 33, "rejected": 5}
    assert rows.keys() - happened == {"dropped", "not_enrolled", "superseded"}
    assert found["enrollment_rows_total", "students", "changed"] == 1
    assert found["enrollment_refusals_total", "unknown_course"] == 5
    assert found["enrollment_chunks_total", KIND, "applied"] == 4
    assert found["enrollment_chunk_duration_seconds_count", KIND] == 4
    assert found["enrollment_lookup_duration_seconds_count", "batch"] >= 6
    assert found["enrollment_dead_letters_total", "malformed"] == 0
    assert found["enrollment_broker_up",] == 1


def message(**properties: Any) -> str:
    return json.dumps({"headers": {}, "properties": properties, "body": ""})


def test_queues_without_a_consumer_are_measured_too(start: Callable[..., Any], valkey: str) -> None:
    port = str(free_port())
    settings = {"ENROLL_METRICS_PORT": port}
    with start("-Q", "enrollments,lookups", **settings), Redis.from_url(valkey) as redis:
        redis.lpush("batches", message(timestamp=int(time.time()) - 500), "{}")
        found = scrape(port)
        assert found["enrollment_queue_messages", "batches"] == 2
        assert 500 <= found["enrollment_queue_oldest_seconds", "batches"] < 600
        assert found["enrollment_queue_messages", "lookups"] == 0
        assert found["enrollment_queue_oldest_seconds", "lookups"] == 0
        # A message without a timestamp is as old as the time since it was first seen.
        redis.rpop("batches")
        assert scrape(port)["enrollment_queue_oldest_seconds", "batches"] < 60
        time.sleep(0.2)
        assert scrape(port)["enrollment_queue_oldest_seconds", "batches"] >= 0.2
        redis.delete("batches")


def test_recovered_messages_and_dead_letters_are_counted(
    start: Callable[..., Any], valkey: str
) -> None:
    port = str(free_port())
    with start(ENROLL_METRICS_PORT=port), Redis.from_url(valkey) as redis:
        # This is what a killed worker leaves behind.
        redis.lpush("enrollment.intake.taken.gone/0.enrollments.0", "no message")
        redis.sadd("enrollment.intake.takers", "gone/0")
        wait_for(lambda: scrape(port)["enrollment_dead_letters_total", "malformed"] == 1)
        assert scrape(port)["enrollment_recovered_messages_total",] == 1


def test_an_unavailable_broker_does_not_stop_the_other_metrics(
    start: Callable[..., Any], valkey: str
) -> None:
    port = str(free_port())
    with start(ENROLL_METRICS_PORT=port), Redis.from_url(valkey) as redis:
        # It refuses every new connection, like a broker that is unavailable.
        redis.config_set("requirepass", "changed")
        found = scrape(port)
        redis.config_set("requirepass", "")
    assert found["enrollment_broker_up",] == 0
    assert ("enrollment_queue_messages", "batches") not in found
    assert found["enrollment_lookup_duration_seconds_count", "status"] >= 1


def test_two_workers_cannot_share_a_port_and_no_file_is_left_behind(
    start: Callable[..., Any], valkey: str, tmp_path: Path
) -> None:
    port = str(free_port())
    folder = tmp_path / "temporary"
    folder.mkdir()
    settings = {"ENROLL_METRICS_PORT": port, "TMPDIR": str(folder)}
    with start(**settings) as made:
        assert list(folder.glob("enroll-metrics-*"))
        second = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "worker", "worker", "--concurrency=1"],
            env=worker_environment(made.broker_url, made.database_url) | settings,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert second.returncode != 0
    problem = "ENROLL_METRICS_PORT: cannot listen on 127.0.0.1 port"
    assert problem in second.stdout + second.stderr
    assert not list(folder.glob("enroll-metrics-*"))


# --- Flower -----------------------------------------------------------------------------------


def test_flower_shows_workers_and_tasks(
    start: Callable[..., Any], valkey: str, tmp_path: Path
) -> None:
    port = free_port()
    with (
        start(ENROLL_TASK_EVENTS="true") as made,
        (tmp_path / "flower.log").open("wb") as log,
        EnrollmentClient(valkey, timeout=20) as client,
    ):
        flower = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "worker", "flower", f"--port={port}",
             "--address=127.0.0.1"],
            env=worker_environment(made.broker_url, made.database_url)
            | {"FLOWER_UNAUTHENTICATED_API": "true"},
            cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip

        def shown() -> set[tuple[str, str]]:
            client.enroll(BAD)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/tasks") as answer:
                    tasks = json.load(answer).values()
            except OSError:
                return set()
            return {(task["name"], task["state"]) for task in tasks}

        try:
            wait_for(lambda: ("enrollment.enroll", "SUCCESS") in shown())
        finally:
            flower.terminate()
            flower.wait(60)


# --- Traces -----------------------------------------------------------------------------------


def test_one_trace_leads_from_submit_to_commit(
    start: Callable[..., Any], valkey: str, tmp_path: Path
) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    CeleryInstrumentor().instrument(tracer_provider=provider)
    spans = tmp_path / "spans"
    try:
        with (
            start(app="support.apps.traced", SPANS=str(spans)),
            EnrollmentClient(valkey, timeout=20) as client,
        ):
            assert_traced(client, provider, spans)
    finally:
        CeleryInstrumentor().uninstrument()
    assert {span.name for span in memory.get_finished_spans()} >= {
        "a night's import",
        "apply_async/enrollment.enroll",
        "apply_async/enrollment.enroll_batch",
    }


def assert_traced(client: EnrollmentClient, provider: TracerProvider, spans: Path) -> None:
    with provider.get_tracer("test").start_as_current_span("a night's import") as submitting:
        batch_id = client.submit_batch(Kind.ENROLLMENTS, [GOOD]).batch_id
        client.submit_all([GOOD, GOOD])
        client.enroll(GOOD)
    wait_for(lambda: client.batch(batch_id).state == "done")
    wait_for(lambda: len(read(spans)) >= 4)
    trace_id = format(submitting.get_span_context().trace_id, "032x")
    names = sorted(name for name, trace in read(spans) if trace == trace_id)
    assert names == ["run/enrollment.enroll"] * 3 + ["run/enrollment.enroll_batch"]


def read(spans: Path) -> list[tuple[str, str]]:
    """Return the names of a worker's spans about enrollments, with their traces."""
    lines = [
        line.split("\t") for path in spans.glob("*.spans") for line in path.read_text().splitlines()
    ]
    return [(name, trace) for name, trace in lines if ".enroll" in name]
