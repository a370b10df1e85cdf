"""Whatever the faults and their order, nothing is lost or duplicated; all requests are decided."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.faults.kinds import Scene
from support.faults.report import Report
from support.faults.scenes import SCENES, scene_of
from support.faults.storm import Storm
from support.paths import ROOT

SEED = int(os.environ.get("FAULTS_SEED", "20260901"))
FAULTS = dict(item.split("=") for item in os.environ.get("FAULTS", "").split())
"""The numbers of faults, for example `FAULTS="postgresql=300 sqlite=60"`; few by default."""
KINDS = os.environ.get("FAULTS_KINDS", "").split()
"""The kinds that strike, for example `FAULTS_KINDS="revoke_insert lock_table"`; by default all."""
SHORT = {
    "sqlite": ["kill_worker", "rename_sqlite_table", "lock_sqlite", "switch_redis", "purge"],
    "postgresql": ["kill_worker", "revoke_insert", "lead_to_standby", "limit_statements"],
    "sentinels": ["kill_master"],
}


@pytest.fixture(scope="module")
def reports() -> Iterator[list[Report]]:
    """The reports of all storms, written as one JSON document at the end."""
    made: list[Report] = []
    yield made
    path = ROOT / "build" / "faults.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([vars(report) for report in made], indent=2) + "\n")


def weather(scene: Scene, name: str) -> Report:
    storm = Storm(scene, SEED)
    storm.enter_roster()
    number = int(FAULTS.get(name, 0))
    kinds = KINDS or storm.kinds()
    if not number and not KINDS:
        return storm.run(SHORT[name], singles=500, batches=10, size=100)
    number = number or len(kinds)
    faults = [kinds[n % len(kinds)] for n in range(number)]
    if not KINDS and name == "postgresql":
        faults += ["freeze_broker_for_a_minute", "freeze_broker_for_two_minutes"]
    random.Random(SEED).shuffle(faults)
    return storm.run(faults, singles=100 * number, batches=4 * number, size=100)


@pytest.mark.xdist_group("storm")
@pytest.mark.timeout(0 if FAULTS or KINDS else 360)
@pytest.mark.parametrize("name", SCENES)
def test_a_storm_of_faults_does_not_change_the_results(
    request: pytest.FixtureRequest, tmp_path: Path, reports: list[Report], name: str
) -> None:
    with scene_of(name, tmp_path, request.getfixturevalue) as scene:
        report = weather(scene, name)
    report.storm = name
    print(report)
    reports.append(report)
    assert report.faulty() == {}
