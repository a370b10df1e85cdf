"""Whatever the faults and their order, nothing is lost or duplicated, every request decided."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.faults.kinds import Scene
from support.faults.report import Report
from support.faults.scenes import postgres_scene, sqlite_scene
from support.faults.storm import Storm
from support.paths import ROOT

SEED = int(os.environ.get("FAULTS_SEED", "20260901"))
FAULTS = dict(item.split("=") for item in os.environ.get("FAULTS", "").split())
"""The numbers of faults, for example `FAULTS="postgresql=300 sqlite=60"`; few by default."""
KINDS = os.environ.get("FAULTS_KINDS", "").split()
"""The kinds that strike, for example `FAULTS_KINDS="revoke_insert lock_table"`; by default all."""
SHORT = {
    "sqlite": ["kill_worker", "rename_sqlite_table", "lock_sqlite", "switch_redis"],
    "postgresql": ["kill_worker", "revoke_insert", "lead_to_standby", "limit_statements"],
}


@pytest.fixture(scope="module")
def reports() -> Iterator[list[Report]]:
    """The reports of all storms, written as one JSON document at the end."""
    made: list[Report] = []
    yield made
    path = ROOT / "build" / "faults.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([vars(report) for report in made], indent=2) + "\n")


def weather(scene: Scene, dialect: str) -> Report:
    storm = Storm(scene, SEED)
    storm.enter_roster()
    number = int(FAULTS.get(dialect, 0))
    kinds = [kind for kind in KINDS or storm.kinds() if kind in storm.kinds()]
    if not number and not KINDS:
        return storm.run(SHORT[dialect], singles=1_500, batches=6, size=500)
    number = number or len(kinds)
    faults = [kinds[n % len(kinds)] for n in range(number)]
    random.Random(SEED).shuffle(faults)
    return storm.run(faults, singles=100 * number, batches=number, size=400)


@pytest.mark.xdist_group("storm")
@pytest.mark.timeout(0 if FAULTS or KINDS else 180)
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_storm_changes_nothing(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    new_database: Callable[[str], str],
    reports: list[Report],
    dialect: str,
) -> None:
    with (
        sqlite_scene(tmp_path, new_database("sqlite"))
        if dialect == "sqlite"
        else postgres_scene(tmp_path, request.getfixturevalue("postgres_pair"))
    ) as scene:
        report = weather(scene, dialect)
    print(report)
    reports.append(report)
    assert report.faulty() == {}
