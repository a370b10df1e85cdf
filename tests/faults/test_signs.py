"""Every fault during a batch is visible to the operator in the metrics or the log."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.faults import FAULTS
from support.faults.kinds import Needs
from support.faults.scenes import postgres_scene, sqlite_scene
from support.faults.storm import Storm
from support.waiting import wait_for
from support.watch import Watch

KINDS = os.environ.get("FAULTS_KINDS", "").split()
LONG = bool(os.environ.get("FAULTS"))
SHORT = ["kill_worker", "forbid_writing", "terminate_backends"]


@pytest.mark.timeout(0 if LONG else 120)
@pytest.mark.parametrize("name", KINDS or (list(FAULTS) if LONG else SHORT))
def test_each_fault_is_visible_in_the_metrics_or_the_log(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    new_database: Callable[[str], str],
    name: str,
) -> None:
    fault = FAULTS[name]
    with (
        sqlite_scene(tmp_path, new_database("sqlite"))
        if fault.needs is Needs.SQLITE
        else postgres_scene(tmp_path, request.getfixturevalue("postgres_pair"))
    ) as scene:
        storm = Storm(scene, 20260901)
        storm.enter_roster()
        with Watch(scene.fleet) as watch:
            report = storm.run(["nothing", name, "nothing"], singles=3_000, batches=30, size=400)
            assert report.faulty() == {}
            wait_for(lambda: watch.signs(fault.signs) == fault.signs)
            if not fault.loses_numbers:
                wait_for(lambda: watch.metrics["enrollment_requests_total"] == report.requests)
        for line in watch.lines():
            assert {"event", "level", "logger", "timestamp"} <= line.keys()
