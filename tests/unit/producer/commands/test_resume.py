"""The journal finds unfinished submissions again, and nothing else."""

import os
from pathlib import Path

import pytest

from producer.commands.resume import ResumeJournal


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "pairs.csv"
    path.write_text("one")
    return path


def test_an_unfinished_submit_is_found_until_it_is_finished(file: Path) -> None:
    assert ResumeJournal().find(file) is None
    ResumeJournal().begin(file, "b1")
    ResumeJournal().begin(file, "b2")
    assert ResumeJournal().find(file) == "b2"
    ResumeJournal().finish([file])
    assert ResumeJournal().find(file) is None


def test_a_file_that_was_changed_is_another_submission(file: Path) -> None:
    ResumeJournal().begin(file, "b")
    file.write_text("two!")
    assert ResumeJournal().find(file) is None
    file.write_text("one")
    os.utime(file, ns=(0, 0))
    assert ResumeJournal().find(file) is None


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "\xff"])
def test_a_journal_that_cannot_be_read_is_started_again(file: Path, content: str) -> None:
    ResumeJournal().begin(file, "b")
    (written,) = (file.parent / "state").rglob("*.json")
    written.write_bytes(content.encode("latin-1"))
    assert ResumeJournal().find(file) is None
    ResumeJournal().begin(file, "b")
    assert ResumeJournal().find(file) == "b"


def test_an_unwritable_folder_disables_only_resuming(file: Path) -> None:
    (file.parent / "state").write_text("no folder")
    ResumeJournal().begin(file, "b")
    assert ResumeJournal().find(file) is None
