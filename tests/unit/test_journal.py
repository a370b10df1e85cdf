"""What was submitted and not finished is found again, and nothing else is."""

import os
from pathlib import Path

import pytest

from producer.journal import Journal


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "pairs.csv"
    path.write_text("one")
    return path


def test_an_unfinished_submit_is_found_until_it_is_finished(file: Path) -> None:
    assert Journal().find(file) is None
    Journal().begin(file, "b1")
    Journal().begin(file, "b2")
    assert Journal().find(file) == "b2"
    Journal().finish([file])
    assert Journal().find(file) is None


def test_a_file_that_was_changed_is_another_submission(file: Path) -> None:
    Journal().begin(file, "b")
    file.write_text("two!")
    assert Journal().find(file) is None
    file.write_text("one")
    os.utime(file, ns=(0, 0))
    assert Journal().find(file) is None


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "\xff"])
def test_a_journal_that_cannot_be_read_is_begun_anew(file: Path, content: str) -> None:
    Journal().begin(file, "b")
    (written,) = (file.parent / "state").rglob("*.json")
    written.write_bytes(content.encode("latin-1"))
    assert Journal().find(file) is None
    Journal().begin(file, "b")
    assert Journal().find(file) == "b"


def test_a_folder_that_cannot_be_written_costs_only_the_resume(file: Path) -> None:
    (file.parent / "state").write_text("no folder")
    Journal().begin(file, "b")
    assert Journal().find(file) is None
