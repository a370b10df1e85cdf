"""What an operator types: batches, dead letters and retention, on the database itself."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from malformed import message
from servers import ROOT
from sqlalchemy import func, select, update

from producer.cli import enroll
from producer.schemas import Kind
from worker.batches.apply import apply_chunk
from worker.batches.status import batch_statuses
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.dead_letters.repository import list_dead_letters
from worker.messaging.quarantine import keep_message
from worker.models import (
    Course,
    DeadLetter,
    EnrollmentResult,
    LetterForm,
    LetterReason,
    Student,
    StudentCourse,
)
from worker.recovery.isolate import call_letter
from worker.repository import upsert_roster

GOOD, REMAINS, USAGE, UNREACHABLE = 0, 1, 2, 3


def start(database_url: str, *arguments: str) -> "subprocess.Popen[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ENROLL_")}
    return subprocess.Popen(
        [sys.executable, "-m", "producer", *arguments],
        env=clean | {"ENROLL_DATABASE_URL": database_url},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(url: str | Database, *arguments: str, expect: int = GOOD) -> tuple[str, str]:
    """What a command writes to standard output and to standard error."""
    variables = {"ENROLL_DATABASE_URL": url if isinstance(url, str) else url_of(url)}
    done = CliRunner().invoke(enroll, arguments, env=variables)
    assert done.exit_code == expect, done.output + repr(done.exception)
    assert isinstance(done.exception, SystemExit | None)
    return done.stdout, done.stderr


def ask(database: Database, *arguments: str, expect: int = GOOD) -> list[Any]:
    out, _ = run(database, *arguments, "--json", expect=expect)
    return [json.loads(line) for line in out.splitlines()]


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def keep_requests(database: Database, *request_ids: str, course: str = "C") -> list[int]:
    """Dead letters of single requests; their ids."""
    for request_id in request_ids:
        record = {"student_id": "S", "course_ids": [course], "request_id": request_id}
        letter = dead_letter(
            LetterForm.RECORD,
            json.dumps(record).encode(),
            LetterReason.NOT_PROCESSED,
            "Traceback ...\nValueError: it failed",
            task="enrollment.enroll",
            request_id=request_id,
        )
        keep(database, letter)
    with database.reading() as connection:
        found = list_dead_letters(connection)
    return [letter.id for letter in found if letter.request_id in request_ids]


def rows(database: Database, of: Any) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(of)) or 0


@pytest.fixture
def roster(database: Database) -> None:
    with database.writing() as connection:
        upsert_roster(connection, Student, [{"sis_id": "S"}])
        upsert_roster(connection, Course, [{"sis_id": "C"}])


HOSTILE = "a\x1b[2J\x07\u202ebidi\x9b31m [red]markup[/red] \\ ü\n"


def test_a_dead_letter_is_shown_whole_and_harms_no_terminal(database: Database) -> None:
    keep_message(database, HOSTILE.encode(), "batches", f"not JSON: {HOSTILE}")
    keep_message(database, HOSTILE.encode(), "batches", f"not JSON: {HOSTILE}")
    keep_message(database, b"\xff\xfe\x00", "lookups", "not JSON")
    text = "".join(c for c in HOSTILE if c not in "\x1b\x07")
    keep_message(database, text.encode(), "batches", "no object")
    (first, second, third) = [letter["id"] for letter in ask(database, "dead-letters", "list")]
    for command in (["list"], ["show", str(first)], ["show", str(third)]):
        out, err = run(database, "dead-letters", *command)
        assert not any(c in out + err for c in "\x1b\x07\u202e\x9b")
        assert "[red]markup[/red]" in out
    assert "\\u202ebidi\\x9b31m [red]markup[/red] \\ ü" in out  # The content of the third.
    out, _ = run(database, "dead-letters", "show", str(first))
    assert "deliveries  2\n" in out
    assert "queue batches: not JSON: a\\x1b[2J\\x07" in out
    assert "Content in base64" in out
    (whole,) = ask(database, "dead-letters", "show", str(third))
    assert whole["content"] == text
    (whole,) = ask(database, "dead-letters", "show", str(second))
    assert (whole["content_base64"], whole["bytes"]) == ("//4A", 3)
    assert whole["reason"] == "malformed"


def test_many_dead_letters_are_listed_a_page_at_a_time(database: Database) -> None:
    out, err = run(database, "dead-letters", "list")
    assert (out, err) == ("", "There are no dead letters.\n")
    kept = keep_requests(database, *(f"r{n}" for n in range(5)))
    out, err = run(database, "dead-letters", "list", "--limit", "2")
    assert "r1" in out
    assert "r2" not in out
    assert err == f"There are more: enroll dead-letters list --after {kept[1]}\n"
    page = ask(database, "dead-letters", "list", "--limit", "3", "--after", str(kept[1]))
    assert [letter["id"] for letter in page] == kept[2:]
    assert page[0]["detail"].endswith("ValueError: it failed")


def test_a_retried_letter_is_done_and_gone_and_a_hopeless_one_stays(
    database: Database, roster: None
) -> None:
    good, refused = keep_requests(database, "r1", "r2")
    keep_message(database, b"never a message", "batches", "not JSON")
    told = ask(database, "dead-letters", "retry", str(good), "999999", expect=REMAINS)
    assert told[0] == {"id": good, "retried": True, "outcome": "enrolled"}
    assert told[1]["why"].startswith("there is no dead letter 999999;")
    out, _ = run(database, "dead-letters", "retry", "--all", expect=REMAINS)
    assert out.splitlines()[0] == f"{refused}: enrolled"
    assert "not retried: it still cannot be understood: the message is not JSON" in out
    assert (rows(database, StudentCourse), rows(database, DeadLetter)) == (1, 1)
    assert rows(database, EnrollmentResult) == 2


def test_all_means_all_that_were_there_however_many(database: Database, roster: None) -> None:
    letters = [
        dead_letter(LetterForm.MESSAGE, b"%d" % n, LetterReason.MALFORMED, "because")
        for n in range(1100)
    ]
    keep(database, *letters)
    out, _ = run(database, "dead-letters", "retry", "--all", expect=REMAINS)
    assert len(out.splitlines()) == 1100


def test_a_discarded_letter_is_gone(database: Database) -> None:
    first, second = keep_requests(database, "r1", "r2")
    told = ask(database, "dead-letters", "discard", str(first), str(first), expect=REMAINS)
    assert told == [{"id": first, "discarded": True}, {"id": first, "discarded": False}]
    assert [letter["id"] for letter in ask(database, "dead-letters", "list")] == [second]
    run(database, "dead-letters", "show", str(first), expect=REMAINS)


def test_of_two_operators_at_once_only_one_retries_a_letter(
    database: Database, roster: None
) -> None:
    kept = keep_requests(database, *(f"r{n}" for n in range(12)))
    command = ["dead-letters", "retry", *map(str, kept), "--json"]
    operators = [start(url_of(database), *command) for _ in range(3)]
    told = [json.loads(line) for one in operators for line in one.communicate()[0].splitlines()]
    done = [one for one in told if one["retried"]]
    assert sorted(one["id"] for one in done) == kept
    assert {one["outcome"] for one in done} == {"enrolled"}
    others = {one["why"] for one in told if not one["retried"]}
    assert all(why.startswith("there is no dead letter") for why in others), others
    assert len(told) == 3 * len(kept)
    assert rows(database, EnrollmentResult) == len(kept)
    assert rows(database, DeadLetter) == 0


def test_what_is_old_is_counted_and_then_removed(database: Database, roster: None) -> None:
    keep_requests(database, "r1", "r2")
    run(database, "dead-letters", "retry", "--all")
    with database.writing() as connection:
        aged = update(EnrollmentResult).where(EnrollmentResult.request_id == "r1")
        connection.execute(aged.values(completed_at=datetime(2020, 2, 2, tzinfo=UTC)))
    out, err = run(database, "prune", "--older-than", "400d", "--dry-run")
    assert err.startswith("Counting what is older than 20")
    assert "would be removed" in out
    for _ in range(2):
        (told,) = ask(database, "prune", "--older-than", "400d", "--dry-run")
        assert (told["dry_run"], told["removed"]["results"]) == (True, 1)
    out, err = run(database, "prune", "--older-than", "57w")
    assert "Removing" in err
    assert ["results", "1"] in [line.split() for line in out.splitlines()]
    assert rows(database, EnrollmentResult) == 1
    assert rows(database, StudentCourse) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prune"], "--older-than"),
        (["prune", "--older-than", "1y"], "'1y' is not a valid age"),
        (["dead-letters", "retry"], "--all"),
        (["dead-letters", "retry", "1", "--all"], "--all"),
        (["dead-letters", "discard"], "ID..."),
        (["dead-letters", "show", "0"], "0"),
        (["dead-letters", "list", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_usage_is_said(
    new_database: Callable[[str], str], arguments: list[str], words: str
) -> None:
    assert words in run(new_database("sqlite"), *arguments, expect=USAGE)[1]


@pytest.mark.parametrize(
    ("url", "words", "code"),
    [
        ("", "ENROLL_DATABASE_URL: is not set", USAGE),
        ("mysql://u:hunter2@h/d", "ENROLL_DATABASE_URL: must look like", USAGE),
        ("sqlite:///{folder}/new.db", "python -m worker.migrate", USAGE),
        ("postgresql://u:hunter2@127.0.0.1:1/d", "cannot be used: ", UNREACHABLE),
        ("sqlite:////nowhere/at/all.db", "cannot be used: unable to open", UNREACHABLE),
    ],
)
def test_a_database_that_cannot_be_used_is_said_without_its_password(
    tmp_path: Path, url: str, words: str, code: int
) -> None:
    out, err = run(url.format(folder=tmp_path), "dead-letters", "list", expect=code)
    assert out == ""
    assert words in err
    assert "hunter2" not in err


def test_batches_are_listed_with_what_they_lack(database: Database, roster: None) -> None:
    assert run(database, "batches") == ("", "There are no batches.\n")

    def apply(batch_id: str, number: int, *, last: bool) -> None:
        record = {"student_id": "S", "course_ids": ["C" if number else "NOPE"]}
        chunk = {"batch_id": batch_id, "number": number, "last": last, "records": [record]}
        apply_chunk(database, Kind.ENROLLMENTS, chunk)

    for number in (0, 1):
        apply("whole", number, last=number == 1)
    apply("gap", 2, last=True)
    apply("cut off", 0, last=False)
    apply_two_contents(database, "two contents")
    refused = {"batch_id": "refused", "number": 0, "records": 5}
    raw = json.dumps(message([[refused], {}, {}], headers__task="enrollment.enroll_batch"))
    keep_message(database, raw.encode(), "batches", "records: must be a list")
    found = {line["batch"]: line for line in ask(database, "batches")}
    assert {name: line["state"] for name, line in found.items()} == {
        "two contents": "stalled",
        "cut off": "running",
        "gap": "running",
        "whole": "done",
        "refused": "stalled",
    }
    statuses = batch_statuses(database, [*found], {}, refusals=False)
    assert [status.state for status in statuses] == [line["state"] for line in found.values()]
    assert (found["gap"]["applied"], found["gap"]["of"]) == (1, 3)
    assert (found["cut off"]["applied"], found["cut off"]["of"]) == (1, None)
    assert (found["whole"]["rows"], found["whole"]["rejected"]) == (2, 1)
    assert (found["refused"]["kind"], found["refused"]["dead_letters"]) == (None, 1)
    left = ask(database, "batches", "--unfinished")
    assert [line["batch"] for line in left] == ["two contents", "cut off", "gap", "refused"]
    assert ask(database, "batches", "--unfinished", "--limit", "2") == left[:2]
    out, _ = run(database, "batches", "--limit", "1")
    assert [line.split()[0] for line in out.splitlines()] == ["batch", "two"]


def apply_two_contents(database: Database, batch_id: str) -> None:
    """Two files under one name fill each other's numbers; a chunk of one is a dead letter."""
    record = {"student_id": "S", "course_ids": ["C"]}
    first = {"batch_id": batch_id, "number": 0, "records": [record]}
    before = {"requests": 3, "rows": 3}
    last = {"batch_id": batch_id, "number": 1, "last": True, "before": before, "records": [record]}
    for chunk in (first, last):
        apply_chunk(database, Kind.ENROLLMENTS, chunk)
    other = {"batch_id": batch_id, "number": 0, "records": [record] * 3}
    reason = "another chunk was applied under its batch and number"
    letter = call_letter("enrollment.enroll_batch", "t", [other], {}, LetterReason.CONFLICT, reason)
    keep(database, letter)
