"""The files in which is recorded who was shown whose data."""

import asyncio
import json
import logging
import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.web.audit import AuditLog, default_folder
from producer.web.audit_files import AuditError, AuditFolder, Disclosure
from producer.web.problems import Refused
from support.front import MemoryFront

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
NAME = "audit-2026-11-27.jsonl"


def disclosure(student: int | str = "S1", **more: Any) -> Disclosure:
    return Disclosure("sis", "call-1", "student", (student,), 200, more)


def folder_at(path: Path, now: datetime = NOON, days: int = 400) -> AuditFolder:
    folder = AuditFolder(path, days, lambda: now)
    folder.prepare()
    return folder


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_a_line_says_who_was_shown_what_about_whom(tmp_path: Path) -> None:
    folder_at(tmp_path).write([disclosure("S1", request="r1"), disclosure(17)])
    first, second = map(json.loads, (tmp_path / NAME).read_text().splitlines())
    assert first == {
        "at": "2026-11-27T12:00:00.000Z",
        "caller": "sis",
        "call_id": "call-1",
        "what": "student",
        "whose": ["S1"],
        "status": 200,
        "request": "r1",
    }
    assert second["whose"] == [17]


@given(st.lists(st.text(), min_size=1))
def test_every_disclosure_is_one_line_of_ascii(ids: list[str]) -> None:
    for student in [*ids, "a\nb", "a\u2028b", "a\x85b", "\x1b[31m"]:
        line = disclosure(student).line(NOON)
        assert line.isascii()
        assert line[:-1].isprintable()
        assert len(line.splitlines()) == 1
        assert json.loads(line)["whose"] == [student]


def test_no_other_user_can_read_the_files(tmp_path: Path, umask: None) -> None:
    path = tmp_path / "audit"
    folder = folder_at(path)
    folder.write([disclosure()])
    assert stat.S_IMODE((path / NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    (path / NAME).chmod(0o644)
    folder.write([disclosure()])
    assert stat.S_IMODE((path / NAME).stat().st_mode) == 0o600


def test_a_new_day_has_a_new_file_and_old_files_are_removed(tmp_path: Path) -> None:
    names = ["audit-2026-11-16.jsonl", "audit-2026-11-17.jsonl", "audit-2026-11-18.jsonl"]
    others = ["notes.txt", "audit-2026-11-16.jsonl.gz", "audit-2026-99-99.jsonl"]
    for name in names + others:
        (tmp_path / name).touch()
    times = iter([NOON, NOON, NOON + timedelta(hours=11, minutes=59), NOON + timedelta(days=1)])
    folder = AuditFolder(tmp_path, 10, lambda: next(times))
    folder.prepare()
    expected = {*names[1:], *others, NAME}
    assert {path.name for path in tmp_path.iterdir()} == expected
    folder.write([disclosure()])
    folder.write([disclosure()])
    folder.write([disclosure()])
    tomorrow = tmp_path / "audit-2026-11-28.jsonl"
    assert {path.name for path in tmp_path.iterdir()} == (expected | {tomorrow.name}) - {names[1]}
    assert [len(p.read_text().splitlines()) for p in (tmp_path / NAME, tomorrow)] == [2, 1]


def test_with_zero_days_all_files_stay(tmp_path: Path) -> None:
    (tmp_path / "audit-1999-01-01.jsonl").touch()
    folder_at(tmp_path, days=0).write([disclosure()])
    assert (tmp_path / "audit-1999-01-01.jsonl").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "audit"
    victim.write_text("untouched")
    folder.mkdir()
    (folder / NAME).symlink_to(victim)
    (folder / "audit-1999-01-01.jsonl").symlink_to(victim)
    with pytest.raises(AuditError, match="cannot be recorded"):
        folder_at(folder)
    assert victim.read_text() == "untouched"
    (folder / NAME).unlink()
    folder_at(folder).write([disclosure()])
    assert victim.read_text() == "untouched"
    assert not (folder / "audit-1999-01-01.jsonl").is_symlink()


def test_a_folder_in_which_others_can_write_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for mode, is_warned_of in ((0o700, False), (0o755, False), (0o770, True), (0o777, True)):
        caplog.clear()
        tmp_path.chmod(mode)
        folder_at(tmp_path)
        assert ("Other users can remove" in caplog.text) == is_warned_of


def test_files_are_kept_for_as_long_as_a_setting_may_say(tmp_path: Path) -> None:
    (tmp_path / "audit-1999-01-01.jsonl").touch()
    folder_at(tmp_path, days=36_500).write([disclosure()])
    assert (tmp_path / "audit-1999-01-01.jsonl").exists()


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "audit")
    (tmp_path / "audit").rename(tmp_path / "moved")
    (tmp_path / "audit").symlink_to(tmp_path / "moved")
    with pytest.raises(NotADirectoryError):
        folder.write([disclosure()])


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / NAME)
    with pytest.raises(AuditError, match="cannot be recorded"):
        folder_at(tmp_path)


