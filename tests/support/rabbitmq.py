"""Start a real RabbitMQ, of Debian's package, with all its files in a folder."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kombu.connection import Connection

from support.requirements import require_program
from support.valkey import free_port
from support.waiting import wait_for

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Debian's own scripts, without the ones in front of them that change the user."""


@dataclass(frozen=True)
class RabbitMQ:
    """A running broker."""

    port: int
    process: "subprocess.Popen[bytes]"
    environment: Mapping[str, str]

    def url(self, host: str = "127.0.0.1") -> str:
        return f"amqp://guest:guest@{host}:{self.port}//"

    def control(self, *arguments: str) -> None:
        """Run `rabbitmqctl`."""
        subprocess.run(
            [_script("rabbitmqctl"), "--quiet", *arguments],
            env=self.environment,
            capture_output=True,
            check=True,
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the broker's processes."""
        os.killpg(self.process.pid, number)


def _script(name: str) -> str:
    installed = require_program(name)
    return str(SCRIPTS / name) if (SCRIPTS / name).exists() else installed


@contextmanager
def running_rabbitmq(folder: Path) -> Iterator[RabbitMQ]:
    """A broker on free ports of loopback."""
    port, names = free_port(), free_port()
    environment = os.environ | {
        "HOME": str(folder),  # Where Erlang puts its cookie.
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_NODENAME": f"test-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }
    (folder / "plugins").write_text("[].\n")
    with (folder / "output").open("wb") as output:
        # A broker starts epmd, which would outlive it, unless there is one already.
        epmd = subprocess.Popen([require_program("epmd")], env=environment, stdout=output)
        server = subprocess.Popen(
            [_script("rabbitmq-server")],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    broker = RabbitMQ(port, server, environment)
    try:
        wait_for(lambda: _accepts(broker, folder / "output"), 120)
        yield broker
    finally:
        with suppress(ProcessLookupError):
            broker.signal(signal.SIGKILL)
        server.wait()
        epmd.kill()
        epmd.wait()


def _accepts(broker: RabbitMQ, output: Path) -> bool:
    assert broker.process.poll() is None, output.read_text()
    with suppress(OSError), Connection(broker.url(), connect_timeout=1) as connection:
        connection.connect()
        return True
    return False
