"""Start our programs from a process that has imported everything already.

The imports take a worker or a command most of its first second, and the tests start hundreds of
them. So each test process keeps one prepared process, which forks for each program: the child has
its own environment, folder, session, files and signals, runs `python -m MODULE ...` or
`python -c CODE ...`, and ends with the exit code of its program. `Prepared` is a `Popen` whose
process is started, and waited for, in this way.

Programs that run under another interpreter or with other settings of Python are started as usual.
"""

import array
import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import random
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

_MAX_REQUEST: Final = 1_000_000
_LENGTH: Final = struct.Struct("!i")
_MEASURED: Final = "COVERAGE_PROCESS"
_OF_PYTHON: Final = ("PYTHON", _MEASURED, "LC_", "LANG", "TZ", "LD_", "SSL_", "OPENSSL", "MALLOC")
"""What the names of variables begin with that a process reads when it starts."""

_THIRD_PARTIES: Final = (
    "celery.bin.celery", "celery.bin.worker", "celery.apps.worker",
    "celery.concurrency.prefork", "celery.backends.redis", "kombu.transport.redis",
    "alembic.command", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite",
    "billiard.popen_fork", "billiard.sharedctypes", "celery.app.control", "celery.app.log",
    "celery.worker.autoscale", "celery.worker.components",
    "celery.worker.consumer.delayed_delivery", "kombu.pidbox",
    "uvicorn", "uvicorn.lifespan.on", "uvicorn.loops.uvloop", "pydantic.v1",
    "uvicorn.protocols.websockets.websockets_sansio_impl", "rich.progress",
)  # fmt: skip


class Prepared(subprocess.Popen[Any]):
    """A process that runs one of our programs, started by the prepared process."""

    def __init__(
        self, arguments: Iterable[str | Path], *, fresh: bool = False, **options: Any
    ) -> None:
        """Start `python ARGUMENTS`; `options` are those of `Popen`.

        If it is to be `fresh`, or if the prepared process cannot do that in the same way, it is
        started as usual.
        """
        command = [str(argument) for argument in arguments]
        self._is_forked = not fresh and _is_possible(options.get("env") or os.environ)
        super().__init__([sys.executable, *command], **options)

    def _execute_child(self, args: Any, *rest: Any) -> None:
        if not self._is_forked:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        cwd, env, pipes, start_new_session = rest[4], rest[5], rest[9:15], rest[20]
        request = {
            "arguments": args[1:],
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "session": bool(start_new_session),
        }
        # Of each pair, the end that the child has; without a pipe or file, it inherits ours.
        given = (pipes[0], pipes[3], pipes[5])
        files = [number if own == -1 else own for number, own in enumerate(given)]
        try:
            self.pid = _forker().start(request, files)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if not self._is_forked:
            return super()._try_wait(wait_flags)  # type: ignore[misc, no-any-return]
        status = _forker().status(self.pid, wait=wait_flags == 0)
        return (0, 0) if status is None else (self.pid, status)

    def _internal_poll(self, *options: Any, **more: Any) -> int | None:
        if not self._is_forked:
            return super()._internal_poll(*options, **more)  # type: ignore[misc, no-any-return]
        # The prepared process may have ended, at the end of the tests.
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            self._wait(0)  # type: ignore[attr-defined]
        return self.returncode


def _is_possible(environment: Mapping[str, str]) -> bool:
    """Return whether a process with this environment would start like this one."""

    def read_at_start(variables: Mapping[str, str]) -> dict[str, str]:
        names = [name for name in variables if name.startswith(_OF_PYTHON)]
        return {name: variables[name] for name in names if name != "PYTHONPATH"}

    own = {n: v for n, v in read_at_start(os.environ).items() if not n.startswith(_MEASURED)}
    return sys.platform == "linux" and read_at_start(environment) == own


