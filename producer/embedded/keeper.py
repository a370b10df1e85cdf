"""Start the processes of an embedded stack, and stop them in order when `enroll up` has ended.

A program of its own: `python -m producer.embedded.keeper PARENT LOCK`. It reads commands from its
standard input, one JSON document a line. When the input ends, because `enroll up` closed it or was
killed, it stops what it started, the last one first: the worker finishes its work while the broker
still runs. It has a session of its own, so that neither Ctrl-C nor a closed terminal reaches it.

If the keeper itself is killed, Linux kills its children. On other systems `enroll up` does so, and
until then the children hold the lock of the folder.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable

from billiard.util import set_pdeathsig

LOOK_SECONDS = 1.0
"""How often to look whether the parent still runs, in case a fork of it holds the other end."""


class Keeper:
    """The processes that this program has started."""

    def __init__(self, parent: int, lock: int) -> None:
        self._parent = parent
        self._lock = lock
        self._children: list[Child] = []
        self._received = b""
        self._is_told_to_stop = False

    def run(self) -> None:
        """Obey commands until there will be no more; then stop all children."""
        wake = _wake_on_signals(self._stop_soon)
        try:
            while not self._is_told_to_stop and os.getppid() == self._parent:
                ready, _, _ = select.select([sys.stdin, wake], [], [], LOOK_SECONDS)
                if wake in ready:
                    os.read(wake, 1024)
                if sys.stdin in ready and not self._obey():
                    break
                self._report_ended()
        finally:
            for child in reversed(self._children):
                child.stop()

    def _obey(self) -> bool:
        """Do what the parent has written; return False if it will write no more."""
        received = os.read(sys.stdin.fileno(), 65_536)
        *lines, self._received = (self._received + received).split(b"\n")
        for line in lines:
            self._start(**json.loads(line))
        return bool(received)

    def _stop_soon(self) -> None:
        self._is_told_to_stop = True

    def _start(self, name: str, command: list[str], settings: dict[str, str], grace: float) -> None:
        keeper = os.getpid()

        def die_with_the_keeper() -> None:
            with contextlib.suppress(OSError):  # Other systems than Linux have no such signal.
                set_pdeathsig(signal.SIGKILL)
            if os.getppid() != keeper:
                os._exit(1)

        with open(f"{name}.log", "ab") as log:  # noqa: PTH123 - in the folder of the stack
            # A group of its own, so that what the child has started can be killed with it.
            process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[self._lock],
                preexec_fn=die_with_the_keeper,  # noqa: PLW1509 - this program has no threads
            )
        self._children.append(Child(name, process, grace))
        _report(name=name, pid=process.pid)

    def _report_ended(self) -> None:
        for child in self._children:
            if not child.is_reported and child.process.poll() is not None:
                child.is_reported = True
                _report(name=child.name, exit_code=child.process.returncode)


class Child:
    """A process, and how many seconds it may take to stop."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", grace: float) -> None:
        self.name = name
        self.process = process
        self.grace = grace
        self.is_reported = False

    def stop(self) -> None:
        """Ask the process to stop; after its grace time, kill it and whatever it has started."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(self.grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _wake_on_signals(stop_soon: Callable[[], None]) -> int:
    """Return a pipe that can be read when a signal has come: a child has ended, or we must stop."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop_soon())
    return read


def _report(**fields: object) -> None:
    with contextlib.suppress(OSError):  # The parent has ended.
        os.write(sys.stdout.fileno(), json.dumps(fields).encode() + b"\n")


def main() -> None:
    """Run the keeper; its working directory is the folder of the stack."""
    parent, lock = map(int, sys.argv[1:])
    os.umask(0o077)
    Keeper(parent, lock).run()


if __name__ == "__main__":
    main()
