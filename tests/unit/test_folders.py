"""The data of test servers is in memory where there is room, and goes with its test process."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import folders
from support.folders import folder_for_all_users
from support.paths import ROOT, TESTS
from support.prepared import Prepared

HOLD = """
import sys
from pathlib import Path
from support import folders

folders.ROOM = 0
with folders.folder_for_all_users(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


MAKE_MANY = """
import sys
from pathlib import Path
from support import folders

folders.ROOM = 0
for _ in range(100):
    with folders.folder_for_all_users(Path(sys.argv[1])) as folder:
        assert folder.is_dir()
"""


def run(code: str, folder: Path) -> Prepared:
    """Run code in a process of its own, with a folder as its argument."""
    return Prepared(
        ["-c", code, str(folder)],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def folders_in(parent: Path) -> set[Path]:
    return {path for path in parent.iterdir() if path.is_dir()}


def test_a_folder_is_in_memory_if_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "ROOM", 0)
    with folder_for_all_users(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o755
    assert folders_in(tmp_path) == set()


@pytest.mark.parametrize("how", ["no room", "no such folder"])
def test_a_folder_is_elsewhere_if_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(folders, "ROOM", 0 if how == "no such folder" else 2**63)
    with folder_for_all_users(tmp_path / how if how == "no such folder" else tmp_path) as folder:
        assert folder.is_dir()
        assert tmp_path not in folder.parents


def test_the_folder_of_a_process_that_was_killed_is_removed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "ROOM", 0)
    with run(HOLD, tmp_path) as holder:
        assert holder.stdout is not None
        left = Path(holder.stdout.readline().strip())
        with folder_for_all_users(tmp_path) as own:
            assert folders_in(tmp_path) == {left, own}
            holder.kill()
            holder.wait()
            with folder_for_all_users(tmp_path) as another:
                assert folders_in(tmp_path) == {own, another}


def test_processes_that_make_folders_at_the_same_time_leave_each_other_alone(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        makers = [stack.enter_context(run(MAKE_MANY, tmp_path)) for _ in range(4)]
        assert [maker.wait(60) for maker in makers] == [0] * 4
    assert folders_in(tmp_path) == set()
