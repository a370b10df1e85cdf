"""`enroll up` ends with all that it started, however it ends, and finds its data again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from support.commands import ENROLL, UNREACHABLE, write_lines
from support.http import serving
from support.stacks import (
    LAST_LINE,
    finish,
    left_running,
    modes,
    running_up,
    stack_environment,
    wait_for_the_end,
)
from support.valkey import free_port, running_valkey
from support.waiting import wait_for

STUDENTS = [f"S{number},Student {number}" for number in range(300)]
FOUND = "Found there: 300 students, 0 courses, 0 enrollments and 1 batch."


def broker_url(folder: Path) -> str:
    return (folder / ".enroll" / "broker-url").read_text().strip()


def secret(folder: Path) -> str:
    password = urlsplit(broker_url(folder)).password
    assert password is not None
    return password


def check_access(folder: Path, up: "subprocess.Popen[str]", printed: str) -> None:
    """Check that no other user of the machine can read the data or connect to the broker."""
    password = secret(folder)
    assert len(password) >= 32
    assert password not in printed
    for mode in modes(folder / ".enroll").values():
        assert mode in ("0o600", "0o700")
    children = psutil.Process(up.pid).children(recursive=True)
    names = [" ".join([process.name(), *process.cmdline()]) for process in children]
    assert any("valkey" in name for name in names)
    assert not [name for name in names if password in name]
    with (
        Redis(port=urlsplit(broker_url(folder)).port or 0) as redis,
        pytest.raises(AuthenticationError),
    ):
        redis.ping()
    logs = [p.read_text() for p in (folder / ".enroll").glob("*.log")]
    assert len(logs) >= 4
    assert not [log for log in logs if password in log]


def test_killed_it_leaves_nothing_running_and_the_next_one_finds_everything(
    tmp_path: Path,
) -> None:
    write_lines(tmp_path / "students.csv", "sis_id,name", *STUDENTS)
    page = f"http://127.0.0.1:{free_port()}/"
    with running_up(tmp_path, "--http-port", str(urlsplit(page).port)) as (up, printed):
        assert "The folder is new and empty." in printed
        assert f"The page is at {page} for everybody on this machine." in printed
        assert f"rm -r {tmp_path / '.enroll'}" in printed
        assert "Other commands need" not in printed
        finish(tmp_path, "submit", "students.csv")
        with Redis.from_url(broker_url(tmp_path)) as redis:
            redis.mset({f"key {number}": number for number in range(300)})
        assert name_of_student(page) == "Student 7"
        check_access(tmp_path, up, printed)
        refused = finish(tmp_path, "up", expect=UNREACHABLE)
        assert f"already running in {tmp_path / '.enroll'} (process {up.pid})" in refused
        assert "Using the database of `enroll up` in" in finish(tmp_path, "batches")
        url = broker_url(tmp_path)
        with serving(stack_environment(tmp_path), tmp_path / "serve.log") as (front, _):
            assert name_of_student(f"{front}/") == "Student 7"
            up.kill()
            # At once: the next one waits until all of the first have stopped.
            with running_up(tmp_path, "--http") as (again, now_said):
                assert FOUND in now_said
                assert f"The page is at {page}" in now_said
                assert broker_url(tmp_path) == url
                with Redis.from_url(url) as redis:
                    assert redis.exists(*(f"key {number}" for number in range(300))) == 300
                # A front that was left running finds the stack again.
                assert name_of_student(f"{front}/") == "Student 7"
                again.send_signal(signal.SIGHUP)
                again.wait(60)
        assert again.returncode == 128 + signal.SIGHUP
    assert left_running(tmp_path / ".enroll") == []


def name_of_student(page: str) -> str:
    return str(httpx.get(f"{page}students/S7", timeout=20).json()["name"])


def test_ended_in_any_other_way_it_leaves_nothing_running_either(tmp_path: Path) -> None:
    folder = tmp_path / ".enroll"
    write_lines(tmp_path / "students.csv", "sis_id,name", *STUDENTS)
    with running_up(tmp_path) as (up, _):
        finish(tmp_path, "submit", "students.csv")
        up.terminate()
        up.wait(60)
    assert up.returncode == 128 + signal.SIGTERM
    assert left_running(tmp_path) == []
    for log, end in (("broker", "SIGKILL"), ("database", "SIGKILL"), ("worker", "terminal")):
        before = time.time()
        with terminal(tmp_path, own=end == "terminal") as (begun, master):
            path = folder / f"{log}.log"
            wait_for(lambda p=path, t=before: p.exists() and p.stat().st_mtime > t)  # type: ignore[misc]
            begun.kill() if end == "SIGKILL" else os.close(master)
            begun.wait(60)
        wait_for_the_end(tmp_path)
    # The terminal does not tell a program that runs in its background.
    with terminal(tmp_path, own=False) as (in_background, master):
        assert FOUND in read_terminal(master)
        os.close(master)
        in_background.wait(60)
    assert in_background.returncode == 128 + signal.SIGHUP
    assert left_running(tmp_path) == []
    with running_up(tmp_path) as (up, printed):
        assert FOUND in printed
        (keeper,) = psutil.Process(up.pid).children()
        keeper.kill()
        assert up.stderr is not None
        assert "start again" in up.stderr.read()
        up.wait(60)
    assert up.returncode == UNREACHABLE
    wait_for_the_end(tmp_path)


@contextmanager
def terminal(folder: Path, *, own: bool) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """`enroll up` in a terminal, and the file that is the terminal's other end.

    It is the program's `own` if the program receives the signals that the terminal sends.
    """
    master, slave = os.openpty()
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    run = [sys.executable, "-c", f"{take} os.execv(sys.argv[1], sys.argv[1:])"] if own else []
    process = subprocess.Popen(
        [*run, *ENROLL, "up"],
        env=stack_environment(folder), cwd=folder, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    with process:
        try:
            yield process, master
        finally:
            process.terminate()
            with suppress(OSError):
                os.close(master)


def read_terminal(master: int) -> str:
    printed = b""
    while LAST_LINE.encode() not in printed:
        printed += os.read(master, 65_536)
    return printed.decode()


def test_a_folder_of_the_version_before_still_works(tmp_path: Path) -> None:
    """It had no lock and no password, every user could read it, and its port was a new one."""
    folder = tmp_path / ".enroll"
    folder.mkdir(0o755)
    (folder / "broker").mkdir(0o755)
    state = folder / "stack.json"
    config = {"appendonly": "yes", "save": ""}
    with running_valkey(folder / "broker", **config) as server:
        url = f"{server.connection_url}/0"
        with Redis.from_url(url) as redis:
            redis.mset({f"key {number}": number for number in range(300)})
        settings = {"ENROLL_BROKER_URL": url, "ENROLL_KEY_PREFIX": ""}
        state.write_text(json.dumps({"pid": os.getpid(), "broker_url": url, **settings}))
        refused = finish(tmp_path, "up", expect=UNREACHABLE)
        assert "was open to other users of this machine; it is private now" in refused
        assert "was started by an earlier version" in refused
        with Redis.from_url(url) as redis:
            assert f"kill {redis.info('server')['process_id']}" in refused
    with running_up(tmp_path, "--key-prefix", "mine:") as (up, printed):
        assert "The last start used the key prefix ''." in printed
        check_access(tmp_path, up, printed)
        assert urlsplit(broker_url(tmp_path)).port == urlsplit(url).port
        with Redis.from_url(broker_url(tmp_path)) as redis:
            assert redis.exists(*(f"key {number}" for number in range(300))) == 300
        up.terminate()
        up.wait(60)
