"""Every fault during a batch is visible to the operator in the metrics or the log."""

import os
from pathlib import Path

import pytest

from support.faults import FAULTS
from support.faults.kinds import Needs
from support.faults.report import Report
from support.faults.scenes import scene_of
from support.faults.storm import MINUTE, Storm
from support.waiting import wait_for
from support.watch import Watch

KINDS = os.environ.get("FAULTS_KINDS", "").split()
LONG = bool(os.environ.get("FAULTS"))
ALL = [name for name, fault in FAULTS.items() if fault.seconds[1] < MINUTE]
SHORT = ["kill_worker", "forbid_writing", "terminate_backends"]
SCENES = {Needs.SQLITE: "sqlite", Needs.SENTINELS: "sentinels"}


@pytest.mark.timeout(0 if LONG else 240)
@pytest.mark.parametrize("name", KINDS or (ALL if LONG else SHORT))
def test_each_fault_is_visible_in_the_metrics_or_the_log(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    fault = FAULTS[name]
    scene_name = SCENES.get(fault.needs, "postgresql") if fault.needs else "postgresql"
    with scene_of(scene_name, tmp_path, request.getfixturevalue) as scene:
        storm = Storm(scene, 20260901, alone=True)
        storm.enter_roster()
        with Watch(scene.fleet) as watch:
            report = _in_the_midst_of_work(storm, name)
            assert report.faulty() == {}
            wait_for(lambda: watch.signs(fault.signs) == fault.signs)
            if not fault.loses_numbers:
                wait_for(lambda: watch.metrics["enrollment_requests_total"] == report.requests)
        for line in watch.lines():
            assert {"event", "level", "logger", "timestamp"} <= line.keys()


def _in_the_midst_of_work(storm: Storm, name: str) -> Report:
    """Let a fault strike busy workers; in a long run, they are busy long before and after it."""
    faults = ["nothing", name, "nothing"] if LONG else [name]
    share = len(faults)
    return storm.run(faults, singles=1_000 * share, batches=20 * share, size=100)
