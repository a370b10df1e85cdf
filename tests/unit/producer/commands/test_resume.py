"""The journal finds unfinished submissions again, and nothing else."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from producer.commands import resume
from producer.commands.resume import PlanPart, ResumeJournal


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


def test_submissions_of_one_file_at_once_do_not_forget_each_other(file: Path) -> None:
    first, second = ResumeJournal(), ResumeJournal()
    first.begin(file, "b1")
    second.begin(file, "b2")
    first.finish([file])
    assert ResumeJournal().find(file) == "b2"
    second.finish([file])
    assert ResumeJournal().find(file) is None


def test_a_plan_is_found_by_all_of_its_files_in_the_order_of_the_first_time(file: Path) -> None:
    other, third = file.with_name("other.csv"), file.with_name("third.csv")
    for path in (other, third):
        path.write_text(path.name)

    def begin(submission: str, *files: Path) -> ResumeJournal:
        journal = ResumeJournal()
        for place, path in enumerate(files):
            part = PlanPart(submission, "dry run", place, len(files))
            journal.begin(path, f"{submission}-{path.stem}", part)
        return journal

    def find(*files: Path, options: str = "dry run") -> list[str]:
        return list(ResumeJournal().find_plan(files, options).values())

    begin("one", other, file)
    begin("two", file, third)
    assert find(file, other) == find(other, file) == ["one-other", "one-pairs"]
    assert find(file, third) == ["two-pairs", "two-third"]
    assert not find(file)
    assert not find(file, other, third)
    assert not find(file, other, options="snapshot")
    assert ResumeJournal().find(file) is None
    ResumeJournal().finish([file])  # It was submitted alone, and without a plan.
    begin("three", file, other)
    assert find(other, file) == ["three-pairs", "three-other"]
    third.write_text("changed")
    assert not find(file, third)
    begin("four", other, file).finish([file, other])
    assert not find(file, other)


BEGIN = """
import sys
from pathlib import Path
from producer.commands.resume import ResumeJournal

sys.stdin.readline()
for number in range(20):
    path = Path(sys.argv[1], f"{number}.csv")
    ResumeJournal().begin(path, path.stem)
    if number % 2:
        ResumeJournal().finish([path])
"""


def test_twelve_processes_at_once_lose_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folders = [tmp_path / str(number) for number in range(12)]
    for folder in folders:
        folder.mkdir()
        for number in range(20):
            (folder / f"{number}.csv").write_text("x")
    submits = [
        subprocess.Popen([sys.executable, "-c", BEGIN, str(folder)], stdin=subprocess.PIPE)
        for folder in folders
    ]
    for submit in submits:
        submit.communicate(b"go\n")
    for folder in folders:
        found = [ResumeJournal().find(folder / f"{number}.csv") for number in range(20)]
        assert found == [None if number % 2 else str(number) for number in range(20)]


def test_the_journal_of_an_earlier_version_is_read_and_taken_over(file: Path) -> None:
    state = file.parent / "state" / "enroll"
    state.mkdir(parents=True)
    other = file.with_name("other.csv")
    other.write_text("other")
    entries = {
        str(path): [batch_id, path.stat().st_size, path.stat().st_mtime_ns]
        for path, batch_id in ((file, "old"), (other, "other"))
    }
    (state / "submissions.json").write_text(json.dumps(entries))
    assert ResumeJournal().find(file) == "old"
    journal = ResumeJournal()
    journal.begin(file, "old")
    journal.finish([file])
    assert ResumeJournal().find(file) is None
    assert ResumeJournal().find(other) == "other"
    assert [path.name for path in state.iterdir()] == ["submissions"]


@pytest.mark.parametrize("entry", [5, [], ["b"], ["b", "1", 2], [None, 1, 2], {"a": 1}])
def test_a_broken_entry_of_an_earlier_version_is_skipped(file: Path, entry: Any) -> None:
    state = file.parent / "state" / "enroll"
    state.mkdir(parents=True)
    (state / "submissions.json").write_text(json.dumps({str(file): entry}))
    assert ResumeJournal().find(file) is None
    ResumeJournal().begin(file, "b")
    assert ResumeJournal().find(file) == "b"


def test_the_journal_does_not_grow_without_bound(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "MAX_ENTRIES", 5)
    for number in range(12):
        ResumeJournal().begin(file, str(number))
    assert len(list((file.parent / "state" / "enroll" / "submissions").iterdir())) == 5
    assert ResumeJournal().find(file) == "11"


def test_a_write_that_fails_leaves_the_entry_that_was_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ResumeJournal().begin(file, "b")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    ResumeJournal().begin(file, "b")
    assert ResumeJournal().find(file) == "b"


def test_files_that_are_submitted_together_are_found_in_any_order(file: Path) -> None:
    other = file.with_name("other.csv")
    other.write_text("two")
    ResumeJournal().begin((file, other), "b")
    assert ResumeJournal().find((other, file)) == "b"
    assert ResumeJournal().find(file) is None
    assert ResumeJournal().find(other) is None
    third = file.with_name("third.csv")
    third.write_text("three")
    assert ResumeJournal().find((file, other, third)) is None
    ResumeJournal().finish([(other, file)])
    assert ResumeJournal().find((file, other)) is None


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("changed", ["first.csv", "second.csv"])
def test_files_of_which_one_was_changed_are_another_submission(
    file: Path, changed: str, *, is_folder: bool
) -> None:
    folder = file.with_name("export")
    folder.mkdir()
    paths = tuple(folder / name for name in ("first.csv", "second.csv"))
    for path in paths:
        path.write_text("one")
    files = folder if is_folder else paths
    ResumeJournal().begin(files, "b")
    assert ResumeJournal().find(files) == "b"
    (folder / changed).write_text("two!")
    assert ResumeJournal().find(files) is None


def test_another_file_in_a_folder_makes_it_another_submission(file: Path) -> None:
    folder = file.with_name("export")
    folder.mkdir()
    (folder / "first.csv").write_text("one")
    ResumeJournal().begin(folder, "b")
    (folder / ".hidden").write_text("not read")
    assert ResumeJournal().find(folder) == "b"
    (folder / "second.csv").write_text("two")
    assert ResumeJournal().find(folder) is None
