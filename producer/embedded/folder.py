"""Prepare the folder of an embedded stack: make it private, lock it, and write its files.

The folder holds the data of students, and the password of the broker. No other user may read it.
"""

import contextlib
import fcntl
import json
import os
import shlex
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import SystemRandom

from producer.contract.stack_folder import (
    DATABASE,
    FOLDER,
    LOCK,
    STATE,
    StackState,
    UnusableFolder,
    read_state,
    require_private,
)
from producer.errors import EnrollmentError

BROKER = "broker"
"""The folder of the broker's data."""
BROKER_CONFIG = "broker.conf"
BROKER_URL = "broker-url"
"""The file with the broker's URL, for other programs."""

FIRST_PORT = 1_024
"""The first port that needs no special rights."""
PORTS = range(20_000, 32_000)
"""The ports to choose from: below those that systems give to outgoing connections."""
PROCESSES_LOCK = "processes.lock"
"""The file that all processes of a stack have locked, until the last one has ended."""
OWN_SECONDS = 0.5
"""How long to try to lock the folder; a command that looks whether it is locked has it briefly."""
STOPPING_SECONDS = 45.0
"""How long to wait until what remains of an earlier stack has stopped."""

Notify = Callable[[str], None]

_NAMES = {
    *(BROKER, BROKER_CONFIG, BROKER_URL, DATABASE, LOCK, PROCESSES_LOCK, STATE),
    *(f"{DATABASE}-wal", f"{DATABASE}-shm"),
    *(f"{name}.log" for name in ("broker", "database", "worker", "page", "keeper")),
}
"""What `enroll up` writes."""

_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StackError(EnrollmentError):
    """The embedded stack could not be started, or has ended; the message says what to do."""


@contextlib.contextmanager
def locked_folder(folder: Path, notify: Notify) -> Iterator[int]:
    """Make the folder private and lock it; yield the lock that all child processes must inherit.

    There are two locks: that of this process says that a stack runs, and that of all processes
    that it is safe to start another one. `notify` gets sentences for people. Raises StackError.
    """
    with contextlib.ExitStack() as files:
        try:
            _make_private(folder, notify)
            own, shared = (files.enter_context(_open(folder / n)) for n in (LOCK, PROCESSES_LOCK))
        except UnusableFolder as error:
            raise StackError(f"{error} Choose another folder with --folder.") from None
        except OSError as error:
            raise StackError(
                f"The folder {folder} cannot be used: {error.strerror}; choose another with"
                " --folder."
            ) from None
        if not _lock(own, OWN_SECONDS):
            pid = os.pread(own, 20, 0).decode(errors="replace")
            raise StackError(
                f"A stack is already running in {folder} (process {pid}); use that one, or stop it"
                " first."
            )
        os.ftruncate(own, 0)
        os.pwrite(own, str(os.getpid()).encode(), 0)
        try:
            _lock_for_all(shared, folder, notify)
            yield shared
        finally:
            fcntl.flock(own, fcntl.LOCK_UN)  # A fork of this process may still have it open.


def earlier_state(folder: Path, notify: Notify) -> StackState | None:
    """Return what the last stack in a folder left about itself, if it can be read."""
    try:
        return read_state(folder)
    except UnusableFolder as error:
        notify(f"{error} The broker gets a new port and a new password.")
        return None


def write_state(folder: Path, state: StackState) -> None:
    """Write the file in which commands find how to reach the stack, and the broker's URL."""
    fields = {
        "pid": os.getpid(),
        "broker_url": state.broker_url,
        "ENROLL_KEY_PREFIX": state.key_prefix,
        "page_url": state.page_url,
    }
    write_private(folder / STATE, json.dumps(fields))
    write_private(folder / BROKER_URL, state.broker_url + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(text)
    temporary.replace(path)


def free_port(*preferred: int | None) -> int:
    """Return the first of the preferred ports that is free on loopback, or else any free port."""
    chance = SystemRandom()
    others = (chance.choice(PORTS) for _ in range(1_000))
    for port in (*preferred, *others):
        if port is not None and port >= FIRST_PORT and is_free(port):
            return port
    raise StackError("No port on 127.0.0.1 is free. End programs that listen there.")


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port of loopback."""
    with socket.socket() as probe:
        # As servers do: connections that ended a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True


def _make_private(folder: Path, notify: Notify) -> None:
    """Make a folder, or take away what other users may do there. Raises UnusableFolder, OSError."""
    if "?" in str(folder):
        raise UnusableFolder(f"The path {folder} contains `?`, which the database cannot open.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
    mode = folder.stat().st_mode
    if mode & _OF_OTHERS and folder.stat().st_uid == os.geteuid():
        if other_names := _other_names(folder):
            raise UnusableFolder(
                f"The folder {folder} is open to other users, and holds files that are not from"
                f" `enroll up`, such as {other_names[0]}. If no other user needs it, run: chmod 700"
                f" {shlex.quote(str(folder))}."
            )
        folder.chmod(0o700)
        if folder.stat().st_mode & _OF_OTHERS:
            raise UnusableFolder(
                f"The folder {folder} is open to other users, and its disk does not support private"
                " folders. Choose a folder on a local disk with --folder."
            )
        notify(f"The folder {folder} was open to other users of this machine; it is private now.")
    require_private(folder)
    (folder / BROKER).mkdir(mode=0o700, exist_ok=True)
    for name in _NAMES:
        _tighten(folder / name)


def _tighten(path: Path) -> None:
    """Take away what other users may do with a file, or with a folder and all that is in it."""
    if path.is_symlink() or not path.exists():
        return
    is_folder = path.is_dir()
    path.chmod(0o700 if is_folder else 0o600)
    for inside in path.iterdir() if is_folder else ():
        _tighten(inside)


def _other_names(folder: Path) -> list[str]:
    """Return what a folder holds beside our own files. `.enroll` may hold anything."""
    return [] if folder.name == FOLDER else sorted({p.name for p in folder.iterdir()} - _NAMES)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    """Open the file of a lock. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _lock_for_all(lock: int, folder: Path, notify: Notify) -> None:
    """Take the lock of all processes, when the last process of an earlier stack has stopped."""
    if _lock(lock, 1):
        return
    notify(f"An earlier stack in {folder} is still stopping; waiting for its end ...")
    if not _lock(lock, STOPPING_SECONDS):
        path = shlex.quote(str(folder / PROCESSES_LOCK))
        raise StackError(
            f"Processes of an earlier `enroll up` still use {folder}. Find them, for example with"
            f" `lsof {path}`, and end them."
        )


def _lock(lock: int, seconds: float) -> bool:
    """Lock a file, or return False if another process has it locked for so long."""
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        except OSError as error:
            raise StackError(
                f"The folder cannot be locked: {error.strerror}. Choose a folder on a local disk"
                " with --folder."
            ) from None
        else:
            return True
