"""The folder of `enroll up` is found and believed only if no other user can have written it."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.stack_folder import (
    StackState,
    UnusableFolder,
    find_stacks,
    given_folder,
    open_stack,
    read_state,
    require_private,
)
from producer.embedded.folder import locked_folder, write_state

URL = "redis://:secret@127.0.0.1:23456/0"
NOBODY = 65_534


@contextmanager
def running(parent: Path, url: str = URL, key_prefix: str = "") -> Iterator[Path]:
    """A folder as that of a running `enroll up`, without its processes."""
    folder = parent / ".enroll"
    with locked_folder(folder, print):
        write_state(folder, StackState(url, key_prefix))
        yield folder


def test_the_nearest_running_stack_is_found_from_below(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    with running(tmp_path, key_prefix="mine:") as folder:
        found = find_stacks(below)
        assert (found.running, found.ignored) == (folder, ())
        assert found.state == StackState(URL, "mine:")
        with running(tmp_path / "a") as nearer:
            assert find_stacks(below).running == nearer
        (nearer / "enrollment.db").touch()
        found = find_stacks(below)
        assert (found.running, found.stopped) == (folder, nearer)
    assert find_stacks(below).running is None


@pytest.mark.parametrize("pid", [0, -1, 1, "own", 2**70, "4711", None])
def test_the_lock_decides_and_not_the_process_id(tmp_path: Path, pid: Any) -> None:
    with running(tmp_path) as folder:
        content = json.loads((folder / "stack.json").read_text())
    pid = os.getpid() if pid == "own" else pid
    stale = json.dumps({**content, "pid": pid})
    (folder / "stack.json").write_text(stale)
    (folder / "lock").write_text(str(pid))
    assert find_stacks(tmp_path).running is None
    with pytest.raises(UnusableFolder, match=r"No `enroll up` is running in .*Start it"):
        open_stack(folder)
    with running(tmp_path):
        (folder / "stack.json").write_text(stale)
        assert find_stacks(tmp_path).running == folder
        assert open_stack(folder).broker_url == URL


STATE = json.dumps({"pid": 7, "broker_url": URL, "ENROLL_KEY_PREFIX": ""})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\0" * 300, "is not complete JSON"),
        (STATE[:-9].encode(), "is not complete JSON"),
        (b"\xff\xfe", "is not complete JSON"),
        (b"[" * 50_000, "is not complete JSON"),
        (b"[]", "was not written by `enroll up`"),
        (b"7", "was not written by `enroll up`"),
        (b"{}", "was not written by `enroll up`"),
        (b'{"broker_url": 7}', "was not written by `enroll up`"),
        (b'{"broker_url": "redis://elsewhere:6379/0"}', "was not written by `enroll up`"),
        (b'{"broker_url": "redis://127.0.0.1.example.org:1/"}', "was not written by `enroll up`"),
        (b'{"broker_url": "redis://127.0.0.1:x/0"}', "was not written by `enroll up`"),
        (b'{"broker_url": "redis://[/0"}', "was not written by `enroll up`"),
    ],
)
def test_a_damaged_or_foreign_file_is_named_and_ignored(
    tmp_path: Path, content: bytes, words: str
) -> None:
    with running(tmp_path) as folder:
        path = folder / "stack.json"
        path.write_bytes(content)
        found = find_stacks(tmp_path)
        assert (found.running, found.state) == (None, None)
        (sentence,) = found.ignored
        assert f"{path} {words}; stop `enroll up` if it runs there" in sentence


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(
        ["pid", "broker_url", "page_url", "ENROLL_KEY_PREFIX"]) | st.text(), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_content_of_the_file_is_an_unexpected_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    folder.chmod(0o700)
    (folder / "stack.json").write_bytes(content)
    try:
        is_understood = read_state(folder) is not None
    except UnusableFolder as error:
        is_understood = str(folder / "stack.json") in str(error)
    assert is_understood


def owned_by_nobody(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("Only root can give a file to another user.")
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def writable_by_all(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def writable_by_group(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)


@pytest.mark.parametrize("name", [".", "stack.json", "lock"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (owned_by_nobody, "belongs to another user, "),
        (writable_by_all, "Other users can write to "),
        (writable_by_group, "Other users can write to "),
    ],
)
def test_what_another_user_may_have_written_is_ignored(
    tmp_path: Path, name: str, change: Callable[[Path], None], words: str
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    with running(tmp_path) as own, running(below) as folder:
        change(folder / name)
        found = find_stacks(below)
        assert (found.running, found.state) == (own, StackState(URL))
        (sentence,) = found.ignored
        assert words in sentence
        assert str(folder / name) in sentence
        with pytest.raises(UnusableFolder, match=words):
            open_stack(folder)


def test_a_link_of_another_user_is_ignored(tmp_path: Path) -> None:
    with running(tmp_path / "own") as folder:
        link = tmp_path / ".enroll"
        link.symlink_to(folder)
        assert find_stacks(tmp_path).running == link
        owned_by_nobody(link)
        assert find_stacks(tmp_path).running is None


def test_a_folder_of_the_system_is_not_ours() -> None:
    if os.geteuid() == 0:
        pytest.skip("The folders of the system belong to this user.")
    with pytest.raises(UnusableFolder, match="belongs to another user, root"):
        require_private(Path("/usr"))


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    with running(tmp_path) as folder:
        path = folder / "stack.json"
        content = path.rename(tmp_path / "elsewhere.json")
        path.symlink_to(content)
        assert "cannot be read" in find_stacks(tmp_path).ignored[0]
        path.unlink()
        os.mkfifo(path, 0o600)  # Nobody ever writes to it.
        assert "is not a regular file" in find_stacks(tmp_path).ignored[0]


def test_the_folder_above_may_be_named_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as folder:
        monkeypatch.chdir(tmp_path)
        assert given_folder(Path()) == given_folder(Path(".enroll")) == given_folder(folder)
    assert given_folder(Path("new")) == tmp_path / "new"
