"""Make the temporary folder in which the processes of a worker share their numbers."""

import atexit
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path

PREFIX = "enroll-metrics-"
"""How the name of such a folder begins; the process id of its owner follows."""


def make_shared_folder() -> str:
    """Make a folder that is removed when this process, but not a forked one, ends.

    A worker that is killed cannot remove its folder. So first remove the folders that dead workers
    of this user left behind.
    """
    _remove_abandoned()
    owner = os.getpid()
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{owner}-")
    # The kernel releases this lock when the last process of the worker has ended, however it ended.
    with contextlib.suppress(OSError):
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Another worker that starts may remove the same folder at the same time.
        with contextlib.suppress(OSError, OverflowError):
            if _is_abandoned(folder):
                shutil.rmtree(folder)


def _is_abandoned(folder: Path) -> bool:
    """Return whether a folder belongs to this user and its owner is dead. Raises OSError."""
    name = re.fullmatch(rf"{PREFIX}(\d+)-.+", folder.name)
    if name is None or folder.lstat().st_uid != os.getuid():
        return False
    owner = int(name[1])
    if owner != os.getpid() and _is_alive(owner):
        return False
    # The owner's process id means nothing here if it runs in another container; its lock does.
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # It belongs to another user.
    return True
