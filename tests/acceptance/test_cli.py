"""What a registrar types: files, requests and questions, with their exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from servers import Deployment

from producer.client import EnrollmentClient

ENROLL = [sys.executable, "-m", "producer"]
GOOD, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3


def run(
    deployment: Deployment, *arguments: str | Path, expect: int
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*ENROLL, *map(str, arguments)],
        env=deployment.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == expect, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def ask(deployment: Deployment, *arguments: str | Path, expect: int = GOOD) -> Any:
    """Data alone is on standard output: every line of it is JSON."""
    lines = run(deployment, *arguments, "--json", expect=expect).stdout.splitlines()
    return json.loads(lines[0]) if len(lines) == 1 else [json.loads(line) for line in lines]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def names() -> tuple[str, str]:
    return f"S-{uuid.uuid4()}", f"C-{uuid.uuid4()}"


@pytest.fixture
def roster(deployment: Deployment, tmp_path: Path, names: tuple[str, str]) -> tuple[str, str]:
    student, course = names
    students = write(tmp_path / "students.csv", "sis_id;name", f"{student};Ada")
    courses = write(tmp_path / "courses.csv", "sis_id\ttitle", f"{course}\tLogic")
    assert len(ask(deployment, "submit", courses, students)) == 2
    return names


def test_rosters_go_before_the_enrollments_that_need_them(
    deployment: Deployment, tmp_path: Path, names: tuple[str, str]
) -> None:
    student, course = names
    pairs = write(tmp_path / "a.csv", "student_sis_id,course_sis_id", f"{student},{course}")
    students = write(tmp_path / "b.csv", "sis_id,email", f"{student},ada@example.edu")
    courses = write(tmp_path / "c.csv", "sis_id,title", f"{course},Logic")
    statuses = ask(deployment, "submit", pairs, students, courses)
    assert [status["kind"] for status in statuses] == ["students", "courses", "enrollments"]
    assert statuses[2]["books"]["enrolled"] == 1


def test_every_refused_line_is_named(
    deployment: Deployment, tmp_path: Path, roster: tuple[str, str]
) -> None:
    student, course = roster
    pairs = write(
        tmp_path / "pairs.csv",
        "student_sis_id,course_sis_id",
        f"{student},{course}",
        f"{student},nowhere",
        f"nobody,{course}",
        f"{student},",
        f"{student}",
        f"{student},{course}",
    )
    status = ask(deployment, "submit", pairs, expect=REFUSED)
    assert status["books"] == {
        "received": 6,
        "enrolled": 1,
        "already_enrolled": 1,
        "upserted": 0,
        "unchanged": 0,
        "rejected": 4,
        "not_applied": 0,
    }
    lines = {group["code"]: group["first_lines"] for group in status["refusals"]}
    assert lines == {"unknown_course": [3], "unknown_student": [4], "invalid_request": [5, 6]}
    shown = run(deployment, "status", status["batch_id"], expect=REFUSED).stdout
    assert "unknown_course" in shown
    assert "'nowhere'" in shown


def test_json_lines_hold_whole_requests(
    deployment: Deployment, tmp_path: Path, roster: tuple[str, str]
) -> None:
    student, course = roster
    lines = write(
        tmp_path / "requests.jsonl",
        json.dumps({"student_id": student, "course_ids": [course], "request_id": f"r-{student}"}),
        "not json",
        json.dumps({"student_id": "12", "course_ids": [True]}),
    )
    status = ask(deployment, "submit", "--kind", "enrollments", lines, expect=REFUSED)
    assert status["refusals"][0]["first_lines"] == [2, 3]
    assert ask(deployment, "status", f"r-{student}")["result"]["status"] == "enrolled"


def test_without_waiting_the_batch_id_is_all_of_the_output(
    deployment: Deployment, tmp_path: Path, names: tuple[str, str]
) -> None:
    students = write(tmp_path / "students.csv", "sis_id,name", f"{names[0]},Ada")
    done = run(deployment, "submit", "--no-wait", students, expect=GOOD)
    batch_id = done.stdout.strip()
    with EnrollmentClient(deployment.broker_url) as client:
        assert client.batch(batch_id).state != "unknown"


def test_one_request_waits_and_prints_its_outcome(
    deployment: Deployment, roster: tuple[str, str]
) -> None:
    student, course = roster
    shown = run(deployment, "request", student, course, expect=GOOD).stdout
    assert "enrolled" in shown
    refused = ask(deployment, "request", student, course, "nowhere", expect=REFUSED)
    assert [error["course_id"] for error in refused["errors"]] == ["nowhere"]
    partly = ask(deployment, "request", "--partial", student, course, "no", expect=REFUSED)
    assert partly["status"] == "partial"


def test_a_student_is_found_by_sis_id_and_by_key(
    deployment: Deployment, roster: tuple[str, str]
) -> None:
    student, course = roster
    run(deployment, "request", student, course, expect=GOOD)
    found = ask(deployment, "student", student)
    assert [c["sis_id"] for c in found["courses"]] == [course]
    assert ask(deployment, "student", f"key:{found['id']}") == found
    assert ask(deployment, "student", f"sis:{student}") == found
    assert [r["status"] for r in ask(deployment, "results", student)] == ["enrolled"]
    run(deployment, "student", "key:x", expect=USAGE)


@pytest.mark.parametrize("command", [["status", "nothing"], ["student", "nobody"]])
def test_what_nobody_submitted_is_unknown(deployment: Deployment, command: list[str]) -> None:
    run(deployment, *command, expect=REFUSED)


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", [], ["empty", "header"]),
        (b"\x00\x01\x02", [], ["binary", "CSV"]),
        ("sis_id,name\nS1,J\xf6rg\n".encode("latin-1"), [], ["line 2", "UTF-8"]),
        (b"a,b\n1,2\n", [], ["--kind", "--map"]),
        (b"student_id,b\n1,2\n", [], ["course_id or course_sis_id"]),
        (b"a,b\n1,2\n", ["--map", "student_sis_id={nope}"], ["'nope'", "columns are"]),
        (b"a,b\n1,2\n", ["--map", "nope={a}"], ["nope", "student_sis_id"]),
        (b"a,b\n1,2\n", ["--map", "nope"], ["COLUMN=TEMPLATE"]),
    ],
)
def test_a_file_that_cannot_be_understood_publishes_nothing(
    deployment: Deployment,
    tmp_path: Path,
    content: bytes,
    options: Sequence[str],
    words: Sequence[str],
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_bytes(content)
    student = f"S-{uuid.uuid4()}"
    good = write(tmp_path / "good.csv", "sis_id,name", f"{student},Ada")
    done = run(deployment, "submit", good, bad, *options, expect=USAGE)
    assert all(word in done.stderr for word in words), done.stderr
    with EnrollmentClient(deployment.broker_url) as client:
        assert client.student(student) is None


@pytest.mark.parametrize("path", ["missing.csv", "."])
def test_a_path_that_is_no_file_is_said_so(deployment: Deployment, path: str) -> None:
    assert path in run(deployment, "submit", path, expect=USAGE).stderr


def test_an_absent_broker_is_its_own_exit_code(deployment: Deployment) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"redis://:s3cret@127.0.0.1:{probe.getsockname()[1]}/0"
    done = run(deployment, "student", "S1", "--broker", url, expect=UNREACHABLE)
    assert "s3cret" not in done.stderr


def test_an_absent_worker_is_its_own_exit_code(
    deployment: Deployment, broker_url: str, tmp_path: Path
) -> None:
    asked = ("--broker", broker_url, "--timeout", "0.5")
    assert "worker" in run(deployment, "student", "S1", *asked, expect=UNREACHABLE).stderr
    students = write(tmp_path / "students.csv", "sis_id,name", "S1,Ada")
    done = run(deployment, "submit", students, *asked, expect=UNREACHABLE)
    assert "stays queued" in done.stderr


def test_without_a_broker_the_remedy_is_said(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ENROLL_")}
    done = subprocess.run(
        [*ENROLL, "student", "S1"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == USAGE
    assert "enroll up" in done.stderr


# --- the embedded stack -----------------------------------------------------------------------


@contextmanager
def start(folder: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """A command in a folder of its own; ended in any case."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ENROLL_")}
    with subprocess.Popen(
        [*ENROLL, *arguments],
        env=environment | {"TMPDIR": str(folder), "XDG_STATE_HOME": str(folder / "state")},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def finish(folder: Path, *arguments: str, expect: int) -> str:
    with start(folder, *arguments) as process:
        shown, problems = process.communicate(timeout=120)
    assert process.returncode == expect, problems
    return shown + problems


def left_running(folder: Path) -> list[str]:
    """What works in the folder: the children of a stack do, whatever they call themselves."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process.name())
    return found


def test_the_demo_shows_it_all_and_leaves_nothing(tmp_path: Path) -> None:
    shown = finish(tmp_path, "demo", expect=GOOD)
    for words in (
        "25,000",
        "unknown_student",
        "unknown_course",
        "invalid_request",
        "enroll student S",
        "What to type next",
    ):
        assert words in shown
    assert list(tmp_path.iterdir()) == []
    assert left_running(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, "demo") as demo:
        assert demo.stdout is not None
        while "Running" not in demo.stdout.readline():
            assert demo.poll() is None
        assert left_running(tmp_path) != []
        demo.send_signal(number)
        demo.communicate(timeout=60)
    assert demo.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []
    assert left_running(tmp_path) == []


def test_a_running_stack_is_found_without_configuration(tmp_path: Path) -> None:
    write(tmp_path / "students.csv", "sis_id,name", "S1,Ada")
    below = tmp_path / "below"
    below.mkdir()
    with start(tmp_path, "up") as up:
        assert up.stderr is not None
        assert "Running at" in up.stderr.readline()
        assert "added or changed" in finish(tmp_path, "submit", "students.csv", expect=GOOD)
        assert "Ada" in finish(below, "student", "S1", expect=GOOD)
        assert "running in" in finish(tmp_path, "up", expect=UNREACHABLE)
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
    assert up.returncode == GOOD
    assert left_running(tmp_path) == []
    finish(tmp_path, "student", "S1", expect=USAGE)


def test_a_stack_that_is_started_again_still_knows_everything(tmp_path: Path) -> None:
    write(tmp_path / "students.csv", "sis_id,name", "S1,Ada")
    for command in (["submit", "students.csv"], ["student", "S1"]):
        with start(tmp_path, "up") as up:
            assert up.stderr is not None
            assert "Running at" in up.stderr.readline()
            finish(tmp_path, *command, expect=GOOD)
            up.terminate()
            up.communicate(timeout=60)
        assert left_running(tmp_path) == []
