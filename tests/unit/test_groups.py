"""The groups of tests that share something expensive, and the order of all others."""

import os
import re
import sys
from pathlib import Path

import pytest

from support.commands import run_program, write_lines
from support.paths import TESTS


@pytest.mark.xdist_group("groups")
def test_the_scheduler_sees_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    is_scheduled = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@groups") == is_scheduled


def run_tests(folder: Path) -> str:
    """Run the tests of a folder in one process, all of which must pass; return what is printed."""
    plugins = [f"-p{name}" for name in ("xdist", "pytest_timeout", "support.groups")]
    options = ("-v", "--numprocesses=1", "--dist=loadgroup", "-otimeout=60")
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(TESTS)}
    done = run_program(sys.executable, "-m", "pytest", *plugins, *options, folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_slow_tests_begin_first_and_fast_ones_are_left_for_the_end(tmp_path: Path) -> None:
    for folder in ("unit", "faults"):
        (tmp_path / folder).mkdir()
        write_lines(
            tmp_path / folder / f"test_{folder}.py",
            "import pytest",
            *(f"def test_{n}(): pass" for n in range(7)),
            "@pytest.mark.timeout(900)",
            "def test_long(): pass",
        )
    begun = re.findall(r"PASSED .*/(\w+)/test_\w+\.py::test_(\w+)", run_tests(tmp_path))
    assert len(begun) == 16
    slow = [place for place, (folder, _) in enumerate(begun) if folder == "faults"]
    assert begun[slow[0]] == ("faults", "long")
    assert slow[0] <= 1, "a slow test begins at once"
    assert len(begun) - slow[-1] - 1 == 3, "fast tests are left"
    assert slow[-1] - slow[0] > 7, "fast tests are among the slow ones"


def test_what_a_group_shares_lives_until_its_last_test_and_no_longer(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "conftest.py",
        "import pytest",
        "started, running = [], []",
        "def shared(name, **options):",
        "    @pytest.fixture(scope='session', name=name, **options)",
        "    def start():",
        "        started.append(name)",
        "        running.append(name)",
        "        yield running",
        "        running.remove(name)",
        "    return start",
        "deployment = shared('deployment', params=['sqlite'])",
        "browser = shared('browser')",
        "@pytest.fixture(scope='session', name='running')",
        "def fixture_running(): return running",
        "@pytest.fixture(scope='session', name='started')",
        "def fixture_started(): return started",
    )
    write_lines(
        tmp_path / "test_a.py",
        "import pytest",
        "@pytest.mark.parametrize('n', range(3))",
        "def test_with(deployment, n): assert deployment == ['deployment']",
        "@pytest.mark.xdist_group('pages')",
        "class TestPages:",
        "    @pytest.mark.parametrize('n', range(2))",
        "    def test_page(self, browser, n): assert browser == ['browser']",
        "    def test_request(self, running): assert running == []",
        "def test_without(running, started):",
        "    assert (running, sorted(started)) == ([], ['browser', 'deployment'])",
    )
    assert run_tests(tmp_path).count("PASSED") == 7
