"""Whatever the faults and their order, nothing is lost or duplicated, every request decided."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.fleet import Fleet, fleet
from support.paths import ROOT
from support.storm import Report, Storm

SEED = int(os.environ.get("FAULTS_SEED", "20260901"))
FAULTS = dict(item.split("=") for item in os.environ.get("FAULTS", "").split())
"""The numbers of faults, for example `FAULTS="postgresql=220 sqlite=60"`; few by default."""


@pytest.fixture(scope="module")
def reports() -> Iterator[list[Report]]:
    """The reports of all storms, written as one JSON document at the end."""
    made: list[Report] = []
    yield made
    path = ROOT / "build" / "faults.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([vars(report) for report in made], indent=2) + "\n")


def weather(made: Fleet, postgres: Callable[[], None] | None, long: int) -> Report:
    made.start_worker(proxied=True)
    made.start_worker("support.apps.skewed")
    storm = Storm(made, SEED, postgres)
    storm.enter_roster()
    chance = random.Random(SEED)
    if not long:
        slow = ("stop_beyond_lease", "restart_postgres", "freeze_broker")
        faults = [kind for kind in storm.kinds() if kind not in slow]
        chance.shuffle(faults)
        return storm.run(faults, singles=1_500, batches=6, size=500)
    kinds = [*storm.kinds(), "wipe_broker"]
    faults = [kinds[n % len(kinds)] for n in range(long)]
    faults += ["freeze_broker_for_a_minute", "freeze_broker_for_two_minutes"]
    chance.shuffle(faults)
    return storm.run(faults, singles=100 * long, batches=long, size=400)


@pytest.mark.xdist_group("storm")
@pytest.mark.timeout(0 if FAULTS else 180)
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_storm_changes_nothing(
    tmp_path: Path,
    new_database: Callable[[str], str],
    restart_postgres: Callable[[], None],
    reports: list[Report],
    dialect: str,
) -> None:
    postgres = restart_postgres if dialect == "postgresql" else None
    with fleet(tmp_path, new_database(dialect)) as made:
        report = weather(made, postgres, int(FAULTS.get(dialect, 0)))
    print(report)
    reports.append(report)
    assert report.requests == report.acknowledged
    assert (report.lost, report.doubled, report.unexpected, report.unexplained) == (0, 0, 0, 0)