def test_writers_of_several_processes_share_a_file(tmp_path: Path) -> None:
    writers = [folder_at(tmp_path) for _ in range(4)]

    def write(writer: int) -> None:
        for n in range(200):
            writers[writer].write([disclosure(f"{writer}-{n}-{'x' * 200}")])

    children = []
    for writer in range(4):
        if (child := os.fork()) == 0:
            write(writer)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    students = {line["whose"][0].rpartition("-")[0] for line in lines}
    assert students == {f"{writer}-{n}" for writer in range(4) for n in range(200)}


@contextmanager
def disk_with_room(path: Path, room: int) -> Iterator[None]:
    """Let the file grow by so many bytes and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.stat().st_size if path.exists() else 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_after_a_full_disk_the_next_line_is_whole(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    folder.write([disclosure("before")])
    with disk_with_room(tmp_path / NAME, 20):
        with pytest.raises(OSError, match="No space left"):
            folder.write([disclosure("lost")])
        with pytest.raises(OSError, match="File too large"):
            folder.check()
    folder.check()
    folder.check()
    folder.write([disclosure("after")])
    before, cut, resumed, after = (tmp_path / NAME).read_text().splitlines()
    assert len(cut) == 20
    assert [json.loads(line)["whose"] for line in (before, after)] == [["before"], ["after"]]
    assert (json.loads(resumed)["what"], json.loads(resumed)["status"]) == ("resumed", 503)


EVENT = st.one_of(
    st.sampled_from(["write", "check", "start again", "folder away"]), st.integers(0, 120)
)


@given(st.lists(EVENT, max_size=12))
def test_whatever_fails_no_line_is_empty_and_what_was_written_can_be_read(
    events: list[str | int],
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path, written = Path(temporary) / "audit", []
        folder = folder_at(path)
        for number, event in enumerate(events):
            with suppress(OSError):
                if event == "start again":
                    folder = folder_at(path)
                elif event == "check":
                    folder.check()
                elif event == "folder away":
                    path.rename(path.with_name("away"))
                    try:
                        folder.check()
                    finally:
                        path.with_name("away").rename(path)
                else:
                    room = event if isinstance(event, int) else 10_000
                    with disk_with_room(path / NAME, room):
                        folder.write([disclosure(number)])
                    written.append(number)
        read = []
        for line in (path / NAME).read_text().splitlines():
            assert line
            with suppress(json.JSONDecodeError):  # Cut where the disk was full.
                read += json.loads(line)["whose"]
    # A refused line whose end alone was cut can be read as well.
    assert [number for number in read if number in written] == written


def test_calls_at_the_same_time_are_all_recorded(tmp_path: Path) -> None:
    async def record() -> None:
        audit = AuditLog(folder_at(tmp_path))
        await asyncio.gather(*(audit.record(disclosure(n)) for n in range(2_000)))
        audit.close()

    asyncio.run(record())
    lines = (tmp_path / NAME).read_text().splitlines()
    assert sorted(json.loads(line)["whose"][0] for line in lines) == list(range(2_000))


def test_what_cannot_be_written_is_refused_until_it_can_be_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit"

    async def record() -> None:
        audit = AuditLog(folder_at(path))
        path.rename(tmp_path / "away")
        with caplog.at_level(logging.ERROR):
            for attempt in (audit.record(disclosure("lost")), audit.check()):
                with pytest.raises(Refused) as refused:
                    await attempt
                assert (refused.value.status_code, refused.value.code) == (
                    503,
                    "audit_unavailable",
                )
        (tmp_path / "away").rename(path)
        await audit.check()
        await audit.record(disclosure("found"))
        audit.close()

    asyncio.run(record())
    assert caplog.messages == [
        f"Disclosures cannot be recorded in {path}: No such file or directory"
    ]
    (line,) = (path / NAME).read_text().splitlines()
    assert json.loads(line)["whose"] == ["found"]


def test_without_a_folder_the_state_folder_of_the_user_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "enroll" / "audit"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".local" / "state" / "enroll" / "audit"


# --- over HTTP ----------------------------------------------------------------------------------


@pytest.fixture
def front(tmp_path: Path) -> MemoryFront:
    front = MemoryFront({"sis": "submit,drop,lookup", "load": "submit"}, tmp_path / "audit")
    front.audit.mkdir(mode=0o700)  # type: ignore[union-attr]
    students = [{"sis_id": f"S{n}", "name": "Ada"} for n in range(1, 4)]
    front.client.submit_batch("students", students)
    front.client.submit_batch("courses", [{"sis_id": "C1"}])
    return front


def ask(student: str = "S1", course: str = "C1", **more: Any) -> dict[str, Any]:
    return {"student_id": student, "course_ids": [course], **more}


def test_results_are_recorded_with_their_status(front: MemoryFront) -> None:
    wait = {"Prefer": "wait=1"}
    for body in (ask(request_id="r"), ask("ghost"), ask("S2", request_id="r")):
        front.call("POST", "/students/enroll", "sis", json=body, headers=wait)
    front.call("POST", "/students/enroll", "sis", json=ask(request_id="r"))  # A repeat.
    front.call("POST", "/students/enroll", "sis", json=ask("S3"))  # It returns no result.
    lines = [(line["whose"], line["status"]) for line in front.recorded()]
    assert lines == [(["S1"], 200), (["ghost"], 404), (["S2"], 409), (["S1"], 200)]


def test_a_roll_is_one_short_line(front: MemoryFront) -> None:
    for n in range(1, 4):
        front.client.enroll(ask(f"S{n}"))
    keys = [s["id"] for s in front.call("GET", "/courses/C1/students", "sis").json()["students"]]
    front.call("GET", "/courses/C1/students?after=9999", "sis")
    first, last = front.recorded()
    assert (first["whose"], first["course"], first["students"]) == ([], "C1", 3)
    assert (first["first"], first["last"]) == (keys[0], keys[-1])
    assert (last["students"], last["first"]) == (0, None)


def test_a_key_is_recorded_as_it_was_asked_for(front: MemoryFront) -> None:
    student = front.client.student("S1")
    assert student is not None
    front.call("GET", f"/students/key:{student.id}", "sis")
    assert front.recorded()[0]["whose"] == [student.id]


def test_a_batch_is_recorded_if_it_shows_refusals(front: MemoryFront) -> None:
    for batch_id, student in (("good", "S1"), ("bad", "ghost")):
        front.client.submit_batch("enrollments", [ask(student)], batch_id=batch_id)
        for suffix in ("", "/events"):
            front.call("GET", f"/batches/{batch_id}{suffix}", "sis")
    front.call("GET", "/batches/bad/errors", "sis", headers={"Accept": "text/csv"})
    lines = [(line["what"], line["batch"], line["refusals"]) for line in front.recorded()]
    assert lines == [("batch", "bad", 1), ("events", "bad", 1), ("refusals", "bad", 1)]


def test_what_does_not_exist_is_not_recorded(front: MemoryFront) -> None:
    for path in ("/students/ghost", "/requests/r", "/batches/b", "/courses/C9/students"):
        assert front.call("GET", path, "sis").status_code == 404
    assert front.recorded() == []


def test_no_line_holds_a_token_or_its_hash(front: MemoryFront) -> None:
    front.call("GET", "/students/S1", "sis")
    (line,) = front.recorded()
    text = json.dumps(line)
    assert front.tokens[0].digest not in text
    assert "Bearer" not in text
    assert "Ada" not in text


def test_a_call_that_could_not_be_recorded_changes_nothing(front: MemoryFront) -> None:
    assert front.audit is not None
    front.audit.rename(front.audit.with_name("away"))
    for options in (
        {"json": ask(), "headers": {"Prefer": "wait=1"}},
        {"json": ask(request_id="r")},
    ):
        response = front.call("POST", "/students/enroll", "sis", **options)
        assert (response.status_code, response.json()["code"]) == (503, "audit_unavailable")
    assert front.client.results("S1") == []
    assert front.call("POST", "/students/enroll", "load", json=ask()).status_code == 202


def test_readiness_depends_on_the_audit_and_liveness_does_not(front: MemoryFront) -> None:
    assert front.call("GET", "/health/ready").status_code == 200
    assert front.audit is not None
    front.audit.rename(front.audit.with_name("away"))
    ready = front.call("GET", "/health/ready")
    assert (ready.status_code, ready.json()["code"]) == (503, "audit_unavailable")
    assert str(front.audit) not in ready.text
    assert front.call("GET", "/health/live").status_code == 200
