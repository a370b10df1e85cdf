"""What an operator sees: the metrics of all workers of a fleet, and what they write."""

import json
import threading
from collections import defaultdict
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from support.fleet import Fleet, Worker
from support.http import NO_TLS

INTERVAL = 0.25
"""Seconds between two scrapes of all workers."""


class Watch:
    """Scrapes each worker as Prometheus does, only more often, and reads the log."""

    def __init__(self, fleet: Fleet) -> None:
        self.metrics: dict[str, float] = defaultdict(float)
        """How much the counters rose in total, and what was not up."""
        self._fleet = fleet
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._scrape_again_and_again)
        self._before: dict[tuple[Worker, str, str], float] = {}

    def __enter__(self) -> Self:
        self._scrape_all()
        self.metrics.clear()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log lines of the workers. Raises ValueError for a line that is not JSON."""
        text = self._fleet.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def signs(self, expected: frozenset[str]) -> set[str]:
        """Return the signs that were seen: a metric that rose, or the beginning of a line."""
        rose = {name for name, value in self.metrics.items() if value}
        events = [line["event"] for line in self.lines()]
        return {
            sign for sign in expected if sign in rose or any(e.startswith(sign) for e in events)
        }

    def _scrape_again_and_again(self) -> None:
        while not self._over.wait(INTERVAL):
            self._scrape_all()

    def _scrape_all(self) -> None:
        for worker in list(self._fleet.workers):
            try:
                answer = httpx.get(worker.metrics_url, timeout=3, verify=NO_TLS)
                text = answer.raise_for_status().text
            except httpx.HTTPError:
                self.metrics["not up"] += 1
            else:
                self._count(worker, text)

    def _count(self, worker: Worker, text: str) -> None:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    key = worker, sample.name, str(sample.labels)
                    self.metrics[sample.name] += sample.value - self._before.get(key, 0)
                    self._before[key] = sample.value
                elif sample.name == "enrollment_broker_up":
                    self.metrics["broker not up"] += 1 - sample.value
