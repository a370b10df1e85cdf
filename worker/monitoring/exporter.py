"""Serve the metrics of the worker and its queues to Prometheus."""

import json
import logging
import os
from collections.abc import Callable, Iterator

from kombu.connection import Connection
from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from producer.contract.broker_url import REDIS
from producer.contract.keys import Keys, count_waiting
from producer.contract.redis_connection import connect_redis
from producer.contract.routing import Queue
from producer.fields import MAX_MESSAGE
from worker.messaging.piecewise import OPTIONS
from worker.settings import Settings

log = logging.getLogger(__name__)

BROKER_TIMEOUT = 2.0
"""Seconds to wait for the broker; by default Prometheus gives up on a scrape after ten."""


class Exporter:
    """Serves the metrics of all processes, and of the queues, at `/metrics`."""

    def __init__(self, settings: Settings, labels: dict[str, str]) -> None:
        """Start listening. Raises OSError."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(_Worker(labels))
        registry.register(
            _Broker(settings.broker_url.get_secret_value(), Keys(settings.key_prefix))
        )
        assert settings.metrics_port is not None  # noqa: S101 - the caller checks it
        self._server, _ = start_http_server(
            settings.metrics_port, settings.metrics_host, registry=registry
        )
        self._owner = os.getpid()

    def forget(self) -> None:
        """Close the port in a forked process, which may otherwise outlive the worker."""
        if os.getpid() != self._owner:
            self._server.socket.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Worker:
    """A constant metric about this worker; join it to the others by the target."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("enrollment_worker", "Version and id of this worker.", self._labels)


class _Broker:
    """The lengths and ages of the queues, read at each scrape, so that they are always current."""

    def __init__(self, url: str, keys: Keys) -> None:
        self._url = url
        self._keys = keys
        self._read: Callable[[], dict[str, tuple[int, float | None]]] = self._read_rabbitmq
        if url.startswith(REDIS):
            self._redis = connect_redis(
                url, socket_timeout=BROKER_TIMEOUT, socket_connect_timeout=BROKER_TIMEOUT, **OPTIONS
            )
            self._first_seen: dict[str, tuple[int, float]] = {}
            self._read = self._read_redis

    def collect(self) -> Iterator[Metric]:
        queues = {}
        try:
            queues = self._read()
        except Exception as error:  # noqa: BLE001 - a broker's client may raise anything
            log.warning("The queues could not be counted: %s", type(error).__name__)
        yield GaugeMetricFamily(
            "enrollment_broker_up", "1 if the queues could be counted, else 0.", value=bool(queues)
        )
        waiting = GaugeMetricFamily(
            "enrollment_queue_messages", "Messages waiting in a queue.", labels=["queue"]
        )
        oldest = GaugeMetricFamily(
            "enrollment_queue_oldest_seconds",
            "Seconds that the oldest message of a queue has been waiting.",
            labels=["queue"],
        )
        for queue, (count, age) in queues.items():
            waiting.add_metric([queue], count)
            if age is not None:
                oldest.add_metric([queue], age)
        yield waiting
        yield oldest

    def _read_redis(self) -> dict[str, tuple[int, float | None]]:
        queues: dict[str, tuple[int, float | None]] = {}
        for queue in Queue:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.lindex(self._keys.queue(queue), -1)
                pipeline.time()
                for name in self._keys.waiting(queue):
                    pipeline.llen(name)
                message, (seconds, microseconds), *counts = pipeline.execute(raise_on_error=False)
            now = seconds + microseconds / 1_000_000
            queues[queue.value] = count_waiting(counts), self._age(queue, message, now)
        return queues

    def _age(self, queue: Queue, message: bytes | None, now: float) -> float:
        """Return the seconds since a message was submitted, or since it was first seen here.

        `now` is the broker's time, so that all workers report the same age, whatever their clocks.
        """
        if message is None:
            return 0.0
        seen_hash, since = self._first_seen.get(queue, (None, now))
        if seen_hash != hash(message):
            since = _submitted_at(message, now)
            self._first_seen[queue] = hash(message), since
        return max(0.0, now - since)

    def _read_rabbitmq(self) -> dict[str, tuple[int, float | None]]:
        """Count the messages; RabbitMQ does not show their age without delivering them."""
        with Connection(self._url, connect_timeout=BROKER_TIMEOUT) as connection:
            channel = connection.channel()
            return {
                queue.value: (channel.queue_declare(queue.value, passive=True).message_count, None)
                for queue in Queue
            }


def _submitted_at(message: bytes, now: float) -> float:
    """Return the time of submission in a message, in seconds since 1970; `now` if it has none."""
    if len(message) > MAX_MESSAGE:  # It is refused; its values could fill the memory of the worker.
        return now
    try:
        timestamp = json.loads(message)["properties"]["timestamp"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return now
    is_valid = type(timestamp) in (int, float) and 0 < timestamp <= now
    return float(timestamp) if is_valid else now
