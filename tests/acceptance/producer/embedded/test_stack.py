"""`enroll up` and `enroll demo`: the embedded stack starts, is found, and leaves nothing behind."""

import signal
from pathlib import Path

import pytest
from redis import Redis

from support.commands import GOOD, UNREACHABLE, USAGE, run_enroll, write_lines
from support.stacks import finish, left_running, running_up, stack_environment, started


def test_the_demo_leaves_its_files_where_it_is_told_to(tmp_path: Path) -> None:
    shown = finish(tmp_path, "demo", "--keep", "my trial", expect=GOOD)
    assert "The files are in my trial" in shown
    left = tmp_path / "my trial"
    assert {p.name for p in left.iterdir()} == {
        *("students.csv", "courses.csv", "enrollments.csv", "monday.csv", "tuesday.csv"),
        ".enroll",
    }
    assert left_running(tmp_path) == []
    with running_up(left):
        assert "Student S100000" in finish(left, "student", "S100000", expect=GOOD)
    refused = finish(tmp_path, "demo", "--keep", "my trial", expect=USAGE)
    assert "the folder is not empty" in refused
    assert "cannot be used" in finish(tmp_path, "demo", "--keep", "/dev/null/x", expect=USAGE)


def test_the_demo_shows_every_step_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shown = finish(tmp_path, "demo")
    for words in (
        "25,000",
        "unknown_student",
        "unknown_course",
        "invalid_request",
        "enroll student S",
        "enroll history S",
        "  dropped   C",
        "enroll data-sets create",
        "267 are not in the snapshot",
        "many_drops: It would drop 267",
        "enroll approve",
        "What to type next",
    ):
        assert words in shown
    assert list(tmp_path.iterdir()) == []
    assert left_running(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, "demo") as demo:
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
    with running_up(tmp_path) as (up, _):
        assert "added or changed" in finish(tmp_path, "submit", "students.csv")
        assert "Ada" in finish(below, "student", "S1")
        assert "running in" in finish(tmp_path, "up", expect=UNREACHABLE)
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
    assert up.returncode == GOOD
    assert left_running(tmp_path) == []
    assert "No `enroll up` is running in" in finish(tmp_path, "student", "S1", expect=USAGE)


def test_a_stack_in_another_folder_is_found_by_its_name_with_its_key_prefix(
    tmp_path: Path,
) -> None:
    write_lines(tmp_path / "students.csv", "sis_id,name", "S1,Ada")
    elsewhere = tmp_path / "another place" / "trial"
    with running_up(tmp_path, "--folder", elsewhere, "--key-prefix", "mine:") as (_, printed):
        assert f"Other commands need --folder '{elsewhere}' or ENROLL_FOLDER." in printed
        finish(tmp_path, "--folder", elsewhere, "submit", "students.csv")
        assert "Ada" in finish(tmp_path, "student", "S1", "--folder", elsewhere)
        given = {"ENROLL_FOLDER": str(elsewhere), "ENROLL_RESULT_BACKEND_URL": "redis://h:1/0"}
        environment = stack_environment(tmp_path) | given
        assert "Ada" in run_enroll(environment, "student", "S1", cwd=tmp_path).stdout
        shown = run_enroll(environment, "database", "show", cwd=tmp_path).stdout
        assert shown.count("enrollment.db") == 2
        with Redis.from_url((elsewhere / "broker-url").read_text().strip()) as redis:
            names = {name.decode() for name in redis.scan_iter("*")}
    assert names
    assert {name for name in names if not name.startswith("mine:")} == set()
