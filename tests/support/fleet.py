"""A broker and workers that can be killed, frozen and cut off."""

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from support.broker import Broker, RunningBroker
from support.names import Name
from support.valkey import free_port
from support.workers import WITHOUT_GOSSIP, start_worker, worker_environment


@dataclass(frozen=True)
class WorkerOptions:
    """What distinguishes a worker from the others of its fleet."""

    app: str = "worker"
    proxied: bool = False
    """Whether it reaches the broker by a name of its own, which can be cut or go silent."""
    database_url: str | None = None
    settings: dict[str, str] = field(default_factory=dict)


class Worker:
    """A worker in a process group of its own; its log is JSON, and its metrics are served."""

    def __init__(
        self,
        broker_url: str,
        database_url: str,
        log: Path,
        options: WorkerOptions,
        *,
        fresh: bool = False,
    ) -> None:
        self.options = options
        port = free_port()
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"
        environment = worker_environment(broker_url, options.database_url or database_url)
        environment |= {"ENROLL_DATABASE_WAIT": "10", "ENROLL_LOG_FORMAT": "json"}
        environment |= {"ENROLL_METRICS_PORT": str(port), **options.settings}
        arguments = ("--concurrency=2", "--loglevel=INFO", *WITHOUT_GOSSIP)
        self.process = start_worker(environment, log, *arguments, app=options.app, fresh=fresh)

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
    """A broker, perhaps a name that leads to it, and workers on one database."""

    def __init__(self, folder: Path, database_url: str, broker: RunningBroker) -> None:
        self.folder = folder
        self.database_url = database_url
        self.broker = broker
        self._name = broker.new_name() if isinstance(broker, Broker) else None
        self.log = folder / "worker.log"
        self.workers: list[Worker] = []

    @property
    def name(self) -> Name:
        """The name that leads proxied workers to the broker; with sentinels there is none."""
        assert self._name is not None
        return self._name

    def start_worker(
        self,
        app: str = "worker",
        *,
        proxied: bool = False,
        database_url: str | None = None,
        **settings: str,
    ) -> Worker:
        return self._start(WorkerOptions(app, proxied, database_url, settings))

    def _start(self, options: WorkerOptions, *, fresh: bool = False) -> Worker:
        url = self.broker.url
        if options.proxied:
            url = f"redis://127.0.0.1:{self.name.port}/0"
        worker = Worker(url, self.database_url, self.log, options, fresh=fresh)
        self.workers.append(worker)
        return worker

    def any_worker(self, chance: random.Random) -> Worker:
        return chance.choice([worker for worker in self.workers if worker.alive()])

    def replace(self, worker: Worker) -> None:
        """Restart a worker that has ended, as a supervisor does; its start takes its time."""
        self.workers.remove(worker)
        self._start(worker.options, fresh=True)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.broker.close()


@contextlib.contextmanager
def fleet(folder: Path, database_url: str, broker: RunningBroker | None = None) -> Iterator[Fleet]:
    """A fleet with its own Valkey, unless another broker is given; it ends with the fleet."""
    made = Fleet(folder, database_url, broker or Broker(folder / "valkey"))
    try:
        yield made
    finally:
        made.close()
