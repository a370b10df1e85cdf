"""Sentinels that promote a replica of Redis when its master is lost.

`sentinels(folder)` gives a `url` for workers and clients, and the present `master`. A failover:
`lost = made.master; lost.kill(); made.wait_for_successor(lost)`; then `lost.start()` and
`made.wait_for_replica()` before the next one.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from support.broker import RunningBroker, Server
from support.relay import make_certificates
from support.requirements import require_program
from support.valkey import free_port
from support.waiting import wait_for

MASTER_NAME = "enrollment"


class Sentinels:
    """A master, a replica and three sentinels; a lost master has a successor within seconds.

    With `password`, the servers demand it; with `sentinel_password`, the sentinels do. With `tls`,
    workers, clients, servers and sentinels talk to each other over TLS.
    """

    def __init__(
        self,
        folder: Path,
        *,
        program: str | None = None,
        password: str = "",
        sentinel_password: str = "",
        tls: bool = False,
    ) -> None:
        folder.mkdir(exist_ok=True)
        program = program or require_program("redis-server")
        self._tls = _tls_options(folder) if tls else []
        self.servers: dict[int, Server] = {}
        """The servers by the ports that workers and clients use."""
        for number in (1, 2):
            port = free_port()
            options = [*self._tls, *(("--tls-port", str(port)) if tls else ())]
            server = Server(
                folder / f"server{number}", *options, program=program, password=password
            )
            self.servers[port if tls else server.port] = server
        (first, master), (_, replica) = self.servers.items()
        replica.follow(master, first)
        self.ports = [free_port() for _ in range(3)]
        self._ask = [
            Redis(
                port=port,
                password=sentinel_password or None,
                decode_responses=True,
                ssl=tls,
                ssl_ca_certs=str(folder / "ca.pem") if tls else None,
            )
            for port in self.ports
        ]
        self._sentinels = [
            self._start(folder, port, first, password, sentinel_password) for port in self.ports
        ]
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        user = f":{quote(password, safe='')}@" if password else ""
        self.url = f"sentinel{'s' if tls else ''}://{user}{hosts}/0?master_name={MASTER_NAME}"
        self.url += (
            f"&sentinel_password={quote(sentinel_password, safe='')}" if sentinel_password else ""
        )
        self.url += f"&ssl_ca_certs={folder / 'ca.pem'}" if tls else ""
        wait_for(self._agree)

    def _start(
        self, folder: Path, port: int, master: int, password: str, own_password: str
    ) -> "subprocess.Popen[bytes]":
        home = folder / f"sentinel{port}"
        home.mkdir()
        lines = [
            "bind 127.0.0.1",
            f'dir "{home}"',
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master} 2",
            f"sentinel down-after-milliseconds {MASTER_NAME} 1000",
            # The same master is not failed over again before twice this time has passed.
            f"sentinel failover-timeout {MASTER_NAME} 2000",
            *([f'sentinel auth-pass {MASTER_NAME} "{password}"'] if password else []),
        ]
        if own_password:
            lines += [f'requirepass "{own_password}"', f'sentinel sentinel-pass "{own_password}"']
        if self._tls:
            lines += [f"tls-port {port}", "port 0"]
            pairs = zip(self._tls[::2], self._tls[1::2], strict=True)
            lines += [f"{name.removeprefix('--')} {value}" for name, value in pairs]
        else:
            lines.append(f"port {port}")
        file = home / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        with (home / "log").open("wb") as log:
            return subprocess.Popen([require_program("redis-sentinel"), str(file)], stdout=log)

    def _agree(self) -> bool:
        """Return whether the sentinels know each other and a replica, as a failover needs."""
        with contextlib.suppress(RedisError):
            states: list[Any] = [ask.sentinel_master(MASTER_NAME) for ask in self._ask]
            replicas: list[Any] = [ask.sentinel_slaves(MASTER_NAME) for ask in self._ask]
            return all(state["num-other-sentinels"] == 2 for state in states) and all(
                replica and not replica[0]["is_sdown"] for replica in replicas
            )
        return False

    @property
    def master(self) -> Server:
        """The server that the sentinels name."""
        for ask in self._ask:
            with contextlib.suppress(RedisError):
                address: Any = ask.sentinel_get_master_addr_by_name(MASTER_NAME)
                return self.servers[int(address[1])]
        raise AssertionError("no sentinel answers")

    def order_failover(self) -> None:
        """Let the sentinels promote the replica although the master is there."""
        self._ask[0].sentinel_failover(MASTER_NAME)

    def wait_for_successor(self, lost: Server) -> Server:
        """Return the server that was promoted in place of a lost one."""
        wait_for(lambda: self.master is not lost and role(self.master) == "master")
        return self.master

    def wait_for_replica(self) -> None:
        """Return when a replica follows the master, so that the next failover is possible."""
        wait_for(lambda: int(self.master.redis.info("replication")["connected_slaves"]) == 1)
        wait_for(self._agree)

    def kill_sentinel(self) -> None:
        """Kill the first sentinel that still runs."""
        self._ask.pop(0).close()
        process = self._sentinels.pop(0)
        process.kill()
        process.wait()

    def close(self) -> None:
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        for ask in self._ask:
            ask.close()
        for server in self.servers.values():
            server.close()


class SentinelBroker(RunningBroker):
    """A broker that workers and submitters find by asking sentinels."""

    def __init__(self, folder: Path) -> None:
        self.sentinels = Sentinels(folder)
        self.url = self.sentinels.url

    @property
    def master(self) -> Server:
        return self.sentinels.master

    def close(self) -> None:
        self.sentinels.close()


def _tls_options(folder: Path) -> list[str]:
    authority, _ = make_certificates(folder)
    return [
        *("--tls-cert-file", str(folder / "cert.pem"), "--tls-key-file", str(folder / "cert.key")),
        *("--tls-ca-cert-file", str(authority), "--tls-auth-clients", "no"),
        *("--tls-replication", "yes"),
    ]


def role(server: Server) -> str:
    """Return `master` or `slave`."""
    return str(server.redis.info("replication")["role"])


@contextlib.contextmanager
def sentinels(folder: Path, **options: Any) -> Iterator[Sentinels]:
    """Three sentinels and two servers: Debian's Redis. The options are those of `Sentinels`."""
    made = Sentinels(folder, **options)
    try:
        yield made
    finally:
        made.close()
