"""Every fault during a batch is visible to the operator in the metrics or the log."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from producer.contract.routing import Queue
from support.fleet import fleet
from support.storm import Storm
from support.waiting import wait_for
from support.watch import Watch

ABSENT = {"not up"}
LOST = {"not up", "messages recovered", "enrollment_recovered_messages_total"}
CUT = {"consumer: Connection to broker lost"}
AWAY = {"The database is away", "enrollment_database_wait_seconds_total"}
REFUSES = {f"Redis refuses to hand out messages of {queue}" for queue in Queue}
SIGNS: dict[str, set[str]] = {
    "kill_pool_process": {"Process 'ForkPoolWorker-"},
    "kill_worker": LOST,
    "kill_main_process": ABSENT,
    "terminate_worker": ABSENT,
    "terminate_group": ABSENT,
    "kill_while_taking": LOST,
    "stop_beyond_lease": ABSENT,
    "restart_broker": CUT,
    "wipe_broker": CUT,
    "cut_connections": CUT,
    "cut_proxy": CUT,
    "silence_proxy": {"broker not up"},
    "freeze_broker": {"broker not up"},
    "fill_broker": REFUSES,
    "forbid_writing": REFUSES,
    "push_malformed": {"dead letter", "enrollment_dead_letters_total"},
    "terminate_backends": AWAY,
    "restart_postgres": AWAY,
    "deliver_again": set(),
    "shuffle": set(),
}
"""For each fault, the metrics that rise and the beginnings of log lines."""

LOSES_NUMBERS = {
    *("kill_pool_process", "kill_worker", "kill_main_process", "kill_while_taking"),
    *("terminate_worker", "terminate_group", "wipe_broker"),
}
"""Killed workers lose the numbers since the last scrape; after a wipe, requests come twice."""

LONG = bool(os.environ.get("FAULTS"))
SHORT = ("kill_worker", "forbid_writing", "terminate_backends")


@pytest.mark.timeout(0 if LONG else 120)
@pytest.mark.parametrize("fault", SIGNS if LONG else SHORT)
def test_each_fault_is_visible_in_the_metrics_or_the_log(
    tmp_path: Path,
    new_database: Callable[[str], str],
    restart_postgres: Callable[[], None],
    fault: str,
) -> None:
    with fleet(tmp_path, new_database("postgresql")) as made:
        made.start_worker(proxied=True)
        made.start_worker("support.apps.skewed")
        storm = Storm(made, 20260901, restart_postgres)
        storm.enter_roster()
        with Watch(made) as watch:
            report = storm.run(["nothing", fault, "nothing"], singles=6_000, batches=60, size=400)
            assert (report.lost, report.doubled, report.unexplained) == (0, 0, 0)
            wait_for(lambda: watch.signs(SIGNS[fault]) == SIGNS[fault])
            if fault not in LOSES_NUMBERS:
                wait_for(lambda: watch.metrics["enrollment_requests_total"] == report.requests)
        for line in watch.lines():
            assert {"event", "level", "logger", "timestamp"} <= line.keys()
