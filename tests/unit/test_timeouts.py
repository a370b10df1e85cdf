"""A test that hangs is ended, and a wait as well; both have more time on a busy machine."""

import os
import sys
import time
from pathlib import Path

import pytest

from support.commands import run_program, write_lines
from support.paths import TESTS
from support.waiting import wait_for

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


@pytest.mark.parametrize(("running", "most"), [(0.0, 10), (1_000_000.0, 50)], ids=["idle", "busy"])
def test_a_busy_machine_prolongs_a_wait(
    monkeypatch: pytest.MonkeyPatch, running: float, most: float
) -> None:
    now = 1000.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(os, "getloadavg", lambda: (running, 0.0, 0.0))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(AssertionError, match="was not met"):
        wait_for(lambda: False, 10)
    assert now - 1000 == pytest.approx(most, abs=0.3)
