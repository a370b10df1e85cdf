"""What a stack has started ends with it: in order if possible, and in any case."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from producer.contract.stack_folder import is_locked
from producer.embedded.folder import PROCESSES_LOCK
from support.commands import clean_environment
from support.stacks import left_running, wait_for_the_end
from support.waiting import wait_for

PARENT = """
import os, signal, sys, threading, time
from pathlib import Path
from producer.embedded.folder import StackError, locked_folder
from producer.embedded.processes import Processes

folder = Path.cwd()
environment = dict(os.environ)
how = sys.argv[1]

def start(processes):
    for name in ("first", "second"):
        command = [sys.executable, "-c", CHILD, name]
        processes.start(name, command, environment, grace=1 if how == "stubborn" else 20)

CHILD = '''
import os, signal, sys, time
from pathlib import Path
name = sys.argv[1]

def end(*_):
    other = {"first": "second", "second": "first"}[name]
    time.sleep(0.2)
    while HOW in ("held", "thread") and not os.path.exists("may end"):
        time.sleep(0.02)
    with open("order", "a") as order:
        order.write(name + "\\\\n")
    sys.exit()

signal.signal(signal.SIGTERM, signal.SIG_IGN if HOW == "stubborn" else end)
if os.fork() == 0:  # As the pool processes of a worker.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if HOW == "stubborn":
        time.sleep(600)
    os._exit(0)
Path(name).touch()
time.sleep(600)
'''.replace("HOW", repr(how))

with locked_folder(folder, print) as lock, Processes(folder, lock) as processes:
    if how == "thread":
        # What it started must not end with it.
        starter = threading.Thread(target=start, args=[processes])
        starter.start()
        starter.join()
        time.sleep(0.5)
    else:
        start(processes)
    while not all((folder / name).exists() for name in ("first", "second")):
        time.sleep(0.02)
    if how == "fork":
        forked = os.fork()
        if forked == 0:
            os.chdir("/")
            time.sleep(600)
        Path("forked").write_text(str(forked))
    Path("ready").touch()
    if how != "leave":
        while processes.is_running("first", 0.5):
            pass
        print("first has ended")
"""


@contextmanager
def parent(folder: Path, how: str) -> "Iterator[subprocess.Popen[str]]":
    """A program that has started two processes in a folder; `first` was started first."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, how],
        env=clean_environment(), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            wait_for(lambda: (folder / "ready").exists() or process.poll() is not None)
            yield process
        finally:
            process.kill()


def order(folder: Path) -> list[str]:
    return (folder / "order").read_text().split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_they_stop_in_reverse_order_when_the_program_ends(folder: Path) -> None:
    with parent(folder, "leave") as process:
        printed = process.communicate(timeout=60)[0]
    assert (process.returncode, printed) == (0, "")
    assert left_running(folder) == []
    assert order(folder) == ["second", "first"]
    assert not is_locked(folder, PROCESSES_LOCK)


@pytest.mark.parametrize("how", ["held", "thread"])
def test_they_stop_in_reverse_order_when_the_program_is_killed(folder: Path, how: str) -> None:
    with parent(folder, how) as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert is_locked(folder, PROCESSES_LOCK)  # While they stop, nothing else may start here.
        (folder / "may end").touch()
        wait_for_the_end(folder)
    assert order(folder) == ["second", "first"]
    assert not is_locked(folder, PROCESSES_LOCK)


def test_a_fork_of_the_program_does_not_keep_them_alive(folder: Path) -> None:
    with parent(folder, "fork") as process:
        forked = int((folder / "forked").read_text())
        try:
            process.kill()
            process.wait()
            wait_for_the_end(folder)
            assert psutil.pid_exists(forked)
            assert order(folder) == ["second", "first"]
        finally:
            with suppress(ProcessLookupError):
                os.kill(forked, signal.SIGKILL)


def test_what_does_not_stop_is_killed_with_all_that_it_started(folder: Path) -> None:
    with parent(folder, "stubborn") as process:
        assert len(left_running(folder)) == 6  # The program, the keeper, and two of each name.
        process.kill()
        process.wait()
        started = time.monotonic()
        wait_for_the_end(folder)
        assert time.monotonic() - started > 1
    assert not (folder / "order").exists()


def test_a_killed_keeper_takes_them_with_it_and_the_program_notices(folder: Path) -> None:
    with parent(folder, "wait") as process:
        (keeper,) = psutil.Process(process.pid).children()
        keeper.kill()
        printed = process.communicate(timeout=60)[0]
    assert "The process that runs the broker and the worker has ended" in printed
    assert process.returncode == 1
    wait_for_the_end(folder)


def test_the_keeper_stops_them_if_it_is_told_to(folder: Path) -> None:
    with parent(folder, "wait") as process:
        (keeper,) = psutil.Process(process.pid).children()
        keeper.terminate()
        printed = process.communicate(timeout=60)[0]
    assert "has ended, and so have they" in printed
    assert order(folder) == ["second", "first"]


def test_the_program_notices_that_one_of_them_has_ended(folder: Path) -> None:
    with parent(folder, "wait") as process:
        (keeper,) = psutil.Process(process.pid).children()
        first = min(keeper.children(), key=lambda child: child.create_time())
        first.kill()
        assert "first has ended" in process.communicate(timeout=60)[0]
    assert order(folder) == ["second"]
