"""`enroll up` and `enroll demo`: the embedded stack starts, is found, and leaves nothing behind."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from redis import Redis

from support.commands import GOOD, UNREACHABLE, USAGE, clean_environment, start_enroll, write_lines


@contextmanager
def start(folder: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """A command in a folder of its own; ended in any case."""
    environment = clean_environment() | {
        "TMPDIR": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    with start_enroll(environment, *arguments, cwd=folder) as process:
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
    """Return the names of the processes that run in the folder, as all children of a stack do."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process.name())
    return found


def test_the_demo_leaves_its_files_where_it_is_told_to(tmp_path: Path) -> None:
    shown = finish(tmp_path, "demo", "--keep", "my trial", expect=GOOD)
    assert "The files are in my trial" in shown
    left = tmp_path / "my trial"
    assert {p.name for p in left.iterdir()} == {
        *("students.csv", "courses.csv", "enrollments.csv", ".enroll")
    }
    assert left_running(tmp_path) == []
    with start(left, "up") as up:
        assert up.stderr is not None
        assert "Running at" in up.stderr.readline()
        assert "Student S100000" in finish(left, "student", "S100000", expect=GOOD)
        up.terminate()
        up.communicate(timeout=60)
    refused = finish(tmp_path, "demo", "--keep", "my trial", expect=USAGE)
    assert "the folder is not empty" in refused
    assert "cannot be used" in finish(tmp_path, "demo", "--keep", "/dev/null/x", expect=USAGE)


def test_the_demo_shows_every_step_and_leaves_nothing_behind(tmp_path: Path) -> None:
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
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
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
    write_lines(tmp_path / "students.csv", "sis_id,name", "S1,Ada")
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


def test_a_running_stack_is_found_with_its_key_prefix(tmp_path: Path) -> None:
    write_lines(tmp_path / "students.csv", "sis_id,name", "S1,Ada")
    with start(tmp_path, "up", "--key-prefix", "mine:") as up:
        assert up.stderr is not None
        url = up.stderr.readline().split()[2].rstrip(";")
        finish(tmp_path, "submit", "students.csv", expect=GOOD)
        assert "Ada" in finish(tmp_path, "student", "S1", expect=GOOD)
        with Redis.from_url(url) as redis:
            names = {name.decode() for name in redis.scan_iter("*")}
    assert names
    assert {name for name in names if not name.startswith("mine:")} == set()


def test_a_restarted_stack_still_has_all_its_data(tmp_path: Path) -> None:
    write_lines(tmp_path / "students.csv", "sis_id,name", "S1,Ada")
    for command in (["submit", "students.csv"], ["student", "S1"]):
        with start(tmp_path, "up") as up:
            assert up.stderr is not None
            assert "Running at" in up.stderr.readline()
            finish(tmp_path, *command, expect=GOOD)
            up.terminate()
            up.communicate(timeout=60)
        assert left_running(tmp_path) == []
