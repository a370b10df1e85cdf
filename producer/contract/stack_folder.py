"""Find the folder of `enroll up`, and read there how to reach the stack that runs in it.

Commands believe what stands in this folder, so it must belong to the user who runs the command,
and other users must not be able to write in it. A lock shows whether a stack runs: the kernel
releases it however `enroll up` ends. Process ids decide nothing.
"""

import contextlib
import fcntl
import json
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

FOLDER = ".enroll"
"""The name of the folder, in the one in which `enroll up` was started."""
STATE = "stack.json"
"""The file that says how to reach the stack. It stays when the stack stops."""
LOCK = "lock"
"""The file that a running `enroll up` has locked; its process id is in it."""
DATABASE = "enrollment.db"

BROKER_ORDER = (
    "--broker or --folder, ENROLL_BROKER_URL, ENROLL_FOLDER, a running `enroll up` in this folder"
    " or one above it"
)
"""In which order a command looks for the broker; docs/settings.md explains it."""
DATABASE_ORDER = (
    "--folder, ENROLL_DATABASE_URL, ENROLL_FOLDER, an `enroll up` in this folder or one above it"
)
"""In which order an operator's command looks for the database."""

_MAX_STATE = 65_536
_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UnusableFolder(Exception):
    """A folder or its file must not be used; the message says which one, why and what to do."""


class StackState(NamedTuple):
    """What the file of a stack says; the URL holds a password."""

    broker_url: str
    key_prefix: str = ""
    page_url: str | None = None


class FoundStacks(NamedTuple):
    """The nearest folders of `enroll up`, and a sentence for each one that must be ignored."""

    running: Path | None
    """The nearest folder with a running stack."""
    state: StackState | None
    """How to reach the stack that runs there."""
    stopped: Path | None
    """The nearest folder with the data of a stack that does not run."""
    ignored: tuple[str, ...]


def find_stacks(start: Path) -> FoundStacks:
    """Look for `.enroll` in a folder and in those above it, up to a running stack."""
    stopped = None
    ignored = []
    for parent in (start, *start.parents):
        folder = parent / FOLDER
        if not os.path.isdir(folder):  # noqa: PTH112 - unlike Path, it is False without permission
            continue
        try:
            require_private(folder)
            is_running = is_locked(folder)
            state = read_state(folder)
        except UnusableFolder as error:
            ignored.append(f"Ignored: {error}")
            continue
        if is_running and state is not None:
            return FoundStacks(folder, state, stopped, tuple(ignored))
        if stopped is None and (folder / DATABASE).is_file():
            stopped = folder
    return FoundStacks(None, None, stopped, tuple(ignored))


def given_folder(folder: Path) -> Path:
    """Return the absolute path of a folder that a user named; it may be the one above `.enroll`."""
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - a link stays the name that was given
    inside = folder / FOLDER
    return inside if not (folder / STATE).exists() and (inside / STATE).exists() else folder


def open_stack(folder: Path) -> StackState:
    """Return how to reach the stack that runs in a folder. Raises UnusableFolder."""
    require_private(folder)
    state = read_state(folder)
    if state is None or not is_locked(folder):
        raise UnusableFolder(
            f"No `enroll up` is running in {folder}. Start it: enroll up --folder"
            f" {shlex.quote(str(folder))}"
        )
    return state


def database_url(folder: Path) -> str:
    """Return the URL of the database in a folder of `enroll up`."""
    return f"sqlite:///{folder / DATABASE}"


def require_private(folder: Path) -> None:
    """Raise UnusableFolder unless a folder is this user's, and only this user can write in it."""
    try:
        states = [folder.lstat(), folder.stat()]
    except OSError as error:
        raise UnusableFolder(f"{folder} cannot be used: {error.strerror}.") from None
    if not stat.S_ISDIR(states[-1].st_mode):
        raise UnusableFolder(f"{folder} is not a folder.")
    _require_own(folder, states)


def is_locked(folder: Path, name: str = LOCK) -> bool:
    """Return whether an `enroll up` has locked this file of its folder. Raises UnusableFolder."""
    with _opened(folder / name) as file:
        if file is None:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False  # This disk has no locks, so `enroll up` refused to start here.
    return False


def read_state(folder: Path) -> StackState | None:
    """Return what the file of a stack says, or None if there is no file. Raises UnusableFolder."""
    path = folder / STATE
    with _opened(path) as file:
        if file is None:
            return None
        content = os.read(file, _MAX_STATE)
    remedy = "stop `enroll up` if it runs there, and start it again; it then writes a new file"
    if not content.strip():
        raise UnusableFolder(f"{path} is empty; {remedy}.")
    try:
        state = json.loads(content)
    except (ValueError, RecursionError):
        raise UnusableFolder(f"{path} is not complete JSON; {remedy}.") from None
    if not isinstance(state, dict) or not _is_local(state.get("broker_url")):
        raise UnusableFolder(f"{path} was not written by `enroll up`; {remedy}.")
    page_url = state.get("page_url")
    return StackState(
        broker_url=state["broker_url"],
        key_prefix=str(state.get("ENROLL_KEY_PREFIX", "")),
        page_url=page_url if isinstance(page_url, str) else None,
    )


def _is_local(url: Any) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "redis" and parts.hostname == "127.0.0.1" and bool(parts.port)
    except (ValueError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Open a file to read it; yield None if there is none. Raises UnusableFolder."""
    try:
        # A pipe must not make us wait, and a link must not lead to somebody else's file.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise UnusableFolder(f"{path} cannot be read: {error.strerror}.") from None
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode):
            raise UnusableFolder(f"{path} is not a regular file.")
        _require_own(path, [state])
        yield file
    finally:
        os.close(file)


def _require_own(path: Path, states: list[os.stat_result]) -> None:
    for state in states:
        if state.st_uid != os.geteuid():
            raise UnusableFolder(f"{path} belongs to another user, {_name(state.st_uid)}.")
    if states[-1].st_mode & _OF_OTHERS:
        raise UnusableFolder(
            f"Other users can write to {path}. If you trust what is in it, run: chmod go-w"
            f" {shlex.quote(str(path))}"
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"with the number {uid}"
