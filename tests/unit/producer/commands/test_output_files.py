"""A file that a command writes is whole, or is not there."""

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import click
import pytest

from producer.commands.output_files import Output
from support.commands import REFUSED, invoke_enroll, write_lines
from support.terminals import is_harmless


def _interrupt(_file: BinaryIO) -> None:
    raise KeyboardInterrupt


def _fill_the_disk(_file: BinaryIO) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


STOPS: list[Callable[[BinaryIO], None]] = [_interrupt, _fill_the_disk]


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("before", [None, b"yesterday's"])
def test_what_stops_half_way_leaves_what_was_there(
    tmp_path: Path, stop: Callable[[BinaryIO], None], before: bytes | None
) -> None:
    path = tmp_path / "drops.csv"
    if before is not None:
        path.write_bytes(before)

    def write() -> None:
        with Output(str(path)).opened() as file:
            file.write(b"half\n" * 10_000)
            stop(file)

    with pytest.raises((KeyboardInterrupt, OSError)):
        write()
    assert [entry.name for entry in tmp_path.iterdir()] == ([] if before is None else [path.name])
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize("name", ["drops.csv", "a b;'\"\n.csv", "-", "x" * 250, "dröps\u202e.csv"])
def test_a_file_has_its_name_and_rights_once_it_is_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in (b"new", b"newer"):
        with Output(str(path)).opened() as file:
            file.write(content)
            assert not path.exists() or path.read_bytes() == b"new"
        assert path.read_bytes() == content
        path.chmod(0o640)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with Output(str(tmp_path / "link")).opened() as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_full_device_is_named() -> None:
    def write() -> None:
        with Output("/dev/full").opened() as file:
            file.write(b"x")

    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write()
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize(
    ("path", "problem"), [("", "directory"), (".", "directory"), ("no/x.csv", "No such file")]
)
def test_a_file_that_cannot_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.FileError) as caught, Output(path).opened():
        raise AssertionError
    assert problem in str(caught.value.format_message())
    assert list(tmp_path.iterdir()) == []


def test_a_check_writes_refused_lines_beside_a_file_that_stays_until_the_end(
    tmp_path: Path,
) -> None:
    path = write_lines(tmp_path / "pairs.csv", "student_id,course_id", "S1,C1", "S2")
    refused = tmp_path / "refused.csv"
    refused.write_text("yesterday's")
    done = invoke_enroll("submit", "--check", str(path), "--refused", str(refused))
    assert done.exit_code == REFUSED
    assert re.match(r"refused_line,.*\n3,", refused.read_text())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["pairs.csv", "refused.csv"]
    to_output = invoke_enroll("submit", "--check", str(path), "--refused", "-")
    assert refused.read_text() in to_output.stdout


def test_a_terminal_obeys_nothing_that_is_written_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    written = "\ufeffid,ⓝame\r\n\x1b]0;owned\x07,\u202eevil,caf".encode() + b"\xc3"
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with Output("-").opened() as file:
            for byte in (written, b"\xa9,\x9b2J\n"):
                file.write(byte)
        monkeypatch.undo()
        received = b""
        while b"2J" not in received:  # The terminal passes each write on when it likes.
            received += os.read(ours, 1000)
        shown = received.decode()
    os.close(ours)
    lines = re.split(r"[\r\n]+", shown.strip())
    assert all(map(is_harmless, lines)), shown
    assert lines == ["id,ⓝame", r"\x1b]0;owned\x07,\u202eevil,café,\x9b2J"]
