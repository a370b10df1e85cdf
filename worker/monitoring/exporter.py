"""Serves the worker's numbers, and those of its queues, to Prometheus."""

import json
import logging
import os
from collections.abc import Callable, Iterator

from kombu.connection import Connection
from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from redis import Redis

from producer.contract.broker_url import REDIS
from producer.contract.routing import Queue
from worker.settings import Settings

log = logging.getLogger(__name__)

BROKER_TIMEOUT = 2.0
"""Seconds; Prometheus gives up on a scrape after ten by default."""


class Exporter:
    """Serves the numbers of all processes, and those of the queues, at `/metrics`."""

    def __init__(self, settings: Settings, about: dict[str, str]) -> None:
        """Start to listen. Raises OSError."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(_Worker(about))
        registry.register(_Broker(settings.broker_url.get_secret_value()))
        assert settings.metrics_port is not None  # noqa: S101 - else nobody asks for a server
        self._server, _ = start_http_server(
            settings.metrics_port, settings.metrics_host, registry=registry
        )
        self._owner = os.getpid()

    def forget(self) -> None:
        """In a forked process: let go of the port, which would outlive the worker otherwise."""
        if os.getpid() != self._owner:
            self._server.socket.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Worker:
    """A constant that says who this is; joined to the others by the target."""

    def __init__(self, about: dict[str, str]) -> None:
        self._about = about

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("enrollment_worker", "What this worker is.", self._about)


class _Broker:
    """What waits in the queues, asked at each scrape: it is true also while nothing is taken."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ask: Callable[[], dict[str, tuple[int, float | None]]] = self._ask_rabbitmq
        if url.startswith(REDIS):
            self._redis = Redis.from_url(
                url, socket_timeout=BROKER_TIMEOUT, socket_connect_timeout=BROKER_TIMEOUT
            )
            self._first_seen: dict[str, tuple[int, float]] = {}
            self._ask = self._ask_redis

    def collect(self) -> Iterator[Metric]:
        found = {}
        try:
            found = self._ask()
        except Exception as error:  # noqa: BLE001 - whatever a broker's client raises
            log.warning("The queues could not be counted: %s", type(error).__name__)
        yield GaugeMetricFamily(
            "enrollment_broker_up", "Whether the queues could be counted.", value=bool(found)
        )
        waiting = GaugeMetricFamily(
            "enrollment_queue_messages", "Messages that wait in a queue.", labels=["queue"]
        )
        oldest = GaugeMetricFamily(
            "enrollment_queue_oldest_seconds",
            "For how long the oldest message of a queue has been waiting.",
            labels=["queue"],
        )
        for queue, (count, age) in found.items():
            waiting.add_metric([queue], count)
            if age is not None:
                oldest.add_metric([queue], age)
        yield waiting
        yield oldest

    def _ask_redis(self) -> dict[str, tuple[int, float | None]]:
        found: dict[str, tuple[int, float | None]] = {}
        for queue in Queue:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.llen(queue.value)
                pipeline.lindex(queue.value, -1)
                pipeline.time()
                count, message, (seconds, microseconds) = pipeline.execute()
            now = seconds + microseconds / 1_000_000
            found[queue.value] = count, self._age(queue, message, now)
        return found

    def _age(self, queue: Queue, message: bytes | None, now: float) -> float:
        """Seconds since a message was submitted; if it does not say, since it was first seen.

        `now` is the broker's: all workers say the same, also one whose clock is wrong.
        """
        if message is None:
            return 0.0
        seen, since = self._first_seen.get(queue, (None, now))
        if seen != hash(message):
            since = _submitted_at(message, now)
            self._first_seen[queue] = hash(message), since
        return max(0.0, now - since)

    def _ask_rabbitmq(self) -> dict[str, tuple[int, float | None]]:
        """How old its messages are, nobody knows who does not take them."""
        with Connection(self._url, connect_timeout=BROKER_TIMEOUT) as connection:
            channel = connection.channel()
            return {
                queue.value: (channel.queue_declare(queue.value, passive=True).message_count, None)
                for queue in Queue
            }


def _submitted_at(message: bytes, now: float) -> float:
    """What a message says of when it was submitted, in seconds since 1970; else now."""
    try:
        said = json.loads(message)["properties"]["timestamp"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return now
    return float(said) if type(said) in (int, float) and 0 < said <= now else now
