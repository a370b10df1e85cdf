"""The folder of a stack is made private and locked, and nothing of somebody else is changed."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from producer.contract.stack_folder import StackState, read_state
from producer.embedded import folder as folders
from producer.embedded.folder import (
    PORTS,
    PROCESSES_LOCK,
    StackError,
    earlier_state,
    free_port,
    locked_folder,
    write_state,
)
from support.stacks import modes


def prepared(folder: Path) -> list[str]:
    """Lock a folder, and return what was reported."""
    reported: list[str] = []
    with locked_folder(folder, reported.append):
        pass
    return reported


def refusal(folder: Path) -> str:
    with pytest.raises(StackError) as caught:
        prepared(folder)
    return str(caught.value)


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    assert prepared(tmp_path / "a" / ".enroll") == []
    assert set(modes(tmp_path / "a" / ".enroll").values()) == {"0o700", "0o600"}


@pytest.mark.parametrize("name", [".enroll", "another"])
@pytest.mark.parametrize("mode", [0o755, 0o775, 0o750, 0o701])
def test_an_open_folder_of_an_earlier_version_is_made_private(
    tmp_path: Path, name: str, mode: int
) -> None:
    folder = tmp_path / name
    inside = folder / "broker" / "appendonlydir"
    inside.mkdir(parents=True)
    for path in (folder / "stack.json", folder / "enrollment.db", inside / "appendonly.aof"):
        path.touch(0o644)
    folder.chmod(mode)
    (reported,) = prepared(folder)
    assert f"{folder} was open to other users of this machine; it is private now" in reported
    assert set(modes(folder).values()) == {"0o700", "0o600"}
    assert prepared(folder) == []


def test_an_open_folder_with_other_files_is_refused_and_not_changed(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir(0o755)
    for name in ("thesis.txt", "lock", "enrollment.db"):
        (folder / name).touch(0o644)
    before = modes(folder)
    reported = refusal(folder)
    assert "holds files that are not from `enroll up`, such as thesis.txt" in reported
    assert f"chmod 700 {folder}" in reported
    assert modes(folder) == before
    folder.chmod(0o700)
    assert prepared(folder) == []
    assert modes(folder)["thesis.txt"] == "0o644"


def test_links_in_the_folder_do_not_lead_to_changes_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch(0o644)
    folder = tmp_path / ".enroll"
    folder.mkdir()
    (folder / "enrollment.db").symlink_to(outside)
    (folder / "lock").symlink_to(outside)
    assert "cannot be used" in refusal(folder)
    assert outside.stat().st_mode & 0o777 == 0o644
    assert outside.read_text() == ""


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, mode: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("Only root can give a folder to another user.")
    folder = tmp_path / ".enroll"
    folder.mkdir(mode)
    os.chown(folder, 65_534, 65_534)
    assert "belongs to another user" in refusal(folder)
    assert modes(folder) == {".": oct(mode)}


def test_what_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below", tmp_path / "dangling", tmp_path / "why?"):
        if path.name == "dangling":
            path.symlink_to(tmp_path / "nowhere")
        reported = refusal(path)
        assert str(path) in reported
        assert "--folder" in reported


def test_only_one_of_many_starts_at_the_same_moment_gets_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / ".enroll"
    ready, end = threading.Barrier(9), threading.Event()
    won: list[bool] = []

    def start() -> None:
        ready.wait()
        try:
            with locked_folder(folder, print):
                won.append(True)
                end.wait(20)
        except StackError as error:
            won.append("A stack is already running in" not in str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    while len(won) < 8:
        end.wait(0.01)
    end.set()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


HOLD = """
import os, sys, time
from pathlib import Path
from producer.embedded.folder import locked_folder
with locked_folder(Path(sys.argv[1]), print) as lock:
    os.set_inheritable(lock, True)
    os.spawnl(os.P_NOWAIT, sys.executable, "python", "-c", "import sys; sys.stdin.read()")
    print("ready", flush=True)
    time.sleep(600)
"""
"""Holds a folder, and starts a process that ends with standard input."""


def test_the_next_start_waits_for_what_a_killed_one_has_left(tmp_path: Path) -> None:
    folder = tmp_path / ".enroll"
    reported: list[str] = []
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        assert f"already running in {folder} (process {holder.pid})" in refusal(folder)
        holder.kill()  # It is not waited for: as a zombie, it still has its process id.

        def notify(sentence: str) -> None:
            reported.append(sentence)
            assert holder.stdin is not None
            holder.stdin.close()

        with locked_folder(folder, notify):
            assert (folder / "lock").read_text() == str(os.getpid())
        holder.wait()
    assert ["still stopping; waiting for its end" in sentence for sentence in reported] == [True]


def test_what_never_stops_is_reported_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "STOPPING_SECONDS", 0.1)
    folder = tmp_path / ".enroll"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        holder.kill()
        reported = refusal(folder)
        assert f"lsof {folder / PROCESSES_LOCK}" in reported


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    state = StackState("redis://:secret@127.0.0.1:23456/0", "é:", "http://127.0.0.1:8000/")
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert set(modes(tmp_path).values()) == {"0o700", "0o600"}
    (tmp_path / "stack.json").write_text("{")
    reported: list[str] = []
    assert earlier_state(tmp_path, reported.append) is None
    assert "is not complete JSON" in reported[0]
    assert "The broker gets a new port and a new password." in reported[0]


def test_a_preferred_port_is_taken_if_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert free_port(taken) in PORTS
        assert free_port(None, 0, -1, 1, 70_000) in PORTS
        free = free_port()
        assert free_port(taken, free) == free
        with socket.create_connection(("127.0.0.1", taken)):
            connection, _ = server.accept()
            connection.close()  # Leaves the port in TIME_WAIT.
    assert free_port(taken) == taken
