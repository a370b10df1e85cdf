"""What an operator does to a worker: start it wrongly, choose a pool, kill it."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from producer.client import EnrollmentClient
from support.paths import ROOT
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment, running_worker, worker_environment

WORKER = [sys.executable, "-m", "celery", "-A", "worker", "worker"]


def start_wrongly(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        WORKER,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("missing", ["ENROLL_BROKER_URL", "ENROLL_DATABASE_URL"])
def test_a_missing_setting_is_named(broker_url: str, missing: str) -> None:
    environment = worker_environment(broker_url, "sqlite:///nowhere.db")
    del environment[missing]
    ended = start_wrongly(environment)
    assert ended.returncode == 1
    assert f"{missing}: is not set" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_database_without_migrations_is_refused_with_the_remedy(
    broker_url: str, tmp_path: Path
) -> None:
    ended = start_wrongly(worker_environment(broker_url, f"sqlite:///{tmp_path / 'empty.db'}"))
    assert ended.returncode == 1
    assert "alembic upgrade head" in ended.stderr
    assert "Traceback" not in ended.stderr


def load(client: EnrollmentClient, students: int) -> list[str]:
    """Enter a roster of one course, C, and some students; return the students."""
    names = [f"S-{uuid.uuid4()}" for _ in range(students)]
    enter_roster(client, names, ["C"])
    return names


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_worker_behaves_the_same_in_every_pool(
    broker_url: str,
    new_database: Callable[[str], str],
    tmp_path: Path,
    pool: str,
    dialect: str,
) -> None:
    arguments = ("--pool", pool, *(("--concurrency=3",) if pool != "solo" else ()))
    with (
        running_worker(broker_url, new_database(dialect), tmp_path / "log", *arguments),
        EnrollmentClient(broker_url, timeout=20) as client,
    ):
        names = load(client, 30)
        ids = [client.submit({"student_id": name, "course_ids": ["C"]}) for name in names]
        wait_for(lambda: all(status.state == "done" for status in client.statuses(ids)))
        assert {s.result.status for s in client.statuses(ids) if s.result} == {"enrolled"}


def pool_processes(worker: Deployment) -> list[psutil.Process]:
    """Return the processes of a worker's pool that are still running."""
    children = psutil.Process(worker.process.pid).children()
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def test_a_killed_pool_process_loses_and_duplicates_nothing(
    broker_url: str, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, log = new_database("postgresql"), tmp_path / "log"
    with (
        running_worker(broker_url, url, log, "--concurrency=2") as worker,
        EnrollmentClient(broker_url, timeout=20) as client,
    ):
        names = load(client, 400)
        ids = [client.submit({"student_id": name, "course_ids": ["C"]}) for name in names]
        for _ in range(3):
            wait_for(lambda: len(pool_processes(worker)) > 0)
            pool_processes(worker)[0].kill()
            time.sleep(0.2)
        wait_for(lambda: all(status.state == "done" for status in client.statuses(ids)))
        assert worker.process.poll() is None
        found = client.students(names)
        assert [len(student.courses) for student in found if student] == [1] * 400


def test_a_stopped_worker_finishes_its_task_and_another_does_the_rest(
    broker_url: str, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database("postgresql")
    with EnrollmentClient(broker_url, timeout=20) as client:
        with running_worker(broker_url, url, tmp_path / "first", "--concurrency=2") as worker:
            names = load(client, 300)
            ids = [client.submit({"student_id": name, "course_ids": ["C"]}) for name in names]
            os.kill(worker.process.pid, signal.SIGTERM)
            assert worker.process.wait(60) == 0
        with running_worker(broker_url, url, tmp_path / "second", "--concurrency=2"):
            wait_for(lambda: all(status.state == "done" for status in client.statuses(ids)))
            results = client.results_of(names)
            assert [len(found) for found in results] == [1] * 300
