"""A test that hangs is ended, and one on a busy machine has more time before it counts as one."""

import os
import sys
from pathlib import Path

from support.commands import run_program, write_lines
from support.paths import TESTS

BUSY = "monkeypatch.setattr('os.getloadavg', lambda: (1_000.0, 0.0, 0.0))"
IDLE = "monkeypatch.setattr('os.getloadavg', lambda: (0.0, 0.0, 0.0))"


def test_a_busy_machine_prolongs_the_time_of_a_test_and_ends_one_that_hangs(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "test_them.py",
        "import pytest, time",
        "@pytest.mark.timeout(1)",
        f"def test_busy(monkeypatch): {BUSY}; time.sleep(1.2)",
        "@pytest.mark.timeout(0.3)",
        f"def test_idle(monkeypatch): {IDLE}; time.sleep(600)",
        "@pytest.mark.timeout(0.3)",
        f"def test_hangs(monkeypatch): {BUSY}; time.sleep(600)",
    )
    plugins = [f"-p{name}" for name in ("pytest_timeout", "support.timeouts")]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(TESTS)}
    done = run_program(sys.executable, "-m", "pytest", "-v", *plugins, file, env=environment)
    assert "test_busy PASSED" in done.stdout
    assert "test_idle FAILED" in done.stdout
    assert "test_hangs FAILED" in done.stdout
    assert done.stdout.count("from pytest-timeout") >= 2
