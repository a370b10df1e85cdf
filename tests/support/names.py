"""Names that lead to one server and later to another, as DNS or a load balancer does."""

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.valkey import free_port
from support.waiting import wait_for


class Name:
    """A port that leads to another one: a TCP proxy in a process of its own.

    It can lead elsewhere, go silent, or cut what goes through it.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="enrollment-tests-")
        self._target = Path(self._folder.name) / "target"
        self.lead_to(target)
        self._start()

    def lead_to(self, port: int) -> None:
        """Lead new connections to this port; open ones stay where they are."""
        part = self._target.with_suffix(".part")
        part.write_text(str(port))
        part.rename(self._target)

    def _start(self) -> None:
        script = Path(__file__).with_name("proxy.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(self.port), str(self._target)],
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._accepts)

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Forward nothing; connections stay open, and new ones hang."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        """Cut every connection at once."""
        self._stop()
        self._start()

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._stop()
        self._folder.cleanup()
