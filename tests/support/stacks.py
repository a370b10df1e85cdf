"""Run `enroll up` and `enroll demo` as people do, and find what they leave behind."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from support.commands import clean_environment, run_enroll, start_enroll
from support.waiting import wait_for

LAST_LINE = "Press Ctrl-C"
"""The end of what `enroll up` says when it runs."""


def stack_environment(folder: Path) -> dict[str, str]:
    """Return the environment for a stack that writes nothing outside of a folder."""
    own = {"TMPDIR": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    environment = clean_environment() | own
    environment.pop("COVERAGE_PROCESS_CONFIG", None)  # Most of them are killed.
    return environment


@contextmanager
def started(folder: Path, *arguments: str | Path) -> "Iterator[subprocess.Popen[str]]":
    """A command in a folder of its own; ended in any case."""
    with start_enroll(stack_environment(folder), *arguments, cwd=folder, fresh=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


@contextmanager
def running_up(folder: Path, *arguments: str | Path) -> "Iterator[tuple[Up, str]]":
    """An `enroll up` that is ready, and what it has printed."""
    with started(folder, "up", *arguments) as process:
        yield process, read_until_ready(process)


Up = subprocess.Popen[str]


def read_until_ready(process: Up) -> str:
    """Return what `enroll up` says until it runs."""
    assert process.stderr is not None
    printed = ""
    for line in process.stderr:
        printed += line
        if LAST_LINE in line:
            return printed
    raise AssertionError(printed)


def finish(folder: Path, *arguments: str | Path, expect: int = 0) -> str:
    """Run a command in a folder, and return all that it prints."""
    done = run_enroll(stack_environment(folder), *arguments, expect=expect, cwd=folder)
    return done.stdout + done.stderr


def left_running(folder: Path) -> list[str]:
    """Return the names of the processes that run in the folder, as all children of a stack do."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process.name())
    return found


def wait_for_the_end(folder: Path) -> None:
    """Wait until nothing runs in a folder any more."""
    wait_for(lambda: left_running(folder) == [], seconds=45)


def modes(folder: Path) -> dict[str, str]:
    """Return the permissions of a folder and all that is in it, as octal numbers."""
    paths = [folder, *folder.rglob("*")]
    return {str(p.relative_to(folder)): oct(p.stat().st_mode & 0o777) for p in paths}
