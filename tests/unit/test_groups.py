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
    plugins = [f"-p{name}" for name in ("xdist", "pytest_timeout", "support.groups")]
    options = ("-v", "--numprocesses=1", "--dist=loadgroup", "-otimeout=60")
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(TESTS)}
    done = run_program(
        sys.executable, "-m", "pytest", *plugins, *options, tmp_path, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    begun = re.findall(r"PASSED .*/(\w+)/test_\w+\.py::test_(\w+)", done.stdout)
    assert len(begun) == 16
    slow = [place for place, (folder, _) in enumerate(begun) if folder == "faults"]
    assert begun[slow[0]] == ("faults", "long")
    assert slow[0] <= 1, "a slow test begins at once"
    assert len(begun) - slow[-1] - 1 == 3, "fast tests are left"
    assert slow[-1] - slow[0] > 7, "fast tests are among the slow ones"