class _Forker:
    """The prepared process of this test process, and the conversation with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={n: v for n, v in os.environ.items() if not n.startswith(_MEASURED)},
            start_new_session=True,
        )
        theirs.close()
        atexit.register(self.close)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def start(self, request: Mapping[str, Any], files: list[int]) -> int:
        """Start a program with these standard files, and return its process id."""
        reply = self._ask(request, files)
        assert reply is not None
        return reply

    def status(self, pid: int, *, wait: bool) -> int | None:
        """Return the exit status of a program as `os.waitpid` does; None while it runs."""
        while (reply := self._ask({"pid": pid}, [])) is None and wait:
            threading.Event().wait(0.01)
        return reply

    def _ask(self, request: Mapping[str, Any], files: list[int]) -> int | None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))
        with self._lock:
            text = json.dumps(request).encode()
            self._socket.sendmsg([text], [rights] if files else [])
            (reply,) = _LENGTH.unpack(self._socket.recv(_LENGTH.size))
        return None if reply < 0 else int(reply)


_forkers: dict[int, _Forker] = {}


def _forker() -> _Forker:
    """Return the prepared process of this process; a fork has one of its own."""
    if os.getpid() not in _forkers:
        _forkers[os.getpid()] = _Forker()
    return _forkers[os.getpid()]


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Answer requests until the test process has ended; return the request in each child."""
    while True:
        text, controls, _, _ = connection.recvmsg(_MAX_REQUEST, socket.CMSG_SPACE(3 * 4))
        if not text:
            return None
        request = json.loads(text)
        if "pid" in request:
            try:
                pid, status = os.waitpid(request["pid"], os.WNOHANG)
            except ChildProcessError:
                pid, status = request["pid"], 0
            connection.send(_LENGTH.pack(status if pid else -1))
            continue
        files = array.array("i")
        files.frombytes(controls[0][2])
        pid = os.fork()
        if pid == 0:
            connection.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
            for file in files:
                os.close(file)
            return dict(request)
        for file in files:
            os.close(file)
        connection.send(_LENGTH.pack(pid))


def _become(request: dict[str, Any]) -> None:
    """Turn this child into the process that was asked for, and run its program."""
    if request["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    paths = [path for path in request["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [request["cwd"], *paths, *sys.path]
    random.seed()
    _open_standard_files()
    option, program, *arguments = request["arguments"]
    if option == "-c":
        sys.argv = ["-c", *arguments]
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    else:
        sys.argv = [program, *arguments]
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _open_standard_files() -> None:
    """Open them as Python does when it starts: pipes, files and terminals differ."""
    modes = {"stdin": ("rb", "strict"), "stdout": ("wb", "strict")}
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode, errors = modes.get(name, ("wb", "backslashreplace"))
        binary: Any = open(number, mode, closefd=False)  # noqa: SIM115
        is_line_buffered = name == "stderr" or os.isatty(number)
        file = io.TextIOWrapper(binary, "utf-8", errors, line_buffering=is_line_buffered)
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)


def _prepare() -> None:
    gc.disable()  # Imports create next to no garbage, and looking for it takes a quarter as long.
    for name in _THIRD_PARTIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for package in ("producer", "worker"):
        for found in pkgutil.walk_packages(
            importlib.import_module(package).__path__, f"{package}."
        ):
            # These two run something when they are imported.
            if found.name not in ("producer.__main__", "worker.celery"):
                importlib.import_module(found.name)
    gc.collect()
    gc.freeze()
    gc.enable()


def _end(code: int) -> None:
    """End this child as Python does, except that it does not destroy all modules first.

    That takes longer than most commands run, because the child shares the pages of all modules
    with the prepared process, and would copy each of them in order to clear it.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for threads
    atexit._run_exitfuncs()  # noqa: SLF001 - flushes logs, saves coverage
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)  # The usual end reports that the output could not be written.
    os._exit(code & 0xFF)


def main() -> None:
    """Prepare, then fork for each request."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connection = socket.socket(fileno=int(sys.argv[1]))
    _prepare()
    request = _serve(connection)
    if request is None:
        return
    try:
        _become(request)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        _end(end.code or 0)
    else:
        _end(0)


if __name__ == "__main__":
    main()
