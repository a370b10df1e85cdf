"""Speak with the keeper: start the processes of a stack, and notice when one of them ends."""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from producer.embedded.folder import StackError


class Processes:
    """The processes of a stack in a folder, which all hold its lock.

    They end with this process, whatever ends it (`producer.embedded.keeper`).
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._pids: dict[str, int] = {}
        self._ended: set[str] = set()
        self._received = b""

    def __enter__(self) -> Self:
        log_file = os.open(
            self._folder / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        with os.fdopen(log_file, "ab") as log:
            self._keeper = subprocess.Popen(  # noqa: S603 - our own command line
                [
                    *(sys.executable, "-m", "producer.embedded.keeper"),
                    *(str(os.getpid()), str(self._lock)),
                ],
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
                pass_fds=[self._lock],
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the keeper stop all processes, and wait until they have ended."""
        with self._keeper:  # Closes its input; then waits.
            pass
        if self._keeper.returncode:
            self._kill()
        fcntl.flock(self._lock, fcntl.LOCK_UN)  # Even if this process was forked meanwhile.

    def start(
        self, name: str, command: list[str], settings: Mapping[str, str], grace: float
    ) -> None:
        """Start a process, which writes to `NAME.log`; it has `grace` seconds to stop in the end.

        `settings` is its environment. Raises StackError.
        """
        fields = {
            "name": name, "command": command, "settings": dict(settings), "grace": grace,
        }  # fmt: skip
        assert self._keeper.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._keeper.stdin.write(json.dumps(fields).encode() + b"\n")
        except BrokenPipeError:
            raise self._lost() from None
        while name not in self._pids:
            self._receive(None)

    def is_running(self, name: str, wait: float = 0) -> bool:
        """Return whether a process has not ended; wait up to so many seconds for its end.

        Raises StackError if the keeper has ended.
        """
        self._receive(wait)
        return name not in self._ended

    def _receive(self, wait: float | None) -> None:
        """Read what the keeper reports; wait for it up to so many seconds, or without end."""
        assert self._keeper.stdout is not None  # noqa: S101 - it is a pipe
        if not select.select([self._keeper.stdout], [], [], wait)[0]:
            return
        received = self._keeper.stdout.read(65_536)
        if not received:
            raise self._lost()
        *lines, self._received = (self._received + received).split(b"\n")
        for line in lines:
            report = json.loads(line)
            if "pid" in report:
                self._pids[report["name"]] = report["pid"]
            else:
                self._ended.add(report["name"])

    def _lost(self) -> StackError:
        return StackError(
            "The process that runs the broker and the worker has ended, and so have they;"
            f" {self._folder / 'keeper.log'} may say why. No data was lost: start again."
        )

    def _kill(self) -> None:
        """Kill what the keeper left behind; on Linux, nothing."""
        for name, pid in self._pids.items():
            if name not in self._ended:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
