"""Temporary folders for the data of servers, in memory where there is room."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

import psutil

PREFIX: Final = "enrollment-tests-"
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - each folder in it has a name of its own
ROOM: Final = 8_000_000_000
"""How much memory must be free, in bytes, for the servers of all test processes."""

_LOCK: Final = "in use"


@contextmanager
def folder_for_all_users(memory: Path = MEMORY) -> Iterator[Path]:
    """A temporary folder that other users can enter, such as the one that runs PostgreSQL for root.

    It is not one of pytest's: every run of pytest closes the folder that holds those of all runs of
    its user, and so would stop the servers of another run that is still going on.

    It is in memory if there is room. A database is hundreds of files, which a file system in memory
    creates and removes in a fraction of the time; no test needs the disk below them.
    """
    parent = memory if _has_room(memory) else None
    with ExitStack() as stack:
        with nullcontext() if parent is None else _one_at_a_time(parent):
            if parent is not None:
                remove_leftovers(parent)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            lock = stack.enter_context((folder / _LOCK).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        stack.callback(shutil.rmtree, folder)  # Before the lock is given back.
        folder.chmod(0o755)
        yield folder


@contextmanager
def _one_at_a_time(parent: Path) -> Iterator[None]:
    """Let the processes of a user remove leftovers and make folders one after another.

    A folder that is not locked yet would be taken for a leftover.
    """
    with (parent / f"{PREFIX}of-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _has_room(memory: Path) -> bool:
    """Return whether a file system in memory, and the memory itself, have room for the servers."""
    with suppress(OSError):
        free = min(shutil.disk_usage(memory).free, psutil.virtual_memory().available)
        return free >= ROOM and os.access(memory, os.W_OK)
    return False


def remove_leftovers(parent: Path) -> None:
    """Remove the folders of this user's test processes that were killed: they take up memory.

    A PostgreSQL that still runs in one of them ends itself within a minute.
    """
    for lock in parent.glob(f"{PREFIX}*/{_LOCK}"):
        with suppress(OSError), lock.open("r+") as file:
            if lock.stat().st_uid != os.getuid():
                continue
            # It is free only after its process has ended.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
