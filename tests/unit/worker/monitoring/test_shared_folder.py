"""The folder of a worker's numbers goes when the worker ends, or else when the next one starts."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.paths import ROOT
from support.waiting import wait_for
from worker.monitoring.shared_folder import PREFIX, make_shared_folder

OWNER = """
import os, sys
from worker.monitoring.shared_folder import make_shared_folder
print(make_shared_folder(), flush=True)
if "fork" in sys.argv and os.fork() == 0:
    print(os.getpid(), flush=True)
sys.stdin.read()
"""

Owner = tuple["subprocess.Popen[str]", Path]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Owner]]:
    """Starts a process with a folder of its own, which it keeps until its standard input ends."""
    started: list[subprocess.Popen[str]] = []

    def start_owner(*arguments: str) -> Owner:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        started.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield start_owner
    for process in started:
        process.kill()
        process.communicate()


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


def test_the_folder_goes_when_its_owner_ends(start: Callable[..., Owner]) -> None:
    process, folder = start()
    assert folder.name.startswith(f"{PREFIX}{process.pid}-")
    assert folder.is_dir()
    process.communicate("")
    assert process.returncode == 0
    assert not folder.exists()


def test_the_folder_of_a_killed_owner_goes_when_the_next_one_starts(
    start: Callable[..., Owner],
) -> None:
    (killed, abandoned), (_, living) = start(), start()
    (abandoned / "counter.db").touch()
    kill(killed)
    assert abandoned.is_dir()
    start()
    assert not abandoned.exists()
    assert living.is_dir()


def test_the_folder_stays_while_a_forked_process_of_a_killed_owner_lives(
    start: Callable[..., Owner],
) -> None:
    process, folder = start("fork")
    assert process.stdout is not None
    forked = int(process.stdout.readline())
    try:
        kill(process)
        start()
        assert folder.is_dir()
    finally:
        os.kill(forked, signal.SIGKILL)
    # It is reaped by another process, which may take a moment.
    wait_for(lambda: start() and not folder.exists())


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a process that ended."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = tmp_path / f"{PREFIX}{ended.pid}-x"
    folder.mkdir()
    return folder


def test_a_folder_of_another_user_stays(dead: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.getuid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getuid", lambda: own + 1)
        make_shared_folder()
        assert dead.is_dir()
    make_shared_folder()
    assert not dead.exists()


@pytest.mark.parametrize("name", ["", "x", "x-y", "0-x", "1-x", f"{'9' * 30}-x"])
def test_a_folder_that_no_dead_worker_can_have_made_stays(dead: Path, name: str) -> None:
    other = dead.with_name(PREFIX + name)
    other.mkdir()
    make_shared_folder()
    assert other.is_dir()


def test_an_earlier_folder_under_the_same_process_id_goes(dead: Path) -> None:
    """In a container, a worker that is started again often has the process id of the first."""
    earlier = dead.with_name(f"{PREFIX}{os.getpid()}-x")
    earlier.mkdir()
    own = Path(make_shared_folder())
    assert not earlier.exists()
    make_shared_folder()
    assert own.is_dir()
